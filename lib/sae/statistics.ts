/**
 * What a stream of activations is like: mean, deviation and norms over all its tokens, which normalizations are made of,
 * and a sample of its tokens. Sums are float64. A stream is given as a function that begins it anew, since deviations
 * from the mean take a second pass.
 *
 * @module
 */
import type { InputNormalization } from "../compute/contract.ts";

/** Begins a stream of activations anew; each batch of shape `[nTokens, dModel]`. */
export type ActivationStream = () => AsyncIterable<Float32Array>;

/** Statistics over tokens. */
export interface ActivationStatistics {
  readonly nTokens: number;
  /** Mean of each dimension, shape `[dModel]`. */
  readonly mean: Float32Array;
  /** Standard deviation of each dimension, unbiased, shape `[dModel]`; 0 for a single token. */
  readonly std: Float32Array;
  /** saev's scalar: mean over tokens of `‖x − mean‖ / √dModel`. */
  readonly scalar: number;
  /** Mean over tokens of `‖x‖`. */
  readonly meanNorm: number;
}

/** What both passes take. */
export interface StreamOptions {
  /** Width of the activations. */
  readonly dModel: number;
  /**
   * Tokens after which to stop.
   *
   * @default {Infinity}
   */
  readonly maxTokens?: number;
  /** Stops between batches. */
  readonly signal?: AbortSignal;
}

/**
 * Measures a stream in two passes.
 *
 * @throws {RangeError} If there is no token, a batch has another width, or a number is not finite.
 */
export async function measureStatistics(
  stream: ActivationStream,
  options: StreamOptions,
): Promise<ActivationStatistics> {
  const { dModel } = options;
  const sums = new Float64Array(dModel);
  let norms = 0;
  const nTokens = await forEachToken(stream, options, (x, start) => {
    let squares = 0;
    for (let d = 0; d < dModel; d++) {
      sums[d] += x[start + d];
      squares += x[start + d] ** 2;
    }
    norms += Math.sqrt(squares);
  });
  const mean = sums.map((sum) => sum / nTokens);
  const squaredDeviations = new Float64Array(dModel);
  let distances = 0;
  await forEachToken(stream, options, (x, start) => {
    let squares = 0;
    for (let d = 0; d < dModel; d++) {
      const square = (x[start + d] - mean[d]) ** 2;
      squaredDeviations[d] += square;
      squares += square;
    }
    distances += Math.sqrt(squares);
  });
  return {
    nTokens,
    mean: Float32Array.from(mean),
    std: Float32Array.from(squaredDeviations, (sum) => Math.sqrt(sum / Math.max(1, nTokens - 1))),
    scalar: distances / nTokens / Math.sqrt(dModel),
    meanNorm: norms / nTokens,
  };
}

/** Options of {@linkcode sampleTokens}. */
export interface SampleTokensOptions extends StreamOptions {
  /** Tokens to keep; all of them where there are fewer. */
  readonly nTokens: number;
}

/**
 * Draws tokens from a stream in one pass, each with the same chance (reservoir sampling, Vitter's algorithm R), and the
 * same ones each time.
 *
 * @returns Shape `[min(nTokens, tokens of the stream), dModel]`.
 * @throws {RangeError} If there is no token, a batch has another width, or a number is not finite.
 */
export async function sampleTokens(stream: ActivationStream, options: SampleTokensOptions): Promise<Float32Array> {
  const { dModel, nTokens } = options;
  const sample = new Float32Array(nTokens * dModel);
  const nSeen = await forEachToken(stream, options, (x, start, token) => {
    const slot = token < nTokens ? token : Math.floor(scramble(token) * (token + 1));
    if (slot < nTokens) sample.set(x.subarray(start, start + dModel), slot * dModel);
  });
  return sample.subarray(0, Math.min(nSeen, nTokens) * dModel);
}

/** Normalizations that are made of statistics. */
export type StatisticsNormalization = "mean" | "meanStd" | "meanScalar" | "averageNorm";

/**
 * The fixed normalization that statistics make:
 *
 * - `mean`: `x − mean`;
 * - `meanStd`: `(x − mean) / std` of each dimension, what standardizing batch by batch tends to;
 * - `meanScalar`: `(clamp(x, ±1e5) − mean) / scalar`, as saev trained until July 2025;
 * - `averageNorm`: `x · √dModel / meanNorm`, SAELens's `expected_average_only_in`.
 *
 * A scale of 0 becomes 1: a dimension that never changes stays at 0.
 */
export function normalizationFrom(
  statistics: ActivationStatistics,
  kind: StatisticsNormalization,
): InputNormalization & { kind: "affine" } {
  const { mean, std, scalar, meanNorm } = statistics;
  const even = (scale: number) => new Float32Array(mean.length).fill(Math.fround(scale) || 1);
  if (kind === "mean") return { kind: "affine", mean, scale: even(1) };
  if (kind === "meanStd") return { kind: "affine", mean, scale: std.map((deviation) => deviation || 1) };
  if (kind === "meanScalar") return { kind: "affine", mean, scale: even(scalar), clamp: [-1e5, 1e5] };
  return { kind: "affine", mean: new Float32Array(mean.length), scale: even(meanNorm / Math.sqrt(mean.length)) };
}

/** A number in [0, 1) for an integer, as if by chance: the finalizer of MurmurHash3, by Austin Appleby (public domain). */
function scramble(integer: number): number {
  let h = Math.imul(integer ^ (integer >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}

/** Calls `visit` with each token's batch and where it begins in it; returns how many tokens there were. */
async function forEachToken(
  stream: ActivationStream,
  { dModel, maxTokens = Infinity, signal }: StreamOptions,
  visit: (x: Float32Array, start: number, token: number) => void,
): Promise<number> {
  let token = 0;
  for await (const x of stream()) {
    signal?.throwIfAborted();
    if (x.length % dModel !== 0) {
      throw new RangeError(
        `Cannot measure activations: batches must have shape [nTokens, ${dModel}], current length is ${x.length}`,
      );
    }
    const bad = x.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      throw new RangeError(
        `Cannot measure activations: they must be finite, current value at token ${
          token + Math.floor(bad / dModel)
        }, ` +
          `dimension ${bad % dModel} is ${x[bad]}`,
      );
    }
    for (let start = 0; start < x.length && token < maxTokens; start += dModel) visit(x, start, token++);
    if (token >= maxTokens) break;
  }
  if (token === 0) throw new RangeError("Cannot measure activations: there must be tokens, there are none");
  return token;
}
