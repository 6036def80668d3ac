/**
 * Normalizes activations as an SAE was trained on them, and brings reconstructions back. Plain loops: a pass over
 * `nTokens · dModel` numbers costs nothing beside the product with the encoder, which has `dSae` times more to do.
 *
 * @module
 */
import type { InputNormalization, InputStatistics } from "./contract.ts";

/** Activations as the encoder takes them, and what it takes to bring them back. */
export interface NormalizedInput {
  /** Shape `[nTokens, dModel]`; the given array itself where there is nothing to do. */
  readonly x: Float32Array;
  /** `undefined` where there is nothing to bring back. */
  readonly statistics: InputStatistics | undefined;
}

/**
 * Normalizes activations `x` of shape `[nTokens, dModel]`. Sums are float64.
 *
 * @throws {RangeError} If statistics of a batch of fewer than two tokens are asked for.
 */
export function normalizeInput(
  x: Float32Array,
  options: { dModel: number; normalization: InputNormalization },
): NormalizedInput {
  const { dModel, normalization } = options;
  if (normalization.kind === "none") return { x, statistics: undefined };
  if (normalization.kind === "affine") return normalizeAffine(x, normalization);
  const nTokens = x.length / dModel;
  const statistics = normalization.kind === "batch"
    ? batchStatistics(x, { dModel, nTokens, epsilon: normalization.epsilon })
    : normalization.kind === "layerNorm"
    ? layerNormStatistics(x, { dModel, nTokens, epsilon: normalization.epsilon })
    : normStatistics(x, { dModel, nTokens });
  const { per, mean, scale } = statistics;
  const normalized = new Float32Array(x.length);
  for (let token = 0; token < nTokens; token++) {
    for (let d = 0; d < dModel; d++) {
      const i = token * dModel + d;
      const entry = per === "token" ? token : d;
      normalized[i] = (x[i] - mean[entry]) / scale[entry];
    }
  }
  return { x: normalized, statistics };
}

/**
 * Brings a reconstruction of normalized activations back to the scale of the activations: `y · scale + mean`.
 *
 * @param y Shape `[nTokens, dModel]`.
 * @throws {RangeError} If there are statistics of another number of tokens or dimensions.
 */
export function restoreOutput(
  y: Float32Array,
  options: { dModel: number; statistics: InputStatistics | undefined },
): Float32Array {
  const { dModel, statistics } = options;
  if (statistics === undefined) return y;
  const { per, mean, scale } = statistics;
  const nTokens = y.length / dModel;
  const wanted = per === "token" ? nTokens : dModel;
  if (mean.length !== wanted || scale.length !== wanted) {
    throw new RangeError(
      `Cannot decode latents: their statistics must hold ${wanted} means and scales, one a ${per}, current lengths are ` +
        `${mean.length} and ${scale.length}`,
    );
  }
  const restored = new Float32Array(y.length);
  for (let token = 0; token < nTokens; token++) {
    for (let d = 0; d < dModel; d++) {
      const i = token * dModel + d;
      const entry = per === "token" ? token : d;
      restored[i] = y[i] * scale[entry] + mean[entry];
    }
  }
  return restored;
}

function normalizeAffine(
  x: Float32Array,
  { mean, scale, clamp: [low, high] = [-Infinity, Infinity] }: InputNormalization & { kind: "affine" },
): NormalizedInput {
  const dModel = mean.length;
  const normalized = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += dModel) {
    for (let d = 0; d < dModel; d++) {
      normalized[start + d] = (Math.min(Math.max(x[start + d], low), high) - mean[d]) / scale[d];
    }
  }
  return { x: normalized, statistics: { per: "dimension", mean, scale } };
}

interface Shape {
  readonly dModel: number;
  readonly nTokens: number;
}

function layerNormStatistics(x: Float32Array, { dModel, nTokens, epsilon }: Shape & { epsilon: number }) {
  const mean = new Float32Array(nTokens);
  const scale = new Float32Array(nTokens);
  for (let token = 0; token < nTokens; token++) {
    let sum = 0;
    for (let i = token * dModel; i < (token + 1) * dModel; i++) sum += x[i];
    const center = sum / dModel;
    let squares = 0;
    for (let i = token * dModel; i < (token + 1) * dModel; i++) squares += (x[i] - center) ** 2;
    mean[token] = center;
    // A token of one number, or of equal ones, must not become NaN.
    scale[token] = Math.sqrt(squares / Math.max(1, dModel - 1)) + epsilon || 1;
  }
  return { per: "token", mean, scale } as const;
}

function normStatistics(x: Float32Array, { dModel, nTokens }: Shape) {
  const scale = new Float32Array(nTokens);
  for (let token = 0; token < nTokens; token++) {
    let squares = 0;
    for (let i = token * dModel; i < (token + 1) * dModel; i++) squares += x[i] * x[i];
    // A token of zeros stays one.
    scale[token] = Math.sqrt(squares / dModel) || 1;
  }
  return { per: "token", mean: new Float32Array(nTokens), scale } as const;
}

function batchStatistics(x: Float32Array, { dModel, nTokens, epsilon }: Shape & { epsilon: number }) {
  if (nTokens < 2) {
    throw new RangeError(
      `Cannot normalize a batch: it must hold at least 2 tokens, current number is ${nTokens}; a mean and scale measured ` +
        `once ("affine") take any batch`,
    );
  }
  const sums = new Float64Array(dModel);
  for (let i = 0; i < x.length; i++) sums[i % dModel] += x[i];
  const squares = new Float64Array(dModel);
  for (let i = 0; i < x.length; i++) squares[i % dModel] += (x[i] - sums[i % dModel] / nTokens) ** 2;
  return {
    per: "dimension",
    mean: Float32Array.from(sums, (sum) => sum / nTokens),
    scale: Float32Array.from(squares, (square) => Math.sqrt(square / (nTokens - 1)) + epsilon || 1),
  } as const;
}
