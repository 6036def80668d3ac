/**
 * Applies an activation rule to the pre-activations of the latents that a screen found, and says of which tokens it may
 * have found too few.
 *
 * @module
 */
import { jumpReluFloors, type TokenRule } from "../contract.ts";
import type { FoundLatents } from "./latent_gatherer.ts";

/** What a rule says of some tokens. */
export interface Kept {
  /** 1 for each entry that is kept. */
  readonly isKept: Uint8Array;
  /** How many entries of each token it took to be sure, or may take, shape `[nTokens]`. */
  readonly needed: Uint32Array;
  /** Tokens, ascending, of which a latent that counts may not have been found. */
  readonly unsure: number[];
}

/** A rule, for found latents and their pre-activations. */
export type KeepRule = (found: FoundLatents, values: Float32Array) => Kept;

/** Makes the function that applies a rule. */
export function makeKeepRule(rule: TokenRule): KeepRule {
  return rule.kind === "topK" ? keepTopK(rule) : keepAbove(rule.kind === "jumpRelu" ? jumpReluFloors(rule) : undefined);
}

/** Keeps what is above a floor, which bounds and limits are relative to. */
function keepAbove(floors: Float32Array | undefined): KeepRule {
  return ({ offsets, latents, limits }, values) => {
    const isKept = new Uint8Array(values.length);
    for (let i = 0; i < values.length; i++) isKept[i] = values[i] > (floors?.[latents[i]] ?? 0) ? 1 : 0;
    const needed = new Uint32Array(limits.length);
    const unsure: number[] = [];
    for (let token = 0; token < limits.length; token++) {
      needed[token] = offsets[token + 1] - offsets[token];
      if (limits[token] <= 0) continue;
      unsure.push(token);
      needed[token] *= 2;
    }
    return { isKept, needed, unsure };
  };
}

/** Keeps the `k` largest of each token, of equal ones the lower latents. */
function keepTopK({ k, relu }: { k: number; relu: boolean }): KeepRule {
  const floor = relu ? 0 : -Infinity;
  return ({ offsets, latents, bounds, limits }, values) => {
    const isKept = new Uint8Array(values.length);
    const needed = new Uint32Array(limits.length);
    const unsure: number[] = [];
    for (let token = 0; token < limits.length; token++) {
      const [start, end] = [offsets[token], offsets[token + 1]];
      const above = values.subarray(start, end).filter((value) => value > floor);
      const isFull = above.length >= k;
      const least = isFull ? selectLargest(above, k) : floor;
      let nEqual = k;
      for (let i = start; i < end; i++) {
        if (bounds[i] >= least) needed[token]++;
        if (!(values[i] > least)) continue;
        isKept[i] = 1;
        nEqual--;
      }
      if (isFull) keepEqual({ least, nEqual, start, end }, { latents, values, isKept });
      // What was not found is smaller than the last one kept; where there is room left, it is nothing that counts.
      if (isFull ? limits[token] < least : limits[token] <= floor) continue;
      unsure.push(token);
      needed[token] *= 2;
    }
    return { isKept, needed, unsure };
  };
}

/** Marks those of the lowest latents among entries that equal the last one kept. */
function keepEqual(
  tie: { least: number; nEqual: number; start: number; end: number },
  entries: { latents: Uint32Array; values: Float32Array; isKept: Uint8Array },
): void {
  const { least, nEqual, start, end } = tie;
  const { latents, values, isKept } = entries;
  const equal: number[] = [];
  for (let i = start; i < end; i++) if (values[i] === least) equal.push(i);
  if (equal.length > nEqual) equal.sort((a, b) => latents[a] - latents[b]);
  for (const i of equal.slice(0, nEqual)) isKept[i] = 1;
}

/**
 * The `rank`-th largest number, by Hoare's selection; moves the numbers about.
 *
 * @param rank 1 to the number of numbers, none of which is NaN.
 */
export function selectLargest(numbers: Float32Array, rank: number): number {
  const wanted = rank - 1;
  let [low, high] = [0, numbers.length - 1];
  while (low < high) {
    const pivot = numbers[(low + high) >>> 1];
    let [i, j] = [low, high];
    while (i <= j) {
      while (numbers[i] > pivot) i++;
      while (numbers[j] < pivot) j--;
      if (i > j) break;
      const number = numbers[i];
      numbers[i++] = numbers[j];
      numbers[j--] = number;
    }
    if (wanted <= j) high = j;
    else if (wanted >= i) low = i;
    else break;
  }
  return numbers[wanted];
}
