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

// Name that the format keeps for text about the file.
const METADATA_NAME = "__metadata__";

/**
 * Bytes of a safetensors file. The same tensors give the same bytes.
 *
 * @param tensors By name, written in this order.
 * @throws {RangeError} If a shape does not agree with its numbers, or a name is reserved.
 */
export function writeSafetensors(tensors: Readonly<Record<string, NamedTensor>>): Uint8Array {
  let end = 0;
  const entries = Object.entries(tensors).map(([name, { shape, data }]) => {
    if (name === METADATA_NAME) throw new RangeError(`Cannot write tensor ${name}: the name must not be reserved`);
    const nNumbers = countNumbers(shape);
    if (nNumbers !== data.length) {
      throw new RangeError(
        `Cannot write tensor ${name}: shape [${shape}] must hold ${nNumbers} numbers, current number is ${data.length}`,
      );
    }
    return [name, { dtype: "F32", shape, data_offsets: [end, end += data.byteLength] }];
  });
  // Made of entries, so that no name can mean something to the language.
  const header = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  // Numbers begin at a multiple of 8 bytes.
  const headerLength = Math.ceil(header.length / 8) * 8;
  const bytes = new Uint8Array(8 + headerLength + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength), true);
  bytes.fill(0x20, 8, 8 + headerLength);
  bytes.set(header, 8);
  let position = 8 + headerLength;
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
  let header: Record<string, { dtype?: unknown; shape?: unknown; data_offsets?: unknown } | null> | null;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + headerLength)));
  } catch {
    return fail("the header must be JSON");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    return fail("the header must be a JSON object");
  }
  const tensors: [string, NamedTensor][] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === METADATA_NAME) continue;
    if (typeof entry !== "object" || entry === null) return fail(`tensor ${name} must be a JSON object`);
    const { dtype, shape, data_offsets: offsets } = entry;
    if (dtype !== "F32") {
      throw new TypeError(`Cannot read safetensors: dtype of tensor ${name} must be F32, current value is ${dtype}`);
    }
    if (!isSizes(shape) || !isSizes(offsets) || offsets.length !== 2) {
      return fail(`tensor ${name} must have a shape and two offsets`);
    }
    const nNumbers = countNumbers(shape);
    const [start, end] = offsets.map((offset) => 8 + headerLength + offset);
    if (end - start !== 4 * nNumbers || end > bytes.length) {
      fail(
        `tensor ${name} of shape [${shape}] must lie within the file, its bytes are ${start} to ${end} of ${bytes.length}`,
      );
    }
    tensors.push([name, { shape, data: new Float32Array(new Uint8Array(bytes.subarray(start, end)).buffer) }]);
  }
  return Object.fromEntries(tensors);
}

function countNumbers(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}
