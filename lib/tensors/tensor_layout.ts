/**
 * Where each tensor of a file lies, in a form that all containers share, and the one reader that follows it. Views with
 * any strides (transposed, expanded, sliced) come out row-major; only bytes that are needed are read, in pieces of
 * bounded size.
 *
 * @module
 */
import { type ByteSource, damaged, refused } from "./byte_source.ts";
import { bytesPerNumber, swapBytes, type TensorDtype, widen } from "./dtypes.ts";

/** Numbers in the file, as PyTorch describes them: an offset, a shape and strides. */
export interface StoredTensor {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  /** Steps between neighbors along each axis, in numbers, 0 or more. */
  readonly strides: readonly number[];
  /** Where the first number begins, in bytes from the start of the file. */
  readonly position: number;
  readonly bigEndian: boolean;
}

/** What a container's reader finds out when a file is opened. */
export interface TensorLayout {
  readonly format: "torch-zip" | "torch-legacy" | "safetensors" | "npz";
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly values: ReadonlyMap<string, unknown>;
}

// A view may repeat numbers (stride 0), but not so often that a small file fills the memory.
const MAX_REPEATED_NUMBERS = 2 ** 24;
const MAX_AXES = 64;

/** Strides of a row-major tensor. */
export function rowMajorStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  for (let axis = shape.length - 1, step = 1; axis >= 0; step *= shape[axis--]) strides[axis] = step;
  return strides;
}

/** Number of numbers in a tensor of a shape. */
export function countNumbers(shape: readonly number[]): number {
  return shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, 1);
}

/** Numbers from the first to the last that a view touches, both included. */
function countSpan(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((span, size, axis) => span + (size - 1) * strides[axis], 1);
}

/**
 * Throws unless a tensor's description makes sense and it lies within its storage; returns it, so that it reads inline.
 *
 * @param storage Where the storage lies in the file, in bytes.
 * @throws {SyntaxError} If it does not.
 */
export function checkStoredTensor(
  tensor: StoredTensor,
  { file, name, storage }: { file: string; name: string; storage: { position: number; length: number } },
): StoredTensor {
  const { dtype, shape, strides, position } = tensor;
  const isSize = (value: unknown) => Number.isSafeInteger(value) && value as number >= 0;
  if (!shape.every(isSize) || !strides.every(isSize) || shape.length !== strides.length || shape.length > MAX_AXES) {
    throw damaged(file, `tensor ${name} must have as many sizes as strides, integers of 0 or more`);
  }
  const width = bytesPerNumber[dtype];
  const nNumbers = countNumbers(shape);
  const span = countSpan(shape, strides);
  if (!(position >= storage.position && position + width * span <= storage.position + storage.length)) {
    throw damaged(
      file,
      `tensor ${name} of shape [${shape}] and strides [${strides}] must lie within its storage of ${storage.length} bytes`,
    );
  }
  if (nNumbers > Math.max(storage.length / width, MAX_REPEATED_NUMBERS)) {
    throw refused(
      file,
      `tensor ${name} must not repeat more than ${MAX_REPEATED_NUMBERS} numbers, its shape is [${shape}]`,
    );
  }
  return tensor;
}

/**
 * A matrix with its axes swapped: the same numbers by other strides.
 *
 * @throws {RangeError} If the tensor is no matrix.
 */
export function transposeOf(tensor: StoredTensor, name: string): StoredTensor {
  const { shape, strides } = tensor;
  if (shape.length !== 2) {
    throw new RangeError(`Cannot transpose tensor ${name}: it must have two axes, its shape is [${shape}]`);
  }
  return { ...tensor, shape: shape.toReversed(), strides: strides.toReversed() };
}

/** All numbers of a tensor, row-major. */
export async function readTensor(source: ByteSource, tensor: StoredTensor): Promise<Float32Array> {
  const { dtype, shape, strides, position, bigEndian } = tensor;
  const numbers = new Float32Array(countNumbers(shape));
  if (numbers.length === 0) return numbers;
  const steps = rowMajorStrides(shape);
  const isRowMajor = shape.every((size, axis) => size === 1 || strides[axis] === steps[axis]);
  if (isRowMajor && dtype === "float32" && !bigEndian) {
    await source.readInto(new Uint8Array(numbers.buffer), position);
    return numbers;
  }
  // Two axes at least, as gather() needs them.
  const extra = new Array<number>(Math.max(0, 2 - shape.length)).fill(1);
  const width = bytesPerNumber[dtype];
  const context = { steps: [...extra, ...steps], width };
  const whole = { shape: [...extra, ...shape], strides: [...extra, ...strides], first: 0, target: 0 };
  const pieces = split(whole, context);
  const work = async () => {
    // One buffer for many pieces: when each its own would be freed is not for us to say.
    let scratch = new Uint8Array();
    for (const piece of pieces) {
      const length = countSpan(piece.shape, piece.strides) * width;
      if (scratch.length < length) scratch = new Uint8Array(length);
      const bytes = scratch.subarray(0, length);
      await source.readInto(bytes, position + piece.first * width);
      if (bigEndian) swapBytes(bytes, dtype);
      gather(widen(bytes, dtype), piece, { numbers, steps: context.steps });
    }
  };
  const isScattered = countSpan(shape, strides) > MAX_GAPS * numbers.length;
  await Promise.all(Array.from({ length: isScattered ? SCATTERED_READS : 1 }, work));
  return numbers;
}

/**
 * Rows `first` to `first + count` of a tensor along its first axis, row-major.
 *
 * @throws {RangeError} If the tensor has no such rows.
 */
export function readRowsOf(
  source: ByteSource,
  tensor: StoredTensor,
  { name, first, count }: { name: string; first: number; count: number },
): Promise<Float32Array> {
  const { shape, strides, dtype, position } = tensor;
  if (shape.length === 0) {
    throw new RangeError(`Cannot read rows of tensor ${name}: the tensor must have an axis, its shape is []`);
  }
  const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (!isCount(first) || !isCount(count) || first + count > shape[0]) {
    throw new RangeError(
      `Cannot read rows of tensor ${name}: rows must lie within 0 to ${shape[0]}, ` +
        `current first is ${first} and count is ${count}`,
    );
  }
  return readTensor(source, {
    ...tensor,
    shape: [count, ...shape.slice(1)],
    position: position + first * strides[0] * bytesPerNumber[dtype],
  });
}

/** A part of a view: where it starts in the storage and in the row-major result, both in numbers. */
interface Piece {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly first: number;
  readonly target: number;
}

// Numbers on the way to one that is wanted, above which pieces are small, and several reads at a time pay: each waits for
// a disk or a server rather than for the processor.
const MAX_GAPS = 8;
const SCATTERED_READS = 8;

// Small spans are cheapest in one read, gaps included; larger ones are, as long as most of their numbers are wanted.
const SMALL_BYTES = 2 ** 16;
const LARGE_BYTES = 2 ** 22;

/** Pieces of a piece that are worth a read each, in order. */
function* split(piece: Piece, context: { steps: readonly number[]; width: number }): Generator<Piece> {
  const span = countSpan(piece.shape, piece.strides);
  const bytes = span * context.width;
  if (bytes <= SMALL_BYTES || (bytes <= LARGE_BYTES && span <= MAX_GAPS * countNumbers(piece.shape))) yield piece;
  else for (const half of halve(piece, context.steps)) yield* split(half, context);
}

/** The two halves of a piece along the axis with the longest steps. */
function halve({ shape, strides, first, target }: Piece, steps: readonly number[]): [Piece, Piece] {
  const longest = Math.max(...strides.filter((_, axis) => shape[axis] > 1));
  const axis = strides.findIndex((stride, i) => stride === longest && shape[i] > 1);
  const size = Math.floor(shape[axis] / 2);
  return [
    { shape: shape.with(axis, size), strides, first, target },
    {
      shape: shape.with(axis, shape[axis] - size),
      strides,
      first: first + size * strides[axis],
      target: target + size * steps[axis],
    },
  ];
}

// Sides of the pieces that the last two axes are copied in. A matrix that is stored the other way round is read along its
// rows: 16 numbers are a line of the processor's cache, and 128 such lines stay in it.
const TILE_ROWS = 16;
const TILE_COLUMNS = 128;

/** Copies a piece, whose span `from` holds, to its place in the result. */
function gather(
  from: Float32Array,
  { shape, strides, target }: Piece,
  { numbers, steps }: { numbers: Float32Array; steps: readonly number[] },
): void {
  const last = shape.length - 1;
  copy(0, 0, target);

  function copy(axis: number, source: number, target: number): void {
    if (axis < last - 1) {
      for (let i = 0; i < shape[axis]; i++) copy(axis + 1, source + i * strides[axis], target + i * steps[axis]);
      return;
    }
    const [rows, columns] = [shape[axis], shape[last]];
    const [rowStride, columnStride, rowStep] = [strides[axis], strides[last], steps[axis]];
    for (let left = 0; left < columns; left += TILE_COLUMNS) {
      for (let top = 0; top < rows; top += TILE_ROWS) {
        const bottom = Math.min(top + TILE_ROWS, rows);
        const right = Math.min(left + TILE_COLUMNS, columns);
        for (let row = top; row < bottom; row++) {
          const start = source + row * rowStride;
          const end = target + row * rowStep;
          for (let column = left; column < right; column++) numbers[end + column] = from[start + column * columnStride];
        }
      }
    }
  }
}
