/**
 * Training traces of saev and CLIP-Scope: twelve steps that their own code took, from the same parameters on the same
 * batches.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import type { Parameters } from "../../lib/train/parameters.ts";

/** Numbers of a fixture, by name. */
export async function readFixture(name: string): Promise<Map<string, Float32Array>> {
  const file = await openTensorFile(fileURLToPath(new URL(`../fixtures/train/${name}.npz`, import.meta.url)));
  try {
    const arrays = new Map<string, Float32Array>();
    for (const key of file.entries.keys()) arrays.set(key, await file.read(key));
    return arrays;
  } finally {
    await file.close();
  }
}

/** A matrix of shape `[nRows, nColumns]` the other way round. */
export function transposed(matrix: Float32Array, nRows: number): Float32Array {
  const nColumns = matrix.length / nRows;
  return Float32Array.from(matrix, (_, i) => matrix[(i % nRows) * nColumns + Math.floor(i / nRows)]);
}

/** Parameters of a trace: saev's names, or CLIP-Scope's, which has no bias of the encoder. */
export function traceParameters(trace: Map<string, Float32Array>, part: "init" | "final" | "grad0"): Parameters {
  const bDec = trace.get(`b_dec_${part}`) ?? trace.get(`pre_b_${part}`)!;
  const wDec = trace.get(`W_dec_${part}`) ?? trace.get(`dec_${part}`)!;
  return {
    wEnc: transposed(trace.get(`W_enc_${part}`) ?? trace.get(`enc_${part}`)!, bDec.length),
    bEnc: trace.get(`b_enc_${part}`) ?? new Float32Array(wDec.length / bDec.length),
    wDec,
    bDec,
  };
}

/** Largest difference relative to the largest number. */
export function relativeDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [difference, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    // Comparisons would let NaN pass.
    if (!Number.isFinite(actual[i])) return Infinity;
    difference = Math.max(difference, Math.abs(actual[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference === 0 ? 0 : difference / largest;
}
