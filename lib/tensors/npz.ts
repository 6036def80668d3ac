/**
 * NumPy's `.npz` files: a zip archive with one `.npy` entry an array. Arrays are read from where they lie in the file,
 * so entries must be uncompressed, as `numpy.savez` writes them.
 * Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 *
 * @module
 */
import { type ByteSource, damaged, refused } from "./byte_source.ts";
import { bytesPerNumber, type TensorDtype } from "./dtypes.ts";
import { type NpyHeader, readNpyHeader } from "./npy.ts";
import { checkStoredTensor, rowMajorStrides, type StoredTensor, type TensorLayout } from "./tensor_layout.ts";
import { locateZipEntry, type ZipEntry } from "./zip.ts";

const dtypes: Readonly<Record<string, TensorDtype>> = {
  f8: "float64",
  f4: "float32",
  f2: "float16",
  i8: "int64",
  i4: "int32",
  i2: "int16",
  i1: "int8",
  u1: "uint8",
  b1: "bool",
};

// Headers hold a dtype and a shape; NumPy itself refuses longer ones.
const MAX_HEADER_BYTES = 10_000;

/**
 * Layout of an archive of arrays.
 *
 * @throws {SyntaxError} If it is damaged, or holds no arrays.
 * @throws {TypeError} If an array is compressed, or of a kind that is not supported.
 */
export async function readNpzLayout(
  source: ByteSource,
  entries: ReadonlyMap<string, ZipEntry>,
): Promise<TensorLayout> {
  const tensors = new Map<string, StoredTensor>();
  const values = new Map<string, unknown>();
  for (const entry of entries.values()) {
    if (!entry.name.endsWith(".npy")) continue;
    if (entry.isDeflated) {
      throw refused(source.name, `zip entry ${entry.name} must be stored as it is, it is compressed: use numpy.savez`);
    }
    const name = entry.name.slice(0, -".npy".length);
    const found = await readArrayHeader(source, entry);
    if ("text" in found) values.set(name, found.text);
    else tensors.set(name, found);
  }
  if (tensors.size + values.size === 0) {
    throw damaged(source.name, "a zip archive must hold the data.pkl of torch or the npy arrays of NumPy");
  }
  return { format: "npz", tensors, values };
}

/** Where an array's numbers are, or the text that it is: SciPy names the format of its sparse matrices so. */
async function readArrayHeader(source: ByteSource, entry: ZipEntry): Promise<StoredTensor | { text: string }> {
  const position = await locateZipEntry(source, entry);
  const bytes = await source.read(position, Math.min(entry.length, 12 + MAX_HEADER_BYTES));
  let header: NpyHeader;
  try {
    header = readNpyHeader(bytes);
  } catch (error) {
    const reason = (error as Error).message.replace(/^Cannot read npy: /, "");
    throw damaged(source.name, `array ${entry.name} must be whole: ${reason}`);
  }
  const { descr, shape, isFortran, length } = header;
  const kind = descr.slice(1);
  const nCharacters = /^S(\d{1,4})$/.exec(kind)?.[1];
  if (nCharacters !== undefined && shape.length === 0) {
    const text = await source.read(position + length, Number(nCharacters));
    return { text: new TextDecoder().decode(text).replace(/\0+$/, "") };
  }
  if (!/^[<>|=]/.test(descr) || !Object.hasOwn(dtypes, kind)) {
    const kinds = Object.keys(dtypes).join(", ");
    throw refused(source.name, `descr of array ${entry.name} must be one of ${kinds}, current value is ${descr}`);
  }
  const dtype = dtypes[kind];
  return checkStoredTensor({
    dtype,
    shape,
    strides: isFortran ? rowMajorStrides(shape.toReversed()).reverse() : rowMajorStrides(shape),
    position: position + length,
    bigEndian: descr[0] === ">" && bytesPerNumber[dtype] > 1,
  }, { file: source.name, name: entry.name, storage: { position: position + length, length: entry.length - length } });
}
