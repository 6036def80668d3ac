/**
 * Writes the pickles of PyTorch's files, protocol 2: dicts, plain values, and tensors that are views of storages. They
 * name three globals and no other, so that `torch.load(weights_only=True)` takes them.
 * Opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 *
 * @module
 */

/** A tensor as a pickle describes it; its numbers are elsewhere. Sizes and strides are in numbers. */
export interface PickledTensor {
  readonly storageKey: string;
  /** Length of the storage. */
  readonly storageLength: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** A dict. */
export interface PickledDict {
  readonly entries: readonly (readonly [key: string, value: PickledValue])[];
  /** Whether it is an `OrderedDict`, as state dicts are. */
  readonly isOrdered: boolean;
}

/** What {@linkcode writePickle} takes. Numbers that are integers become Python's integers. */
export type PickledValue = PickledTensor | PickledDict | number | string | boolean | null;

const PROTOCOL = "\x80\x02";
const STOP = ".";

/**
 * A pickle of a value.
 *
 * @throws {RangeError} If an integer is beyond 2^53.
 */
export function writePickle(value: PickledValue): Uint8Array {
  // Opcodes are written as characters, each of them a byte.
  return Uint8Array.from(`${PROTOCOL}${pickled(value)}${STOP}`, (character) => character.charCodeAt(0));
}

function pickled(value: PickledValue): string {
  if (value === null) return "N";
  if (typeof value === "boolean") return value ? "\x88" : "\x89";
  if (typeof value === "number") return Number.isInteger(value) ? integer(value) : `G${bigEndianDouble(value)}`;
  if (typeof value === "string") return text(value);
  return "entries" in value ? dict(value) : tensor(value);
}

function dict({ entries, isOrdered }: PickledDict): string {
  const items = entries.map(([key, value]) => text(key) + pickled(value)).join("");
  const empty = isOrdered ? "ccollections\nOrderedDict\n)R" : "}";
  return items === "" ? empty : `${empty}(${items}u`;
}

function tensor({ storageKey, storageLength, shape, strides }: PickledTensor): string {
  const storage = `(${text("storage")}ctorch\nFloatStorage\n${text(storageKey)}${text("cpu")}${
    integer(storageLength)
  }tQ`;
  const offset = integer(0);
  const requiresGrad = "\x89";
  const hooks = "ccollections\nOrderedDict\n)R";
  return `ctorch._utils\n_rebuild_tensor_v2\n(${storage}${offset}${tuple(shape)}${
    tuple(strides)
  }${requiresGrad}${hooks}tR`;
}

function tuple(values: readonly number[]): string {
  return values.length === 0 ? ")" : `(${values.map(integer).join("")}t`;
}

function integer(value: number): string {
  if (!Number.isSafeInteger(value)) {
    throw new RangeError(`Cannot write pickle: integers must be within 2^53, current value is ${value}`);
  }
  if (value >= 0 && value < 0x100) return `K${String.fromCharCode(value)}`;
  if (value >= -(2 ** 31) && value < 2 ** 31) return `J${littleEndian(BigInt(value), 4)}`;
  return `\x8a\x08${littleEndian(BigInt(value), 8)}`;
}

function text(value: string): string {
  const bytes = new TextEncoder().encode(value);
  return `X${littleEndian(BigInt(bytes.length), 4)}${characters(bytes)}`;
}

function littleEndian(value: bigint, length: 4 | 8): string {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, value, true);
  return characters(bytes.subarray(0, length));
}

function bigEndianDouble(value: number): string {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value);
  return characters(bytes);
}

function characters(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}
