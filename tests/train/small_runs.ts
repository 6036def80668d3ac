/**
 * Training small enough to learn something in a second: data that a dictionary can explain, and every preset cut down.
 *
 * @module
 */
import { type PresetName, presets } from "../../lib/train/presets.ts";
import { seededRandom } from "../../lib/train/random.ts";
import type { TrainRecipe } from "../../lib/train/recipe.ts";
import { randomFloats } from "../support/reference.ts";

/** Sizes of the runs. */
export const [dModel, dSae, nTokens, nSteps] = [6, 20, 48, 60];

const random = seededRandom(21);
const directions = randomFloats(12 * dModel, random);

/** Tokens of two directions each, around a constant. */
function tokens(n: number): Float32Array {
  const x = new Float32Array(n * dModel).fill(0.5);
  for (let token = 0; token < n; token++) {
    for (let part = 0; part < 2; part++) {
      const row = Math.floor(random() * 12) * dModel;
      const weight = 2 + 2 * random();
      for (let d = 0; d < dModel; d++) x[token * dModel + d] += weight * directions[row + d];
    }
  }
  return x;
}

/** Tokens to begin from. */
export const sample: Float32Array = tokens(400);
/** The batch of each step. */
export const batches: readonly Float32Array[] = Array.from({ length: nSteps }, () => tokens(nTokens));

/** A preset, made small enough to learn something in sixty steps. */
export function small(name: PresetName): TrainRecipe {
  const recipe = presets[name];
  const { activation, prefixes, optimizer, sparsity } = recipe;
  return {
    ...recipe,
    activation: "k" in activation
      ? { ...activation, k: 3, ...(activation.kind === "batchTopK" && { momentum: 0.1, thresholdFrom: 0 }) }
      : activation.kind === "jumpRelu"
      ? { ...activation, bandwidth: 0.1, initialThreshold: 0.05 }
      : activation,
    ...(prefixes?.kind === "sampled" && { prefixes: { ...prefixes, count: 3 } }),
    optimizer: { ...optimizer, learningRate: 0.02 },
    sparsity: { ...sparsity, coefficient: sparsity.coefficient / 10, warmUp: 5 },
    schedule: { ...recipe.schedule, warmUp: 5 },
    dead: { ...recipe.dead, afterTokens: 200 },
    seed: 3,
  };
}
