/**
 * From options to a recipe: a preset by its name, or a recipe as it is, with the numbers that were given in place of its
 * own.
 *
 * @module
 */
import { presets } from "./presets.ts";
import type { TrainRecipe } from "./recipe.ts";
import type { TrainOptions } from "./train.ts";

/** The part of the options that changes a recipe. */
export type RecipeOptions = Pick<
  TrainOptions,
  | "recipe"
  | "k"
  | "epochs"
  | "batchSize"
  | "learningRate"
  | "deadAfterTokens"
  | "kAux"
  | "auxWeight"
  | "seed"
>;

/**
 * The recipe that options ask for.
 *
 * @throws {RangeError} If there is no such recipe, or it has no `k`.
 */
export function chooseRecipe(options: RecipeOptions): TrainRecipe {
  const { recipe: chosen = "top-k", k, epochs, kAux, auxWeight } = options;
  if (typeof chosen === "string" && !Object.hasOwn(presets, chosen)) {
    const names = Object.keys(presets).join(", ");
    throw new RangeError(`Cannot train SAE: recipe must be one of ${names}, current value is ${chosen}`);
  }
  const recipe = typeof chosen === "string" ? presets[chosen] : chosen;
  const { activation, auxK = presets["top-k"].auxK!, dead, optimizer } = recipe;
  if (k !== undefined && !("k" in activation)) {
    throw new RangeError(
      `Cannot train SAE: the activation of a recipe with k must be one of topK, batchTopK, current value is ` +
        activation.kind,
    );
  }
  return {
    ...recipe,
    activation: k === undefined ? activation : { ...activation, k } as TrainRecipe["activation"],
    ...(kAux !== undefined || auxWeight !== undefined || recipe.auxK
      ? { auxK: { ...auxK, k: kAux ?? auxK.k, weight: auxWeight ?? auxK.weight } }
      : {}),
    dead: { ...dead, afterTokens: options.deadAfterTokens ?? dead.afterTokens },
    optimizer: { ...optimizer, learningRate: options.learningRate ?? optimizer.learningRate },
    batchSize: options.batchSize ?? recipe.batchSize,
    length: epochs === undefined ? recipe.length : { epochs },
    seed: options.seed ?? recipe.seed,
  };
}

/** What a file says of a recipe. */
export function describeRecipe(
  recipe: TrainRecipe,
  chosen: RecipeOptions["recipe"] = "top-k",
): Record<string, unknown> {
  const { length, batchSize, optimizer, auxK, seed } = recipe;
  return {
    recipe: typeof chosen === "string" ? chosen : inSnakeCase(recipe),
    ...inSnakeCase(length) as Record<string, number>,
    batch_size: batchSize,
    learning_rate: optimizer.learningRate,
    ...(auxK && { k_aux: auxK.k, aux_weight: auxK.weight }),
    seed,
  };
}

/** A value with the names of its fields as files have them. */
export function inSnakeCase(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      inSnakeCase(inner),
    ]),
  );
}
