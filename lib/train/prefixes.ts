/**
 * Lengths of the dictionary prefixes that a step trains (Matryoshka, https://arxiv.org/abs/2503.17547).
 *
 * @module
 */
import type { TrainPrefixes } from "./recipe.ts";

/** How many prefixes a step has at most. */
export function countPrefixes(prefixes: TrainPrefixes | undefined): number {
  if (prefixes === undefined) return 1;
  return prefixes.kind === "sampled" ? prefixes.count : prefixes.shares.length;
}

/** Prefix lengths of a step, ascending; the last one is `dSae`. */
export function choosePrefixes(
  prefixes: TrainPrefixes | undefined,
  options: { dSae: number; random: () => number },
): Uint32Array {
  const { dSae, random } = options;
  if (prefixes === undefined) return Uint32Array.of(dSae);
  if (prefixes.kind === "sampled") return samplePrefixes(prefixes, dSae, random);
  const lengths: number[] = [];
  let before = 0;
  for (const share of prefixes.shares.slice(0, -1)) {
    before += Math.floor(share * dSae);
    if (before > (lengths.at(-1) ?? 0) && before < dSae) lengths.push(before);
  }
  return Uint32Array.of(...lengths, dSae);
}

/**
 * Probability of each length from 1 to `dSae − 1`: differences of `1 − (minimum / length) ** power`, which is 0 up to
 * `minimum`, made to add up to 1. Length 1 never comes, as in saev.
 */
export function prefixProbabilities(dSae: number, options: { minimum: number; power: number }): Float64Array {
  const { minimum, power } = options;
  const below = (length: number) => length < minimum ? 0 : 1 - (minimum / length) ** power;
  const steps = Float64Array.from({ length: dSae - 1 }, (_, i) => i === 0 ? 0 : below(i + 1) - below(i));
  const total = steps.reduce((sum, step) => sum + step, 0);
  return steps.map((step) => step / total);
}

function samplePrefixes(
  prefixes: TrainPrefixes & { kind: "sampled" },
  dSae: number,
  random: () => number,
): Uint32Array {
  const probabilities = prefixProbabilities(dSae, prefixes);
  // The smallest of independent exponential times, each at its length's rate: a draw without repetition.
  const times = probabilities.map((rate) => rate > 0 ? -Math.log(1 - random()) / rate : Infinity);
  const order = Array.from(times.keys()).filter((i) => times[i] < Infinity).sort((a, b) => times[a] - times[b]);
  return Uint32Array.of(...order.slice(0, prefixes.count - 1).map((i) => i + 1), dSae).sort();
}
