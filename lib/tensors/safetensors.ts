/**
 * Reads and writes safetensors: named tensors of float32 numbers behind a JSON header. Files of other kinds of numbers,
 * and files too large to read whole, are opened by their layout.
 * Format: https://github.com/huggingface/safetensors#format
 *
 * @module
 */
import { type ByteSource, damaged, refused } from "./byte_source.ts";
import { bytesPerNumber, type TensorDtype } from "./dtypes.ts";
import { checkStoredTensor, countNumbers, rowMajorStrides, type TensorLayout } from "./tensor_layout.ts";

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
  const context = { file: "safetensors", size: bytes.length, start: 0 };
  const end = headerEnd(bytes, context);
  const { tensors } = parseHeader(bytes.subarray(8, end), { ...context, end, dtypes: { F32: "float32" } });
  const read = tensors.map(({ name, shape, position, length }): [string, NamedTensor] => {
    return [name, {
      shape,
      data: new Float32Array(new Uint8Array(bytes.subarray(position, position + length)).buffer),
    }];
  });
  return Object.fromEntries(read);
}

/** Whether a file's first nine bytes are those of safetensors: a length below 4 GiB, then the brace of the header. */
export function looksLikeSafetensors(head: Uint8Array): boolean {
  return head.length >= 9 && head[8] === 0x7b && head.subarray(4, 8).every((byte) => byte === 0);
}

/**
 * Layout of the safetensors that begin at byte `start` of a file, of which the header alone is read.
 *
 * @throws {SyntaxError} If they are damaged or cut short.
 * @throws {TypeError} If a tensor holds another kind of numbers than {@linkcode TensorDtype} lists.
 */
export async function readSafetensorsLayout(source: ByteSource, { start }: { start: number }): Promise<TensorLayout> {
  const context = { file: source.name, size: source.size, start };
  const end = headerEnd(await source.read(start, Math.min(8, source.size - start)), context);
  const header = await source.read(start + 8, end - start - 8);
  const { tensors, metadata } = parseHeader(header, { ...context, end, dtypes });
  return {
    format: "safetensors",
    tensors: new Map(tensors.map(({ name, dtype, shape, position, length }) => {
      const tensor = { dtype, shape, strides: rowMajorStrides(shape), position, bigEndian: false };
      return [name, checkStoredTensor(tensor, { file: source.name, name, storage: { position, length } })];
    })),
    values: new Map(metadata.map(([key, text]) => [`${METADATA_NAME}.${key}`, text])),
  };
}

const dtypes: Readonly<Record<string, TensorDtype>> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I64: "int64",
  I32: "int32",
  I16: "int16",
  I8: "int8",
  U8: "uint8",
  BOOL: "bool",
};

/** What error messages call the file, its size, and where in it the safetensors begin. */
interface HeaderContext {
  readonly file: string;
  readonly size: number;
  readonly start: number;
}

/** Where the header ends and the numbers begin, by the length that it follows. */
function headerEnd(bytes: Uint8Array, { file, size, start }: HeaderContext): number {
  if (bytes.length < 8) throw damaged(file, `the file must hold a header, its length is ${bytes.length} bytes`);
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES || start + 8 + length > size) {
    throw damaged(file, `the header must lie within the file, its length is given as ${length} bytes of ${size}`);
  }
  return start + 8 + length;
}

interface HeaderTensor {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly position: number;
  readonly length: number;
}

function parseHeader(
  bytes: Uint8Array,
  { file, size, end, dtypes }: HeaderContext & { end: number; dtypes: Readonly<Record<string, TensorDtype>> },
): { tensors: HeaderTensor[]; metadata: [string, unknown][] } {
  let header: Record<string, { dtype?: unknown; shape?: unknown; data_offsets?: unknown } | null> | null;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw damaged(file, "the header must be JSON");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw damaged(file, "the header must be a JSON object");
  }
  const tensors: HeaderTensor[] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === METADATA_NAME) continue;
    if (typeof entry !== "object" || entry === null) throw damaged(file, `tensor ${name} must be a JSON object`);
    const { dtype, shape, data_offsets: offsets } = entry;
    if (typeof dtype !== "string" || !Object.hasOwn(dtypes, dtype)) {
      const allowed = Object.keys(dtypes);
      const required = allowed.length === 1 ? allowed[0] : `one of ${allowed.join(", ")}`;
      throw refused(file, `dtype of tensor ${name} must be ${required}, current value is ${dtype}`);
    }
    if (!isSizes(shape) || !isSizes(offsets) || offsets.length !== 2) {
      throw damaged(file, `tensor ${name} must have a shape and two offsets`);
    }
    const [first, last] = offsets.map((offset) => end + offset);
    if (last - first !== bytesPerNumber[dtypes[dtype]] * countNumbers(shape) || last > size) {
      throw damaged(
        file,
        `tensor ${name} of shape [${shape}] must lie within the file, its bytes are ${first} to ${last} of ${size}`,
      );
    }
    tensors.push({ name, dtype: dtypes[dtype], shape, position: first, length: last - first });
  }
  return { tensors, metadata: Object.entries(header[METADATA_NAME] ?? {}) };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}
