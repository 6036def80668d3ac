/**
 * Tries an SAE under one set of conventions after another on a sample of activations. The weights are laid out once for
 * each rule, since a normalization and the subtraction of `bDec` are done to the activations beforehand.
 *
 * @module
 */
import type { ActivationRule, Backend, LoadedSae, SaeWeights, SparseLatents } from "../../compute/contract.ts";
import { normalizeInput, restoreOutput } from "../../compute/normalize.ts";
import { narrowLatents, type NormalizationChoice, widerRule } from "./conventions.ts";

/** What came out under one set of conventions. Errors are in the space of the activations as they were given. */
export interface TrialResult {
  /** Tokens that were measured: fewer than were given where latents were far from sparse. */
  readonly nTokens: number;
  /** `Σ|x̂ − x|² / Σ|x − mean|²`, the mean over the whole sample. */
  readonly normalizedMse: number;
  /** The same for a reconstruction by the biases alone, with no latent active. */
  readonly biasNormalizedMse: number;
  /** Mean squared error over tokens and dimensions, in the normalized space that the SAE was trained in. */
  readonly mse: number;
  /** Mean number of latents above zero per token. */
  readonly meanL0: number;
  /** Share of the latents that were not above zero on any token. */
  readonly deadFraction: number;
}

/** A sample of activations under one normalization. */
export interface NormalizedSample {
  /** As they were given, shape `[nTokens, dModel]`. */
  readonly raw: Float32Array;
  /** As the encoder takes them. */
  readonly normalized: ReturnType<typeof normalizeInput>;
  /** Squared distance from the mean of each token, shape `[nTokens]`. */
  readonly variances: Float64Array;
}

/** Tokens that are encoded at a time. */
const CHUNK_TOKENS = 256;

/**
 * Latents a token that are decoded on average: beyond that, so many tokens fewer are measured. A dictionary that is used
 * as it was trained has tens or hundreds; wrong conventions have thousands, and need no exact number.
 */
const MAX_MEAN_ENTRIES = 1024;

/** Normalizes a sample. Statistics of a batch are those of the whole sample. */
export function normalizeSample(
  raw: Float32Array,
  options: { dModel: number; choice: NormalizationChoice },
): NormalizedSample {
  const { dModel, choice } = options;
  const normalized = normalizeInput(raw, { dModel, normalization: choice.normalization });
  return { raw, normalized, variances: squaredDistances(raw, dModel) };
}

/** An SAE on a back end, with the weights of every rule that was tried. */
export interface Trial {
  /**
   * Measures one sample under several rules that share a product with the encoder.
   *
   * @param rules Those that have the same {@linkcode widerRule}.
   */
  run(
    sample: NormalizedSample,
    options: { rules: readonly ActivationRule[]; subtractBDec: boolean; signal?: AbortSignal },
  ): Promise<TrialResult[]>;
  /** Frees the weights on the device. */
  dispose(): Promise<void>;
}

/** Opens an SAE for trials. */
export function openTrial(sae: SaeWeights, backend: Backend): Trial {
  const { dModel, bDec } = sae;
  const loaded = new Map<string, Promise<LoadedSae>>();
  const load = (rule: ActivationRule) => {
    const wider = widerRule(rule);
    const found = loaded.get(wider.kind) ??
      backend.load({ ...sae, rule: wider, normalization: undefined, subtractBDec: false });
    loaded.set(wider.kind, found);
    return found;
  };
  return {
    async run(sample, { rules, subtractBDec, signal }) {
      const onDevice = await load(rules[0]);
      const { x } = sample.normalized;
      const nTokens = x.length / dModel;
      const tallies = rules.map(() => new Tally(sae, sample));
      // A rule of a batch sees the whole sample at once.
      const chunk = rules[0].kind === "batchTopK" ? nTokens : CHUNK_TOKENS;
      for (let first = 0; first < nTokens; first += chunk) {
        signal?.throwIfAborted();
        const rows = x.subarray(first * dModel, (first + chunk) * dModel);
        const encoded = await onDevice.encode(subtractBDec ? rows.map((value, i) => value - bDec[i % dModel]) : rows);
        for (const [i, rule] of rules.entries()) {
          if (tallies[i].nEntries >= nTokens * MAX_MEAN_ENTRIES) continue;
          const latents = firstTokens(narrowLatents(encoded, rule), nTokens * MAX_MEAN_ENTRIES - tallies[i].nEntries);
          tallies[i].add(latents, await onDevice.decode(latents), first);
        }
      }
      return tallies.map((tally) => tally.result());
    },
    async dispose() {
      for (const sae of loaded.values()) await (await sae).dispose();
      loaded.clear();
    },
  };
}

/** Sums over the tokens measured so far. */
class Tally {
  readonly #sae: SaeWeights;
  readonly #sample: NormalizedSample;
  readonly #fired: Uint8Array;
  #nTokens = 0;
  #nActive = 0;
  #error = 0;
  #biasError = 0;
  #inputError = 0;
  #variance = 0;
  nEntries = 0;

  constructor(sae: SaeWeights, sample: NormalizedSample) {
    this.#sae = sae;
    this.#sample = sample;
    this.#fired = new Uint8Array(sae.dSae);
  }

  /**
   * Adds a stretch of tokens.
   *
   * @param reconstruction Of the normalized activations.
   * @param first Number of its first token in the sample.
   */
  add(latents: SparseLatents, reconstruction: Float32Array, first: number): void {
    const { dModel, bDec } = this.#sae;
    const { raw, normalized, variances } = this.#sample;
    const { nTokens, indices, values } = latents;
    const start = first * dModel;
    const statistics = sliceStatistics(normalized.statistics, first, nTokens);
    const restored = restoreOutput(reconstruction, { dModel, statistics });
    const biases = reconstruction.map((_, i) => bDec[i % dModel]);
    const restoredBiases = restoreOutput(biases, { dModel, statistics });
    for (let i = 0; i < reconstruction.length; i++) {
      this.#error += (restored[i] - raw[start + i]) ** 2;
      this.#biasError += (restoredBiases[i] - raw[start + i]) ** 2;
      this.#inputError += (reconstruction[i] - normalized.x[start + i]) ** 2;
    }
    for (let token = first; token < first + nTokens; token++) this.#variance += variances[token];
    for (let entry = 0; entry < values.length; entry++) {
      if (!(values[entry] > 0)) continue;
      this.#nActive++;
      this.#fired[indices[entry]] = 1;
    }
    this.#nTokens += nTokens;
    this.nEntries += values.length;
  }

  result(): TrialResult {
    const { dModel, dSae } = this.#sae;
    const nTokens = this.#nTokens;
    return {
      nTokens,
      normalizedMse: this.#error / this.#variance,
      biasNormalizedMse: this.#biasError / this.#variance,
      mse: this.#inputError / (nTokens * dModel),
      meanL0: this.#nActive / nTokens,
      deadFraction: 1 - this.#fired.reduce((total, fired) => total + fired, 0) / dSae,
    };
  }
}

/** The first tokens, at least one, that have no more than `maxEntries` together. */
function firstTokens(latents: SparseLatents, maxEntries: number): SparseLatents {
  const { offsets, indices, values } = latents;
  if (values.length <= maxEntries) return latents;
  const nTokens = Math.max(1, offsets.findLastIndex((offset) => offset <= maxEntries));
  const end = offsets[nTokens];
  return {
    ...latents,
    nTokens,
    offsets: offsets.subarray(0, nTokens + 1),
    indices: indices.subarray(0, end),
    values: values.subarray(0, end),
  };
}

function sliceStatistics(
  statistics: NormalizedSample["normalized"]["statistics"],
  first: number,
  nTokens: number,
): NormalizedSample["normalized"]["statistics"] {
  if (statistics?.per !== "token") return statistics;
  const { mean, scale } = statistics;
  return { per: "token", mean: mean.subarray(first, first + nTokens), scale: scale.subarray(first, first + nTokens) };
}

function squaredDistances(x: Float32Array, dModel: number): Float64Array {
  const nTokens = x.length / dModel;
  const sums = new Float64Array(dModel);
  for (let i = 0; i < x.length; i++) sums[i % dModel] += x[i];
  const distances = new Float64Array(nTokens);
  for (let i = 0; i < x.length; i++) distances[Math.floor(i / dModel)] += (x[i] - sums[i % dModel] / nTokens) ** 2;
  return distances;
}
