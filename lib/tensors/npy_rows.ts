/**
 * Reads an `.npy` file by rows, so that it may be larger than memory: floats of any width, in either byte order and
 * either memory order (each row of a Fortran array lies scattered, so those are slower).
 * Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 *
 * @module
 */
import { type ByteSource, damaged, openByteSource, refused } from "./byte_source.ts";
import type { TensorDtype } from "./dtypes.ts";
import { type NpyHeader, readNpyHeader } from "./npy.ts";
import { checkStoredTensor, readRowsOf, rowMajorStrides, type StoredTensor } from "./tensor_layout.ts";

/** An open array. */
export interface NpyRows {
  readonly shape: readonly number[];
  /**
   * Rows `first` to `first + count` along the first axis as float32, row-major.
   *
   * @throws {RangeError} If it has no such rows.
   */
  readRows(options: { first: number; count: number }): Promise<Float32Array>;
  close(): Promise<void>;
}

const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];

// NumPy itself refuses longer headers.
const MAX_HEADER_BYTES = 12 + 10_000;

const dtypes: Readonly<Record<string, TensorDtype>> = { f2: "float16", f4: "float32", f8: "float64" };

/** Whether a file begins as `.npy` files do. */
export async function isNpyFile(path: string): Promise<boolean> {
  const source = await openByteSource(path);
  try {
    const head = await source.read(0, Math.min(magic.length, source.size));
    return magic.every((byte, i) => head[i] === byte);
  } finally {
    await source.close();
  }
}

/**
 * Opens an array.
 *
 * @throws {SyntaxError} If it is damaged, or cut short.
 * @throws {TypeError} If it holds other than floats.
 */
export async function openNpyRows(path: string): Promise<NpyRows> {
  const source = await openByteSource(path);
  try {
    const tensor = await locate(source);
    return {
      shape: tensor.shape,
      readRows: (rows) => readRowsOf(source, tensor, { name: "array", ...rows }),
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function locate(source: ByteSource): Promise<StoredTensor> {
  let header: NpyHeader;
  try {
    header = readNpyHeader(await source.read(0, Math.min(source.size, MAX_HEADER_BYTES)));
  } catch (error) {
    throw damaged(source.name, (error as Error).message.replace(/^Cannot read npy: /, ""), { cause: error });
  }
  const { descr, shape, isFortran, length: position } = header;
  const kind = descr.slice(1);
  if (!/^[<>=]/.test(descr) || !Object.hasOwn(dtypes, kind)) {
    throw refused(source.name, `descr must be one of <f2, <f4, <f8, >f2, >f4, >f8, current value is ${descr}`);
  }
  return checkStoredTensor({
    dtype: dtypes[kind],
    shape,
    strides: isFortran ? rowMajorStrides(shape.toReversed()).reverse() : rowMajorStrides(shape),
    position,
    bigEndian: descr[0] === ">",
  }, { file: source.name, name: "array", storage: { position, length: source.size - position } });
}
