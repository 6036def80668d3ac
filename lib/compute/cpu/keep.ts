/**
 * Applies an activation rule to the pre-activations of the latents that may matter.
 *
 * @module
 */
import { jumpReluFloors, type TokenRule } from "../contract.ts";
import type { Entries } from "./entry_list.ts";
import { selectLargest } from "./select_largest.ts";
import { LEAST_POSITIVE } from "./threshold.ts";

/** Latents that may matter, and their pre-activations; those of a token ascend. */
export interface Candidates {
  readonly latents: Uint32Array;
  readonly values: Float32Array;
}

/**
 * Marks entries `start` up to `end`, those of one token, that the rule keeps with 1, and others with 0.
 *
 * @returns How many it keeps.
 */
export type KeepRule = (
  candidates: Candidates,
  isKept: Uint8Array,
  token: { start: number; end: number },
) => number;

/** Makes the function that applies a rule. */
export function makeKeepRule(rule: TokenRule): KeepRule {
  if (rule.kind === "topK") return keepTopK(rule);
  const floors = rule.kind === "jumpRelu" ? jumpReluFloors(rule) : undefined;
  return ({ latents, values }, isKept, { start, end }) => {
    let nKept = 0;
    for (let i = start; i < end; i++) {
      const floor = floors === undefined ? 0 : floors[latents[i]];
      const keeps = values[i] > floor ? 1 : 0;
      isKept[i] = keeps;
      nKept += keeps;
    }
    return nKept;
  };
}

/**
 * Tokens of which a latent that counts may not be among the candidates: under TopK those whose `k`-th largest value is
 * below the threshold that the others are below.
 */
export function findUnsure(rule: TokenRule, { values, starts, ends, thresholds }: Entries & Candidates): number[] {
  if (rule.kind !== "topK") return [];
  const { k, relu } = rule;
  const unsure: number[] = [];
  for (let token = 0; token < starts.length; token++) {
    const threshold = thresholds[token];
    // What is not above zero does not count, so nothing that counts is below.
    if (threshold === -Infinity || (relu && threshold <= LEAST_POSITIVE)) continue;
    let nAbove = 0;
    for (let i = starts[token]; i < ends[token]; i++) if (values[i] >= threshold) nAbove++;
    if (nAbove < k) unsure.push(token);
  }
  return unsure;
}

/** The `k` largest, of equal ones the lower latents; what is zero counts among them, and is left out. */
function keepTopK({ k, relu }: { k: number; relu: boolean }): KeepRule {
  const floor = relu ? 0 : -Infinity;
  let scratch = new Float32Array(0);
  return ({ values }, isKept, { start, end }) => {
    if (scratch.length < end - start) scratch = new Float32Array(2 * (end - start));
    let nAbove = 0;
    for (let i = start; i < end; i++) {
      const value = values[i];
      // Written so that NaN is left out.
      if (value > floor) scratch[nAbove++] = value;
    }
    const least = nAbove > k ? selectLargest(scratch.subarray(0, nAbove), k) : floor;
    let nEqual = k;
    for (let i = 0; i < nAbove; i++) if (scratch[i] > least) nEqual--;
    let nKept = 0;
    for (let i = start; i < end; i++) {
      const value = values[i];
      const counts = value > least || (value === least && nAbove > k && nEqual-- > 0);
      const keeps = counts && value !== 0 ? 1 : 0;
      isKept[i] = keeps;
      nKept += keeps;
    }
    return nKept;
  };
}
