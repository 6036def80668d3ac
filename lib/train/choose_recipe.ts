/**
 * From options to a recipe: a preset by its name, or a recipe as it is, with the numbers that were given in place of its
 * own.
 *
 * @module
 */
import { type PresetName, presets } from "./presets.ts";
import type { TrainRecipe } from "./recipe.ts";

/** How to train. Numbers that are given take the place of the recipe's. */
export interface RecipeOptions {
  /**
   * How to train: the name of a preset, or a recipe.
   *
   * @default {"top-k"}
   */
  recipe?: PresetName | TrainRecipe;
  /**
   * Active latents a token, of recipes that have such a number.
   *
   * @default the recipe's
   */
  k?: number;
  /**
   * Passes over the recording.
   *
   * @default the recipe's length: 3 epochs for "top-k"
   */
  epochs?: number;
  /**
   * Tokens a step.
   *
   * @default the recipe's: 512 for "top-k"
   */
  batchSize?: number;
  /**
   * Highest learning rate.
   *
   * @default the recipe's: 3e-4 for "top-k"
   */
  learningRate?: number;
  /**
   * A latent is dead once it has not fired for this many tokens.
   *
   * @default the recipe's: 65,536 for "top-k"
   */
  deadAfterTokens?: number;
  /**
   * Dead latents that explain what is left over of a token (AuxK); 0 for none. Meant for long training: in one epoch on
   * the embedded model, 32 left more latents dead than 0 did.
   *
   * @default the recipe's: 0 for "top-k"
   */
  kAux?: number;
  /**
   * Weight of that loss.
   *
   * @default the recipe's: 1 / 32 for "top-k"
   */
  auxWeight?: number;
  /**
   * Seed of every random choice. The same seed gives the same SAE.
   *
   * @default the recipe's: 0 for "top-k"
   */
  seed?: number;
}

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
