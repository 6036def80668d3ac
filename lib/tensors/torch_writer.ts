/**
 * Writes files that `torch.load` opens: a dict of float32 tensors and plain values, laid out as `torch.save` does since
 * PyTorch 1.6. Numbers go to the file as they are, so that a checkpoint is written in little more memory than it is held
 * in.
 * Format: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
 *
 * @module
 */
import { type PartialFile, writeWhole } from "../runtime/partial_file.ts";
import { type PickledValue, writePickle } from "./pickle_writer.ts";
import { countNumbers, rowMajorStrides } from "./tensor_layout.ts";
import { writeZip, type ZipSource } from "./zip_writer.ts";

/** A tensor for a file. */
export interface TorchTensorSource {
  readonly shape: readonly number[];
  /** Its numbers, row-major. */
  readonly data: Float32Array;
  /**
   * Whether the file holds the numbers column by column, with strides that say so. Only for matrices.
   *
   * @default {false}
   */
  readonly isColumnMajor?: boolean;
}

/** A dict for a file; as a `Map` it becomes an `OrderedDict`, as state dicts are. */
export type TorchDictSource = { readonly [name: string]: TorchValue } | ReadonlyMap<string, TorchValue>;

/** What a file of PyTorch can hold here. */
export type TorchValue = TorchTensorSource | TorchDictSource | number | string | boolean | null;

/** Options of {@linkcode writeTorchFile}. */
export interface WriteTorchOptions {
  /**
   * Line of text before the archive, as saev's checkpoints have one.
   *
   * @default none
   */
  headerLine?: string;
  /**
   * Stops the writing; what was there before stays.
   *
   * @default never
   */
  signal?: AbortSignal;
}

// Numbers of a piece that is written at once, where they have to be put into another order.
const PIECE_NUMBERS = 2 ** 20;
// Sides of the squares in which a matrix is turned: what one pass touches stays in the processor's cache.
const TILE = 32;

/**
 * Writes a file, all of it or nothing.
 *
 * @throws {RangeError} If the shape of a tensor does not agree with its numbers, or is none of a matrix where it is to
 * be written column by column.
 * @throws {Error} If the file cannot be written.
 */
export async function writeTorchFile(
  path: string,
  root: TorchDictSource,
  options: WriteTorchOptions = {},
): Promise<void> {
  const { headerLine, signal } = options;
  const storages: TorchTensorSource[] = [];
  const pickle = writePickle(describe(root, "", storages));
  const text = (name: string, content: string) => entryOf(`archive/${name}`, new TextEncoder().encode(content));
  const entries = [
    entryOf("archive/data.pkl", pickle),
    text("byteorder", "little"),
    ...storages.map((tensor, key): ZipSource => ({
      name: `archive/data/${key}`,
      length: tensor.data.byteLength,
      pieces: () => tensor.isColumnMajor ? columnPieces(tensor) : rowPieces(tensor),
    })),
    text("version", "3\n"),
  ];
  await writeWhole(path, async (file: PartialFile) => {
    const header = new TextEncoder().encode(headerLine === undefined ? "" : `${headerLine}\n`);
    await file.write(header, 0);
    await writeZip(file, entries, { start: header.length });
  }, { signal });
}

function entryOf(name: string, bytes: Uint8Array): ZipSource {
  return { name, length: bytes.length, pieces: () => [bytes] };
}

/** A value as a pickle describes it; its tensors are added to `storages`, each by its number. */
function describe(value: TorchValue, path: string, storages: TorchTensorSource[]): PickledValue {
  if (value === null || typeof value !== "object") return value;
  if (isTensor(value)) {
    const { shape, data, isColumnMajor = false } = value;
    if (countNumbers(shape) !== data.length) {
      throw new RangeError(
        `Cannot write tensor ${path}: shape [${shape}] must hold ${countNumbers(shape)} numbers, current number is ` +
          `${data.length}`,
      );
    }
    if (isColumnMajor && shape.length !== 2) {
      throw new RangeError(`Cannot write tensor ${path} by columns: it must be a matrix, current shape is [${shape}]`);
    }
    const strides = isColumnMajor ? [1, shape[0]] : rowMajorStrides(shape);
    return { storageKey: String(storages.push(value) - 1), storageLength: data.length, shape, strides };
  }
  const isOrdered = value instanceof Map;
  const entries = isOrdered ? [...value] : Object.entries(value) as [string, TorchValue][];
  const join = (name: string) => path === "" ? name : `${path}.${name}`;
  return { isOrdered, entries: entries.map(([name, child]) => [name, describe(child, join(name), storages)]) };
}

function isTensor(value: TorchTensorSource | TorchDictSource): value is TorchTensorSource {
  return "data" in value && value.data instanceof Float32Array;
}

function* rowPieces({ data }: TorchTensorSource): Iterable<Uint8Array> {
  for (let first = 0; first < data.length; first += PIECE_NUMBERS) {
    yield bytesOf(data.subarray(first, first + PIECE_NUMBERS));
  }
}

/** The numbers of a matrix column by column, many columns a piece, all pieces in one buffer. */
function* columnPieces({ shape: [nRows, nColumns], data }: TorchTensorSource): Iterable<Uint8Array> {
  const columnsPerPiece = Math.max(1, Math.min(nColumns, Math.floor(PIECE_NUMBERS / Math.max(1, nRows))));
  const piece = new Float32Array(columnsPerPiece * nRows);
  for (let first = 0; first < nColumns; first += columnsPerPiece) {
    const end = Math.min(first + columnsPerPiece, nColumns);
    for (let top = 0; top < nRows; top += TILE) {
      const bottom = Math.min(top + TILE, nRows);
      for (let left = first; left < end; left += TILE) {
        const right = Math.min(left + TILE, end);
        for (let column = left; column < right; column++) {
          const target = (column - first) * nRows;
          for (let row = top; row < bottom; row++) piece[target + row] = data[row * nColumns + column];
        }
      }
    }
    yield bytesOf(piece.subarray(0, (end - first) * nRows));
  }
}

function bytesOf(numbers: Float32Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}
