/**
 * The parameters of an SAE while it is trained, and how they begin.
 *
 * Training sees activations divided by one number, their root mean square distance from the mean, so that learning
 * rates mean the same for every model. Scaling commutes with the encoder, with TopK and with the decoder, so the
 * number is multiplied into the biases at the end and nothing has to be remembered.
 *
 * @module
 */
import type { SaeWeights } from "../compute/contract.ts";

/** Arrays that the optimizer changes. The encoder is stored like the decoder: row `i` belongs to latent `i`. */
export interface Parameters {
  /** Shape `[dSae, dModel]`. */
  readonly wEnc: Float32Array;
  /** Shape `[dSae]`. */
  readonly bEnc: Float32Array;
  /** Shape `[dSae, dModel]`, rows of length 1. */
  readonly wDec: Float32Array;
  /** Shape `[dModel]`. */
  readonly bDec: Float32Array;
}

/** Names of the parameter arrays. */
export const parameterNames = ["wEnc", "bEnc", "wDec", "bDec"] as const;

/** Arrays of zeros in the shape of `like`: gradients, or an optimizer's moments. */
export function zerosLike(like: Parameters): Parameters {
  const zeros = (name: keyof Parameters) => new Float32Array(like[name].length);
  return { wEnc: zeros("wEnc"), bEnc: zeros("bEnc"), wDec: zeros("wDec"), bDec: zeros("bDec") };
}

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

/** What {@linkcode initializeFromData} starts from. */
export interface InitializeOptions {
  dModel: number;
  dSae: number;
  /** Share of each direction that is a data point; the rest is random. */
  dataShare: number;
  random: () => number;
}

// Candidates to pick from: their number bounds the work at `nCandidates · dSae · dModel`.
const MAX_CANDIDATES = 8192;

/**
 * Begins with decoder directions that point at data, seen from the mean and blended with a random direction. Data
 * repeats itself (many patches are plain background), so each next point is drawn with a probability in proportion to
 * what the directions so far leave of it: k-means++ (https://dl.acm.org/doi/10.5555/1283383.1283494) on directions.
 * The encoder begins as the decoder, the decoder bias as the mean.
 *
 * @param x Scaled activations, shape `[nTokens, dModel]`, in random order; their mean is `mean`.
 */
export function initializeFromData(x: Float32Array, mean: Float32Array, options: InitializeOptions): Parameters {
  const { dModel, dSae, dataShare, random } = options;
  const nCandidates = Math.min(x.length / dModel, MAX_CANDIDATES);
  const points = x.slice(0, nCandidates * dModel);
  for (let i = 0; i < points.length; i++) points[i] -= mean[i % dModel];
  const squares = new Float64Array(nCandidates);
  for (let i = 0; i < points.length; i++) squares[Math.floor(i / dModel)] += points[i] * points[i];
  /** What the directions so far leave of each candidate. */
  const left = squares.slice();
  const wDec = new Float32Array(dSae * dModel);
  const noise = new Float32Array(dModel);
  for (let latent = 0; latent < dSae; latent++) {
    const row = latent * dModel;
    const token = drawWeighted(left, random);
    const direction = points.slice(token * dModel, (token + 1) * dModel);
    normalizeRow(direction, 0, dModel);
    for (let candidate = 0; candidate < nCandidates; candidate++) {
      let along = 0;
      for (let d = 0; d < dModel; d++) along += points[candidate * dModel + d] * direction[d];
      if (along > 0) left[candidate] = Math.min(left[candidate], Math.max(0, squares[candidate] - along * along));
    }
    for (let d = 0; d < dModel; d++) noise[d] = random() - 0.5;
    normalizeRow(noise, 0, dModel);
    for (let d = 0; d < dModel; d++) wDec[row + d] = dataShare * direction[d] + (1 - dataShare) * noise[d];
    normalizeRow(wDec, latent, dModel);
  }
  return { wEnc: wDec.slice(), bEnc: new Float32Array(dSae), wDec, bDec: mean.slice() };
}

/** An index drawn in proportion to its weight; any index if all weights are zero. */
function drawWeighted(weights: Float64Array, random: () => number): number {
  let rest = random() * weights.reduce((total, weight) => total + weight, 0);
  for (let i = 0; i < weights.length; i++) {
    rest -= weights[i];
    if (rest < 0) return i;
  }
  return Math.floor(random() * weights.length);
}

/** Makes a row of a matrix of length 1, in place; a row of zeros stays. */
export function normalizeRow(matrix: Float32Array, row: number, dModel: number): void {
  let squares = 0;
  for (let i = row * dModel; i < (row + 1) * dModel; i++) squares += matrix[i] * matrix[i];
  if (squares === 0) return;
  const factor = 1 / Math.sqrt(squares);
  for (let i = row * dModel; i < (row + 1) * dModel; i++) matrix[i] *= factor;
}

/** Weights for use: the scale multiplied into the biases, the encoder turned to `[dModel, dSae]`. */
export function toWeights(
  parameters: Parameters,
  options: { dModel: number; dSae: number; scale: number; rule: SaeWeights["rule"] },
): SaeWeights {
  const { dModel, dSae, scale, rule } = options;
  const wEnc = new Float32Array(dModel * dSae);
  for (let latent = 0; latent < dSae; latent++) {
    for (let d = 0; d < dModel; d++) wEnc[d * dSae + latent] = parameters.wEnc[latent * dModel + d];
  }
  return {
    dModel,
    dSae,
    wEnc,
    bEnc: parameters.bEnc.map((b) => b * scale),
    wDec: parameters.wDec.slice(),
    bDec: parameters.bDec.map((b) => b * scale),
    subtractBDec: true,
    rule,
  };
}
