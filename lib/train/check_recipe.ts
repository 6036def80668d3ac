/**
 * Finds out beforehand whether a recipe can be followed.
 *
 * @module
 */
import type { TrainRecipe } from "./recipe.ts";

/**
 * Checks a recipe against the size of a dictionary.
 *
 * @throws {RangeError} If a number is out of its range, or parts do not go together.
 */
export function checkRecipe(recipe: TrainRecipe, dSae: number): TrainRecipe {
  const { activation, auxK, prefixes, sparsity, optimizer, batchSize, dead, biasRise, clipNorm = Infinity } = recipe;
  const fail = (what: string, wanted: string, current: unknown): never => {
    throw new RangeError(`Cannot train SAE: ${what} must be ${wanted}, current value is ${current}`);
  };
  const atLeast = (what: string, value: number, low: number) => value >= low || fail(what, `${low} or more`, value);
  const above = (what: string, value: number) => value > 0 || fail(what, "above 0", value);
  if (!(Number.isInteger(dSae) && dSae >= 1)) fail("dSae", "an integer of 1 or more", dSae);
  if (!(Number.isInteger(batchSize) && batchSize >= 1)) fail("batchSize", "an integer of 1 or more", batchSize);
  if ("k" in activation && !(Number.isInteger(activation.k) && activation.k >= 1 && activation.k <= dSae)) {
    fail("k", `an integer between 1 and dSae ${dSae}`, activation.k);
  }
  if (activation.kind === "jumpRelu") {
    above("bandwidth", activation.bandwidth);
    above("initialThreshold", activation.initialThreshold);
  }
  atLeast("coefficient of sparsity", sparsity.coefficient, 0);
  above("learningRate", optimizer.learningRate);
  above("afterTokens of dead latents", dead.afterTokens);
  if (biasRise !== undefined) {
    above("afterTokens of biasRise", biasRise.afterTokens);
    above("learningRates of biasRise", biasRise.learningRates);
  }
  above("clipNorm", clipNorm);
  if (auxK !== undefined) {
    if (!(Number.isInteger(auxK.k) && auxK.k >= 0)) fail("k of auxK", "an integer of 0 or more", auxK.k);
    if (activation.kind === "jumpRelu" || activation.kind === "gated") {
      fail("activation with auxK", "one of relu, topK, batchTopK", activation.kind);
    }
  }
  if (prefixes?.kind === "shares") {
    const total = prefixes.shares.reduce((sum, share) => sum + share, 0);
    if (Math.abs(total - 1) > 1e-9) fail("sum of prefix shares", "1", total);
  } else if (prefixes !== undefined) {
    if (!(Number.isInteger(prefixes.count) && prefixes.count >= 1 && prefixes.count <= dSae)) {
      fail("count of prefixes", `an integer between 1 and dSae ${dSae}`, prefixes.count);
    }
  }
  return recipe;
}
