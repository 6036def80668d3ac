/**
 * Writes NumPy's `.npy` files row by row, so that an array may be larger than memory: how many rows there are is known,
 * and written, at the end. Nothing half-written is ever found under the file's name.
 * Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 *
 * @module
 */
import { toFloat16 } from "../runtime/float16.ts";
import { writeWhole } from "../runtime/partial_file.ts";

/** Kinds of numbers that are written. */
export type NpyWriterDtype = "float32" | "float16";

/** Options of {@linkcode writeNpy}. */
export interface WriteNpyOptions {
  /** Shape of a row: all axes but the first. */
  rowShape: readonly number[];
  /**
   * Kind of number. Float16 rounds to the nearest, to the even one of two that are as near; above 65,504 it is infinite.
   *
   * @default {"float32"}
   */
  dtype?: NpyWriterDtype;
  /** Stops between two writes; what was there before stays. */
  signal?: AbortSignal;
}

/** Appends whole rows. */
export type AppendRows = (rows: Float32Array) => Promise<void>;

const descrs = { float32: "<f4", float16: "<f2" } as const;
const ALIGNMENT = 64;
// No file has more rows than this many digits can say.
const MAX_DIGITS = 16;

/** Bytes that an array takes on disk, without its header. */
export function npyBytes(shape: readonly number[], dtype: NpyWriterDtype = "float32"): number {
  return shape.reduce((product, size) => product * size, dtype === "float32" ? 4 : 2);
}

/**
 * Header of a little-endian array in C order, its length a multiple of 64 bytes.
 *
 * @param options The kind of number as NumPy names it, and the least length, in bytes, that it is filled up to.
 */
export function npyHeader(shape: readonly number[], options: { descr: string; length?: number }): Uint8Array {
  const { descr, length = 0 } = options;
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const total = Math.max(length, Math.ceil((text.length + 11) / ALIGNMENT) * ALIGNMENT);
  const bytes = new TextEncoder().encode(`\x00NUMPY\x01\x00\x00\x00${text.padEnd(total - 11)}\n`);
  bytes[0] = 0x93;
  new DataView(bytes.buffer).setUint16(8, total - 10, true);
  return bytes;
}

/**
 * Writes an array: `fill` is called with a function that appends rows.
 *
 * @throws {RangeError} If rows are not whole.
 * @throws {Error} If it cannot be written: the folder is missing or not writable, or the disk is full.
 */
export async function writeNpy(
  path: string,
  fill: (append: AppendRows) => Promise<void>,
  options: WriteNpyOptions,
): Promise<void> {
  const { rowShape, dtype = "float32", signal } = options;
  const descr = descrs[dtype];
  const rowLength = rowShape.reduce((product, size) => product * size, 1);
  const start = npyHeader([10 ** MAX_DIGITS - 1, ...rowShape], { descr }).length;
  await writeWhole(path, async (file) => {
    let nRows = 0;
    let position = start;
    await fill(async (rows) => {
      if (rows.length % rowLength !== 0) {
        throw new RangeError(
          `Cannot write ${path}: rows must hold ${rowLength} numbers each, current length is ${rows.length}`,
        );
      }
      const numbers = dtype === "float32" ? rows : toFloat16(rows);
      const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
      await file.write(bytes, position);
      position += bytes.length;
      nRows += rows.length / rowLength;
    });
    await file.write(npyHeader([nRows, ...rowShape], { descr, length: start }), 0);
  }, { signal });
}
