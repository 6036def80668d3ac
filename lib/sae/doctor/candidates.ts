/**
 * Sets of conventions that the doctor tries, and how it ranks what came out under them.
 *
 * @module
 */
import {
  type NormalizationChoice,
  normalizationChoices,
  type RuleChoice,
  ruleChoices,
  subtractChoices,
} from "./conventions.ts";
import type { Sae } from "../sae.ts";
import type { ActivationStatistics } from "../statistics.ts";
import type { TrialResult } from "./trial.ts";

/** What the SAE's card says. */
export interface ExpectedNumbers {
  /** Mean number of active latents a token. */
  readonly l0?: number;
  /** Mean squared error over tokens and dimensions, in the space that the SAE was trained in. */
  readonly mse?: number;
  /** Squared error over variance, in the space of the activations. */
  readonly normalizedMse?: number;
}

/** One set of conventions on one kind of activations. */
export interface Convention {
  /** Number of the kind of activations, among those given. */
  readonly variant: number;
  /** How activations are normalized. */
  readonly normalization: NormalizationChoice;
  /** Whether `bDec` is subtracted from the input. */
  readonly subtractBDec: boolean;
  /** Activation rule. */
  readonly rule: RuleChoice;
}

/** One set of conventions, and what came out under it. */
export interface Candidate extends TrialResult {
  /** Name of the kind of activations. */
  readonly variant: string;
  /** Number of that kind, among those given. */
  readonly variantIndex: number;
  /** How activations were normalized. */
  readonly normalization: NormalizationChoice;
  /** Whether `bDec` was subtracted from the input. */
  readonly subtractBDec: boolean;
  /** Activation rule. */
  readonly rule: RuleChoice;
  /** How many of variant, normalization, `subtractBDec` and rule are other than what was read (or given first). */
  readonly nDepartures: number;
  /** `1 − normalizedMse`. */
  readonly explainedVariance: number;
  /** What it is ranked by: lower is better, differences are relative ones. `Infinity` where a number is not finite. */
  readonly score: number;
}

/** Scores on the same tokens that are nearer than this are equally good. */
const SAME_ACTIVATIONS = 0.02;

/**
 * The same for scores on activations of different kinds: some are a little easier to reconstruct than those that an SAE
 * was trained on, such as the same layer with another GELU.
 */
const OTHER_ACTIVATIONS = 0.1;

/** Normalized MSE below which one perfect reconstruction is like another. */
const PERFECT = 1e-3;

/** Every set of conventions worth trying, those that the SAE was read with first. */
export function allConventions(sae: Sae, statistics: readonly ActivationStatistics[]): Convention[] {
  return statistics.flatMap((measured, variant) =>
    normalizationChoices(sae, measured).flatMap((normalization) =>
      subtractChoices(sae).flatMap((subtractBDec) =>
        ruleChoices(sae).map((rule) => ({ variant, normalization, subtractBDec, rule }))
      )
    )
    // Deviations of a batch take two tokens.
  ).filter(({ variant, normalization }) => statistics[variant].nTokens > 1 || normalization.name !== "batch");
}

/** What came out, best first, each outcome once. */
export function rankCandidates(
  results: ReadonlyMap<Convention, TrialResult>,
  options: { name: (variant: number) => string; expected: ExpectedNumbers; sae: Sae },
): [Convention, Candidate][] {
  const { name, expected, sae } = options;
  const candidates = [...results].map(([convention, result]): [Convention, Candidate] => {
    const { variant, normalization, subtractBDec, rule } = convention;
    const departures = [variant > 0, !normalization.isAsRead, subtractBDec !== sae.subtractBDec, !rule.isAsRead];
    return [convention, {
      ...result,
      variant: name(variant),
      variantIndex: variant,
      normalization,
      subtractBDec,
      rule,
      nDepartures: departures.filter(Boolean).length,
      explainedVariance: 1 - result.normalizedMse,
      score: scoreOf(result, expected),
    }];
  });
  return bestFirst(leaveOutSame(candidates));
}

/** Sorts by score. Of equally good ones the one nearest to what was read comes first, or the first that is listed. */
function bestFirst(candidates: readonly [Convention, Candidate][]): [Convention, Candidate][] {
  const [, lowest] = candidates.reduce((a, b) => compareScores(b[1], a[1]) < 0 ? b : a);
  const [best] = candidates.filter(([, candidate]) => areEqual(candidate, lowest))
    .sort(([, a], [, b]) => a.nDepartures - b.nDepartures);
  const others = candidates.filter((candidate) => candidate !== best);
  return [best, ...others.sort(([, a], [, b]) => compareScores(a, b))];
}

/** Leaves out rules that made no difference to those before them, such as dropping negative values where none are. */
function leaveOutSame(candidates: readonly [Convention, Candidate][]): [Convention, Candidate][] {
  const seen = new Set<string>();
  return candidates.filter(([{ variant, normalization }, { subtractBDec, normalizedMse, mse, meanL0 }]) => {
    const outcome = [variant, normalization.name, subtractBDec, normalizedMse, mse, meanL0].join();
    return !seen.has(outcome) && seen.add(outcome);
  });
}

function scoreOf(result: TrialResult, expected: ExpectedNumbers): number {
  const { normalizedMse, mse, meanL0 } = result;
  const distance = (value: number, wanted: number | undefined) =>
    wanted === undefined ? 0 : Math.abs(Math.log(value / wanted));
  const hasError = expected.mse !== undefined || expected.normalizedMse !== undefined;
  const error = hasError
    ? distance(mse, expected.mse) + distance(normalizedMse, expected.normalizedMse)
    : Math.log(normalizedMse + PERFECT);
  const score = error + distance(meanL0, expected.l0);
  return Number.isNaN(score) ? Infinity : score;
}

/** Orders by score. Not by a difference: two infinities make NaN. */
export function compareScores(a: Candidate, b: Candidate): number {
  return a.score < b.score ? -1 : a.score > b.score ? 1 : 0;
}

/** Whether scores are so near that they do not tell two candidates apart. */
export function areEqual(a: Candidate, b: Candidate): boolean {
  const margin = a.variantIndex === b.variantIndex ? SAME_ACTIVATIONS : OTHER_ACTIVATIONS;
  return a.score === b.score || Math.abs(a.score - b.score) <= margin;
}
