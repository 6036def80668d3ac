/**
 * How good an SAE is on some activations, by every published metric at once: one pass over a stream, sums in float64,
 * ratios at the end, since a mean of per-batch ratios is another number. Where a published metric is one of batches, its
 * formula says so; all others are the same however the stream is cut.
 *
 * @module
 */
import { type Backend, countTokens, type SaeWeights } from "../../compute/contract.ts";
import { largestCosine } from "../../compute/cpu/coherence.ts";
import { normalizeInput } from "../../compute/normalize.ts";
import type { MetricDefinition, MetricKey } from "./formula.ts";
import { metricFormulas } from "./formulas.ts";
import { checkMeasured, type MeasuredBatch, MetricSums } from "./sums.ts";

/**
 * Where activations and reconstructions are compared: `raw`, as the activations were given, or `normalized`, as the
 * encoder takes them (see `InputNormalization`). Papers that normalize report either, often without saying which.
 */
export type MetricSpace = "raw" | "normalized";

/** Latents of a range of densities. */
export interface DensityBin {
  /** Lower end, as log10 of the density, included. */
  readonly low: number;
  /** Upper end, as log10 of the density; included in the last bin, whose upper end is 0. */
  readonly high: number;
  readonly nLatents: number;
}

/** Every metric, and what was measured. */
export interface Metrics extends Readonly<Record<MetricKey, number>> {
  /** Tokens that were measured. */
  readonly nTokens: number;
  /** Tokens that were left out because they hold NaN or an infinity. */
  readonly nNonFinite: number;
  readonly dModel: number;
  readonly dSae: number;
  readonly space: MetricSpace;
  /** Tokens without activation after which a latent counts as dead. */
  readonly deadWindowTokens: number;
  /** Latents that `dictionaryCoherence` compares: fewer than `dSae` make it a lower bound. */
  readonly coherenceLatents: number;
  /** Share of tokens on which each latent is above zero, shape `[dSae]`. */
  readonly density: Float64Array;
  /** Latents by their density, in half decades, without dead ones. */
  readonly densityHistogram: readonly DensityBin[];
  /** MSE of each position in an image, shape `[tokensPerImage]`; `undefined` unless `tokensPerImage` was given. */
  readonly positionMse: Float64Array | undefined;
}

/** Options of {@linkcode measureMetrics}. */
export interface MeasureMetricsOptions {
  /** Where to compute. It stays open. */
  backend: Backend;
  /**
   * Where activations and reconstructions are compared.
   *
   * @default {"raw"}
   */
  space?: MetricSpace;
  /**
   * Tokens of an image, for the error of each position; the stream must begin with an image.
   *
   * @default none
   */
  tokensPerImage?: number;
  /**
   * Tokens without activation after which a latent counts as dead.
   *
   * @default {10000000}
   */
  deadWindowTokens?: number;
  /**
   * Latents whose decoder directions are compared with each other, evenly spaced where there are more; 0 for none. The
   * work grows with their square: 24,576 of width 768 take about ten seconds on two cores.
   *
   * @default {32768}
   */
  coherenceLatents?: number;
  /**
   * Threads of that comparison, which runs on the CPU; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
  /** Called with each batch once it is measured, in the space of the metrics; the next one waits for it. */
  onBatch?: (batch: MeasuredBatch) => void | Promise<void>;
  /** Called with the number of tokens that are done. */
  onProgress?: (nTokens: number) => void;
  /** Stops between batches. */
  signal?: AbortSignal;
}

/** What each metric is: name, formula, and whose convention. */
export const metricDefinitions: readonly MetricDefinition[] = metricFormulas.map((
  { key, name, formula, source },
) => ({ key, name, formula, source }));

/**
 * Measures an SAE on a stream of activations.
 *
 * @param batches Each of shape `[nTokens, dModel]`. A token that holds NaN or an infinity is counted and left out.
 * @throws {RangeError} If there is no token that can be measured, or a batch is of another width.
 */
export async function measureMetrics(
  sae: SaeWeights,
  batches: AsyncIterable<Float32Array>,
  options: MeasureMetricsOptions,
): Promise<Metrics> {
  const { backend, space = "raw", tokensPerImage, deadWindowTokens = 10_000_000, threads, signal } = options;
  checkSpace(space);
  const sums = new MetricSums(sae, { tokensPerImage });
  const { weights, stream } = space === "raw" ? { weights: sae, stream: batches } : toNormalizedSpace(sae, batches);
  const loaded = await backend.load(weights);
  try {
    let nDone = 0;
    for await (const x of stream) {
      signal?.throwIfAborted();
      if (x.length === 0) continue;
      const latents = await loaded.encode(x);
      const batch = { x, latents, reconstruction: await loaded.decode(latents) };
      sums.add(batch);
      await options.onBatch?.(batch);
      options.onProgress?.(nDone += latents.nTokens);
    }
  } finally {
    await loaded.dispose();
  }
  checkMeasured(sums);
  const { coherence, nLatents } = await measureCoherence(sae, { most: options.coherenceLatents, threads, signal });
  const inputs = {
    sums,
    deadWindowTokens,
    dictionaryCoherence: coherence,
    meanDecoderNorm: meanRowNorm(sae.wDec, sae.dModel),
  };
  const values = metricFormulas.map(({ key, compute }) => [key, compute(inputs)] as const);
  const density = sums.nFired.map((count) => count / sums.nTokens);
  return {
    ...Object.fromEntries(values) as Record<MetricKey, number>,
    nTokens: sums.nTokens,
    nNonFinite: sums.nNonFinite,
    dModel: sae.dModel,
    dSae: sae.dSae,
    space,
    deadWindowTokens,
    coherenceLatents: nLatents,
    density,
    densityHistogram: densityBins(density, sums.nTokens),
    positionMse: tokensPerImage === undefined
      ? undefined
      : sums.positionErrors.map((error, position) => error / sums.positionTokens[position]),
  };
}

/** The metrics as rows of a table: `show(metricsTable(metrics))` in a notebook. */
export function metricsTable(
  metrics: Metrics,
): { metric: string; value: number; formula: string; source: string }[] {
  return metricDefinitions.map(({ key, name, formula, source }) => ({
    metric: name,
    value: metrics[key],
    formula,
    source,
  }));
}

/** The metrics as they are written to `metrics.json`: names in snake_case, and what is not a number is null. */
export function metricsToJson(metrics: Metrics): Record<string, unknown> {
  const { nTokens, nNonFinite, dModel, dSae, space, deadWindowTokens, coherenceLatents, densityHistogram } = metrics;
  const values = metricDefinitions.map(({ key }) => [snakeCase(key), orNull(metrics[key])]);
  return {
    n_tokens: nTokens,
    n_non_finite: nNonFinite,
    d_model: dModel,
    d_sae: dSae,
    space,
    dead_window_tokens: deadWindowTokens,
    coherence_latents: coherenceLatents,
    ...Object.fromEntries(values),
    density_histogram: densityHistogram.map(({ low, high, nLatents }) => ({ low, high, n_latents: nLatents })),
    position_mse: metrics.positionMse && Array.from(metrics.positionMse, orNull),
  };
}

function orNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function checkSpace(space: string): void {
  if (space !== "raw" && space !== "normalized") {
    throw new RangeError(`Cannot measure an SAE: space must be one of raw, normalized, current value is ${space}`);
  }
}

/** The SAE without its normalization, and activations that went through it. */
function toNormalizedSpace(sae: SaeWeights, batches: AsyncIterable<Float32Array>) {
  const { dModel, normalization = { kind: "none" } } = sae;
  async function* normalize() {
    for await (const x of batches) {
      countTokens(x, sae);
      yield x.length === 0 ? x : normalizeInput(x, { dModel, normalization }).x;
    }
  }
  return { weights: { ...sae, normalization: { kind: "none" } as const }, stream: normalize() };
}

async function measureCoherence(
  { wDec, dSae, dModel }: SaeWeights,
  { most = 32_768, threads, signal }: { most?: number; threads?: number; signal?: AbortSignal },
): Promise<{ coherence: number; nLatents: number }> {
  if (!(Number.isInteger(most) && most >= 0)) {
    throw new RangeError(
      `Cannot measure an SAE: coherenceLatents must be an integer of 0 or more, current value is ${most}`,
    );
  }
  const nLatents = Math.min(most, dSae);
  if (nLatents < 2) return { coherence: NaN, nLatents: 0 };
  let rows = wDec;
  if (nLatents < dSae) {
    rows = new Float32Array(nLatents * dModel);
    for (let i = 0; i < nLatents; i++) {
      const latent = Math.floor(i * dSae / nLatents);
      rows.set(wDec.subarray(latent * dModel, (latent + 1) * dModel), i * dModel);
    }
  }
  return { coherence: await largestCosine(rows, { width: dModel, threads, signal }), nLatents };
}

function meanRowNorm(rows: Float32Array, width: number): number {
  let total = 0;
  for (let start = 0; start < rows.length; start += width) {
    let squares = 0;
    for (let i = start; i < start + width; i++) squares += rows[i] * rows[i];
    total += Math.sqrt(squares);
  }
  return total * width / rows.length;
}

/** Half decades from that of the least density there can be, one token, up to all tokens. */
function densityBins(density: Float64Array, nTokens: number): DensityBin[] {
  const nBins = Math.max(1, Math.ceil(2 * Math.log10(nTokens)));
  const counts = new Array<number>(nBins).fill(0);
  for (const share of density) {
    if (share > 0) counts[Math.min(nBins - 1, Math.max(0, Math.floor(2 * Math.log10(share)) + nBins))]++;
  }
  return counts.map((nLatents, bin) => ({ low: (bin - nBins) / 2, high: (bin + 1 - nBins) / 2, nLatents }));
}
