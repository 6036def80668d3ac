/**
 * Does this SAE fit these activations, and under which conventions? Checkpoints leave out how activations were
 * normalized, whether `bDec` is subtracted and which rule follows, and a wrong guess gives wrong numbers with no error.
 * The doctor tries every convention on every kind of activations it is given: all of them on a few tokens, the best on
 * more, and ranks them by how well the activations as they were given are reconstructed.
 *
 * @module
 */
import type { DictionaryOptions } from "../../checkpoints/dictionary.ts";
import type { Backend } from "../../compute/contract.ts";
import {
  allConventions,
  type Candidate,
  compareScores,
  type Convention,
  type ExpectedNumbers,
  rankCandidates,
} from "./candidates.ts";
import { widerRule } from "./conventions.ts";
import type { Sidecar } from "../normalization_file.ts";
import type { Sae } from "../sae.ts";
import {
  type ActivationStatistics,
  type ActivationStream,
  measureStatistics,
  normalizationFrom,
  sampleTokens,
} from "../statistics.ts";
import { normalizeSample, openTrial, type Trial, type TrialResult } from "./trial.ts";
import { findWarnings, judge, type Verdict } from "./verdict.ts";

export type { Candidate, ExpectedNumbers, Verdict };

/** A kind of activations that the SAE may have been trained on. */
export interface ActivationVariant {
  /** Name for people: `"layer 10, patches"`. */
  readonly name: string;
  /**
   * 0-based block that they come from: one other than the SAE's own is warned about.
   *
   * @default not known
   */
  readonly layer?: number;
  /** Begins the activations anew, batches of shape `[nTokens, dModel]`. They are read up to three times. */
  readonly batches: ActivationStream;
}

/** Options of {@linkcode diagnoseSae}. */
export interface DiagnoseOptions {
  /** Where to compute. */
  backend: Backend;
  /**
   * Tokens of each variant on which the best conventions are measured.
   *
   * @default {2048}
   */
  nTokens?: number;
  /**
   * Tokens of each variant on which all conventions are tried.
   *
   * @default {256}
   */
  nScreenTokens?: number;
  /**
   * Conventions that go on from there, unless there is no hope; what was read and given first always does.
   *
   * @default {12}
   */
  nFinalists?: number;
  /**
   * Tokens of each variant over which means and deviations are measured.
   *
   * @default {131072}
   */
  maxStatisticsTokens?: number;
  /**
   * What the SAE's card says. An error that it gives is what conventions are ranked by; lower than the card is no better.
   *
   * @default nothing
   */
  expected?: ExpectedNumbers;
  /** Stops between batches. */
  signal?: AbortSignal;
  /** Called with the number of conventions measured, and of all. */
  onProgress?: (done: number, total: number) => void;
}

/** What the doctor found. */
export interface Diagnosis {
  /** Whether the SAE fits. */
  readonly verdict: Verdict;
  /** The verdict in words, and what to do. */
  readonly text: string;
  /** What else should be known, a sentence each. */
  readonly warnings: readonly string[];
  /** The conventions to use. Of equally good ones, those nearest to what was read. */
  readonly best: Candidate;
  /** Those that came furthest, best first; `nTokens` is small where there was no hope. */
  readonly candidates: readonly Candidate[];
  /** How many were tried. */
  readonly nTried: number;
  /** What opens the SAE as `best` has it: options of `loadSae()`, empty where it was read so. */
  readonly options: DictionaryOptions;
  /** The same for `writeSidecar()`; `undefined` where nothing fits. Statistics of batches are measured and fixed. */
  readonly sidecar: Sidecar | undefined;
}

/** How much worse than the best on a few tokens is not worth more of them: three times the error. */
const HOPELESS = Math.log(3);

/**
 * Tries an SAE under every convention on every variant of activations.
 *
 * @param variants The first one is what the SAE is thought to belong to.
 * @throws {RangeError} If there is no variant, one has no tokens or another width, a number in it is not finite, or an
 *   option is out of range.
 */
export async function diagnoseSae(
  sae: Sae,
  variants: readonly ActivationVariant[],
  options: DiagnoseOptions,
): Promise<Diagnosis> {
  const { backend, nTokens = 2048, nScreenTokens = 256, nFinalists = 12, expected = {}, signal } = options;
  if (variants.length === 0) throw new RangeError("Cannot diagnose SAE: there must be activations, there are none");
  for (const [name, value] of Object.entries({ nTokens, nScreenTokens, nFinalists })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new RangeError(`Cannot diagnose SAE: ${name} must be an integer of 1 or more, current value is ${value}`);
  }
  const { dModel } = sae;
  const statistics: ActivationStatistics[] = [];
  const samples: Float32Array[] = [];
  for (const { batches } of variants) {
    const limits = { dModel, maxTokens: options.maxStatisticsTokens ?? 131_072, signal };
    statistics.push(await measureStatistics(batches, limits));
    samples.push(await sampleTokens(batches, { ...limits, nTokens }));
  }
  const conventions = allConventions(sae, statistics);
  const rank = (results: ReadonlyMap<Convention, TrialResult>) =>
    rankCandidates(results, { name: (variant) => variants[variant].name, expected, sae });
  const isAsRead = ({ normalization, subtractBDec, rule }: Convention) =>
    normalization.isAsRead && rule.isAsRead && subtractBDec === sae.subtractBDec;

  const screened = samples.map((sample) => thinOut(sample, { dModel, nTokens: nScreenTokens }));
  const total = conventions.length + Math.min(conventions.length, nFinalists + 1);
  let done = 0;
  const onMeasured = (n: number) => options.onProgress?.(Math.min(done += n, total), total);
  const trial = openTrial(sae, backend);
  try {
    const screening = await measure(trial, conventions, { samples: screened, dModel, signal, onMeasured });
    const shown = rank(screening).slice(0, nFinalists);
    const [[, { score: lowest }]] = shown;
    const finalists = new Set(conventions.filter((c) => c.variant === 0 && isAsRead(c)));
    for (const [convention, { score }] of shown) if (score <= lowest + HOPELESS) finalists.add(convention);
    const [[convention, best], ...finals] = rank(
      await measure(trial, [...finalists], { samples, dModel, signal, onMeasured }),
    );
    options.onProgress?.(total, total);

    const others = [...finals, ...shown.filter(([convention]) => !finalists.has(convention))]
      .map(([, candidate]) => candidate).sort(compareScores);
    const candidates = [best, ...others];
    const { verdict, text } = judge(candidates, { nTried: conventions.length, expected });
    return {
      verdict,
      text,
      warnings: findWarnings(candidates, { sae, expected, layers: variants.map(({ layer }) => layer) }),
      best,
      candidates,
      nTried: conventions.length,
      options: openingOptions(sae, best),
      sidecar: verdict === "fitsNothing" ? undefined : toSidecar(best, statistics[convention.variant]),
    };
  } finally {
    await trial.dispose();
  }
}

/** Measures conventions: each normalization is done once, each product with the encoder once. */
async function measure(
  trial: Trial,
  conventions: readonly Convention[],
  options: {
    samples: readonly Float32Array[];
    dModel: number;
    signal?: AbortSignal;
    onMeasured: (n: number) => void;
  },
): Promise<Map<Convention, TrialResult>> {
  const { samples, dModel, signal, onMeasured } = options;
  const results = new Map<Convention, TrialResult>();
  for (const sameInput of group(conventions, ({ variant, normalization }) => `${variant} ${normalization.name}`)) {
    const [{ variant, normalization: choice }] = sameInput;
    const sample = normalizeSample(samples[variant], { dModel, choice });
    for (const shared of group(sameInput, (c) => `${c.subtractBDec} ${widerRule(c.rule.rule).kind}`)) {
      const rules = shared.map(({ rule }) => rule.rule);
      const measured = await trial.run(sample, { rules, subtractBDec: shared[0].subtractBDec, signal });
      shared.forEach((convention, i) => results.set(convention, measured[i]));
      onMeasured(shared.length);
    }
  }
  return results;
}

function openingOptions(sae: Sae, best: Candidate): Diagnosis["options"] {
  const { normalization, subtractBDec, rule } = best;
  return {
    ...(normalization.isAsRead ? {} : { normalization: normalization.normalization }),
    ...(subtractBDec === sae.subtractBDec ? {} : { subtractBDec }),
    ...(rule.isAsRead ? {} : { rule: rule.rule }),
  };
}

function toSidecar(best: Candidate, statistics: ActivationStatistics): Sidecar {
  const { normalization: { normalization }, subtractBDec, rule: { rule, isAsRead } } = best;
  return {
    normalization: normalization.kind === "batch" ? normalizationFrom(statistics, "meanStd") : normalization,
    subtractBDec,
    ...(isAsRead || rule.kind === "jumpRelu" ? {} : { rule }),
    note: `Found by the doctor on ${best.variant}, ${statistics.nTokens} tokens: ` +
      `normalized MSE ${best.normalizedMse.toPrecision(3)}, L0 ${best.meanL0.toFixed(1)}`,
  };
}

/** Tokens at even distances. */
function thinOut(sample: Float32Array, options: { dModel: number; nTokens: number }): Float32Array {
  const { dModel, nTokens } = options;
  const nAll = sample.length / dModel;
  if (nAll <= nTokens) return sample;
  const thinned = new Float32Array(nTokens * dModel);
  for (let i = 0; i < nTokens; i++) {
    const start = Math.floor(i * nAll / nTokens) * dModel;
    thinned.set(sample.subarray(start, start + dModel), i * dModel);
  }
  return thinned;
}

function group<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return [...groups.values()];
}
