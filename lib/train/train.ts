/**
 * Trains an SAE on a recording, on the CPU, after a recipe: the loop over the data around a trainer.
 *
 * @module
 */
import { createSae, type Sae } from "../sae/sae.ts";
import type { Shards, TokenKind } from "../shards/read.ts";
import { checkRecipe } from "./check_recipe.ts";
import { chooseRecipe, describeRecipe, type RecipeOptions } from "./choose_recipe.ts";
import { openPasses } from "./passes.ts";
import type { TrainRecipe } from "./recipe.ts";
import type { TrainStep } from "./step.ts";
import type { TrainerState } from "./start.ts";
import { makeTrainer } from "./trainer.ts";

export type { TrainStep } from "./step.ts";

/** Options of {@linkcode trainSae}. */
export interface TrainOptions extends RecipeOptions {
  /** A recorded layer. */
  layer: number;
  /** Number of latents. */
  dSae: number;
  /**
   * Tokens to train on.
   *
   * @default {"patches"}
   */
  tokens?: TokenKind;
  /**
   * Threads; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
  /**
   * State of an earlier run with the same options, to go on from with the same bits.
   *
   * @default the beginning
   */
  resume?: TrainerState;
  /** Stops between steps. */
  signal?: AbortSignal;
  /** Called after each step. */
  onStep?: (step: TrainStep) => void;
  /**
   * Steps between calls of `onCheckpoint`.
   *
   * @default {1000}
   */
  checkpointEvery?: number;
  /** Called with the state of the run, which changes once it returns: write or copy it. */
  onCheckpoint?: (state: TrainerState) => void | Promise<void>;
}

/**
 * Trains an SAE.
 *
 * @throws {RangeError} If the layer was not recorded, a number is out of its range, or the activations are not finite
 * numbers that vary.
 * @throws {Error} If the loss stops being a number.
 */
export async function trainSae(shards: Shards, options: TrainOptions): Promise<Sae> {
  const { dSae, tokens = "patches", threads = 0, resume, signal, onStep, onCheckpoint } = options;
  const { checkpointEvery = 1000 } = options;
  const recipe = checkRecipe(chooseRecipe(options), dSae);
  const { metadata, hook } = shards;
  const layer = shards.resolveLayer(options.layer);
  const { batchSize, length, seed } = recipe;
  const passes = openPasses(shards, { layer, tokens, batchSize, seed, signal });
  const nSteps = passes.countSteps(length);
  const trainer = await makeTrainer(recipe, {
    ...{ dModel: metadata.d_model, dSae, nSteps, threads, state: resume },
    sample: resume === undefined ? await passes.readSample() : undefined,
  });
  try {
    const firstStep = resume?.step ?? 0;
    if (firstStep < nSteps) {
      for await (const { x } of passes.batches(firstStep)) {
        const log = await trainer.step(x);
        if (!Number.isFinite(log.loss)) throw notANumber(log, x, recipe);
        onStep?.(log);
        if (log.step % checkpointEvery === 0) await onCheckpoint?.(trainer.state());
        if (log.step === nSteps) break;
      }
    }
    return createSae(trainer.weights(), {
      model: { name: metadata.model.path.split(/[\\/]/).pop()!, sha256: metadata.model.sha256 },
      layer,
      hook,
      tokens,
      training: describeRecipe(recipe, options.recipe),
    });
  } finally {
    await trainer.close();
  }
}

function notANumber(log: TrainStep, x: Float32Array, recipe: TrainRecipe): Error {
  const remedy = x.every(Number.isFinite)
    ? `lower the learning rate from ${recipe.optimizer.learningRate}`
    : "the activations hold numbers that are not finite, record them again";
  return new Error(
    `Cannot go on training: the loss must be a number, it is ${log.loss} at step ${log.step - 1}; ${remedy}`,
  );
}
