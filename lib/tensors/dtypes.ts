/**
 * The kinds of numbers that checkpoints hold, and how each becomes float32, the one kind the kit computes with.
 *
 * @module
 */
import { fromFloat16 } from "../runtime/float16.ts";

/** Kinds of numbers in a tensor file. */
export type TensorDtype =
  | "float64"
  | "float32"
  | "float16"
  | "bfloat16"
  | "int64"
  | "int32"
  | "int16"
  | "int8"
  | "uint8"
  | "bool";

/** Bytes of one number of each kind. */
export const bytesPerNumber: Readonly<Record<TensorDtype, number>> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** Whether a name is that of a kind of number. */
export function isTensorDtype(name: string): name is TensorDtype {
  return Object.hasOwn(bytesPerNumber, name);
}

/**
 * Numbers as float32: float64 and wide integers round to the nearest, the others widen exactly, bool is 0 or 1.
 * Float32 numbers are a view of `bytes`.
 *
 * @param bytes Little-endian numbers, at the start of their buffer.
 */
export function widen(bytes: Uint8Array<ArrayBuffer>, dtype: TensorDtype): Float32Array<ArrayBuffer> {
  const { buffer, byteLength } = bytes;
  const nNumbers = byteLength / bytesPerNumber[dtype];
  switch (dtype) {
    case "float32":
      return new Float32Array(buffer, 0, nNumbers);
    case "float64":
      return new Float32Array(new Float64Array(buffer, 0, nNumbers));
    case "float16":
      return fromFloat16(new Uint16Array(buffer, 0, nNumbers));
    case "bfloat16": {
      // The upper half of a float32.
      const bits = new Uint32Array(nNumbers);
      new Uint16Array(buffer, 0, nNumbers).forEach((upper, i) => bits[i] = upper << 16);
      return new Float32Array(bits.buffer);
    }
    case "int64": {
      const numbers = new BigInt64Array(buffer, 0, nNumbers);
      return Float32Array.from({ length: nNumbers }, (_, i) => roundOnce(numbers[i]));
    }
    case "int32":
      return new Float32Array(new Int32Array(buffer, 0, nNumbers));
    case "int16":
      return new Float32Array(new Int16Array(buffer, 0, nNumbers));
    case "int8":
      return new Float32Array(new Int8Array(buffer, 0, nNumbers));
    case "uint8":
      return new Float32Array(bytes);
    case "bool":
      return mapNumbers(bytes, (byte) => byte === 0 ? 0 : 1);
  }
}

/** Turns the bytes of each number around, in place. */
export function swapBytes(bytes: Uint8Array, dtype: TensorDtype): void {
  const width = bytesPerNumber[dtype];
  for (let i = 0; i + width <= bytes.length; i += width) bytes.subarray(i, i + width).reverse();
}

/** A double that rounds to the same float32 as `integer` does: what a double cannot hold goes into its last bit. */
function roundOnce(integer: bigint): number {
  const number = Number(integer);
  if (Number.isSafeInteger(number)) return number;
  return Number((integer >> 11n) | (integer & 0x7ffn ? 1n : 0n)) * 2048;
}

function mapNumbers(numbers: Uint8Array | Uint16Array, map: (value: number) => number): Float32Array<ArrayBuffer> {
  const mapped = new Float32Array(numbers.length);
  for (let i = 0; i < numbers.length; i++) mapped[i] = map(numbers[i]);
  return mapped;
}
