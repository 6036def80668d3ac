/**
 * The largest cosine between two rows of a matrix, either sign: how alike the two most alike directions of a dictionary
 * are. Blocks of rows against blocks of rows by onnxruntime, so that the `dSae × dSae` cosines are never there at once.
 *
 * @module
 */
import { buildOnnx } from "../../onnx/build.ts";
import { createSession, loadOrt } from "../../runtime/ort.ts";

// A block of products is 4 MiB: it stays in the processor's cache.
const BLOCK_ROWS = 1024;

/** Options of {@linkcode largestCosine}. */
export interface LargestCosineOptions {
  /** Numbers of a row. */
  width: number;
  /**
   * Threads; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
  /** Stops between blocks. */
  signal?: AbortSignal;
}

/**
 * `max |cos(row i, row j)|` over `i ≠ j`, in float32. Rows of zeros are at right angles to all; 0 for fewer than two rows.
 *
 * @param rows Shape `[nRows, width]`.
 */
export async function largestCosine(rows: Float32Array, options: LargestCosineOptions): Promise<number> {
  const { width, threads = 0, signal } = options;
  const nRows = rows.length / width;
  const unit = toUnitRows(rows, width);
  const { Tensor } = await loadOrt();
  const session = await createSession(blockGraph(width), { threads });
  const block = (first: number) => {
    const count = Math.min(BLOCK_ROWS, nRows - first);
    return new Tensor("float32", unit.subarray(first * width, (first + count) * width), [count, width]);
  };
  let largest = 0;
  try {
    for (let first = 0; first < nRows; first += BLOCK_ROWS) {
      for (let second = first; second < nRows; second += BLOCK_ROWS) {
        signal?.throwIfAborted();
        const feeds = { a: block(first), b: block(second) };
        // A block against itself holds each row against itself, too.
        const found = first === second
          ? largestOffDiagonal((await session.run(feeds, ["cosines"])).cosines.data as Float32Array)
          : ((await session.run(feeds, ["largest"])).largest.data as Float32Array)[0];
        largest = Math.max(largest, found);
      }
    }
  } finally {
    await session.release();
  }
  return Math.min(largest, 1);
}

function blockGraph(width: number): Uint8Array {
  return buildOnnx({
    inputs: [{ name: "a", dims: ["n", width] }, { name: "b", dims: ["m", width] }],
    constants: [],
    nodes: [
      { op: "Gemm", inputs: ["a", "b"], outputs: ["signed"], attributes: { transB: 1 } },
      { op: "Abs", inputs: ["signed"], outputs: ["cosines"] },
      { op: "ReduceMax", inputs: ["cosines"], outputs: ["largest"], attributes: { keepdims: 0 } },
    ],
    outputs: ["cosines", "largest"],
  });
}

function largestOffDiagonal(cosines: Float32Array): number {
  const size = Math.sqrt(cosines.length);
  let largest = 0;
  for (let row = 0; row < size; row++) {
    for (let column = row + 1; column < size; column++) {
      if (cosines[row * size + column] > largest) largest = cosines[row * size + column];
    }
  }
  return largest;
}

function toUnitRows(rows: Float32Array, width: number): Float32Array {
  const unit = new Float32Array(rows.length);
  for (let start = 0; start < rows.length; start += width) {
    let squares = 0;
    for (let i = start; i < start + width; i++) squares += rows[i] * rows[i];
    const norm = Math.sqrt(squares) || 1;
    for (let i = start; i < start + width; i++) unit[i] = rows[i] / norm;
  }
  return unit;
}
