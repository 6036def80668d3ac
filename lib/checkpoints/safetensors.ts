/**
 * Reads and writes safetensors: named tensors of float32 numbers behind a JSON header.
 * Format: https://github.com/huggingface/safetensors#format
 *
 * @module
 */

/** One tensor. */
export interface NamedTensor {
  readonly shape: readonly number[];
  /** Row-major numbers. */
  readonly data: Float32Array;
}

// The format's own limit on the header.
const MAX_HEADER_BYTES = 100_000_000;

/**
 * Bytes of a safetensors file. The same tensors give the same bytes.
 *
 * @param tensors By name, written in this order.
 */
export function writeSafetensors(tensors: Readonly<Record<string, NamedTensor>>): Uint8Array {
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape, data_offsets: [end, end += data.byteLength] };
  }
  let text = JSON.stringify(header);
  // Numbers begin at a multiple of 8 bytes.
  text += " ".repeat((8 - (text.length % 8)) % 8);
  const bytes = new Uint8Array(8 + text.length + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(new TextEncoder().encode(text), 8);
  let position = 8 + text.length;
  for (const { data } of Object.values(tensors)) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
    position += data.byteLength;
  }
  return bytes;
}

/**
 * Reads the tensors of a safetensors file.
 *
 * @throws {SyntaxError} If the bytes are not safetensors, or are cut short.
 * @throws {TypeError} If a tensor does not hold float32 numbers.
 */
export function readSafetensors(bytes: Uint8Array): Record<string, NamedTensor> {
  const fail = (required: string): never => {
    throw new SyntaxError(`Cannot read safetensors: ${required}`);
  };
  if (bytes.length < 8) fail(`the file must hold a header, its length is ${bytes.length} bytes`);
  const headerLength = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (headerLength > MAX_HEADER_BYTES || 8 + headerLength > bytes.length) {
    fail(`the header must lie within the file, its length is given as ${headerLength} bytes of ${bytes.length}`);
  }
  let header: Record<string, { dtype?: unknown; shape?: unknown; data_offsets?: unknown }>;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + headerLength)));
  } catch {
    return fail("the header must be JSON");
  }
  const tensors: Record<string, NamedTensor> = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: offsets } = entry;
    if (dtype !== "F32") {
      throw new TypeError(`Cannot read tensor ${name}: dtype must be F32, current value is ${dtype}`);
    }
    if (!isSizes(shape) || !isSizes(offsets) || offsets.length !== 2) {
      return fail(`tensor ${name} must have a shape and two offsets`);
    }
    const nNumbers = shape.reduce((product, size) => product * size, 1);
    const [start, end] = offsets.map((offset) => 8 + headerLength + offset);
    if (end - start !== 4 * nNumbers || end > bytes.length) {
      fail(
        `tensor ${name} of shape [${shape}] must lie within the file, its bytes are ${start} to ${end} of ${bytes.length}`,
      );
    }
    tensors[name] = { shape, data: new Float32Array(new Uint8Array(bytes.subarray(start, end)).buffer) };
  }
  return tensors;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}
