/**
 * The middle of activations, and how far they are from it.
 *
 * @module
 */
import type { InputNormalization } from "../compute/contract.ts";
import type { TrainInput } from "./recipe.ts";

/** Mean of activations, and their root mean square distance from it per dimension. */
export function measureScale(x: Float32Array, dModel: number): { mean: Float32Array; scale: number } {
  const nTokens = x.length / dModel;
  const sums = new Float64Array(dModel);
  for (let i = 0; i < x.length; i++) sums[i % dModel] += x[i];
  const mean = Float32Array.from(sums, (sum) => sum / nTokens);
  let squares = 0;
  for (let i = 0; i < x.length; i++) squares += (x[i] - mean[i % dModel]) ** 2;
  return { mean, scale: Math.sqrt(squares / x.length) };
}

const MEDIAN_ROUNDS = 100;
const MEDIAN_TOLERANCE = 1e-5;

/**
 * The point with the smallest sum of distances to all tokens, by Weiszfeld's rounds from the mean; outliers pull it less
 * than they pull the mean.
 */
export function geometricMedian(x: Float32Array, dModel: number): Float32Array {
  const nTokens = x.length / dModel;
  let guess = Float64Array.from(measureScale(x, dModel).mean);
  for (let round = 0; round < MEDIAN_ROUNDS; round++) {
    const sums = new Float64Array(dModel);
    let total = 0;
    for (let token = 0; token < nTokens; token++) {
      let squares = 0;
      for (let d = 0; d < dModel; d++) squares += (x[token * dModel + d] - guess[d]) ** 2;
      // A token at the guess itself has no direction to pull in.
      if (squares === 0) continue;
      const weight = 1 / Math.sqrt(squares);
      total += weight;
      for (let d = 0; d < dModel; d++) sums[d] += weight * x[token * dModel + d];
    }
    if (total === 0) break;
    const next = sums.map((sum) => sum / total);
    const moved = Math.sqrt(next.reduce((sum, value, d) => sum + (value - guess[d]) ** 2, 0));
    guess = next;
    if (moved < MEDIAN_TOLERANCE) break;
  }
  return Float32Array.from(guess);
}

/** A recipe's input, fitted to tokens. */
export interface FittedInput {
  readonly normalization: InputNormalization;
  /** What activations are divided by, to be multiplied into the biases at the end; 1 for nothing. */
  readonly foldedScale: number;
}

function rootMeanSquareLength(x: Float32Array, dModel: number): number {
  let squares = 0;
  for (let i = 0; i < x.length; i++) squares += x[i] * x[i];
  return Math.sqrt(squares * dModel / x.length);
}

/**
 * Measures what a recipe does to activations on tokens `x`, where there is something to measure.
 *
 * @throws {TypeError} If there is, and there are no tokens.
 */
export function fitInput(input: TrainInput, x: Float32Array | undefined, dModel: number): FittedInput {
  if (input.kind !== "scale" && input.kind !== "unitNorm" && input.kind !== "standardize") {
    return { normalization: input, foldedScale: 1 };
  }
  if (x === undefined) {
    throw new TypeError(`Cannot train SAE: input ${input.kind} must be measured on a sample, none is given`);
  }
  if (input.kind !== "standardize") {
    const scale = input.kind === "scale" ? measureScale(x, dModel).scale : rootMeanSquareLength(x, dModel);
    return {
      normalization: {
        kind: "affine",
        mean: new Float32Array(dModel),
        scale: new Float32Array(dModel).fill(scale),
      },
      foldedScale: scale,
    };
  }
  const { mean } = measureScale(x, dModel);
  let distances = 0;
  for (let start = 0; start < x.length; start += dModel) {
    let squares = 0;
    for (let d = 0; d < dModel; d++) squares += (x[start + d] - mean[d]) ** 2;
    distances += Math.sqrt(squares);
  }
  const scale = new Float32Array(dModel).fill(distances * dModel / x.length / Math.sqrt(dModel));
  return {
    normalization: { kind: "affine", mean, scale, ...(input.clamp && { clamp: input.clamp }) },
    foldedScale: 1,
  };
}
