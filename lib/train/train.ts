/**
 * Trains an SAE on a recording, on the CPU, after a recipe: the loop over the data around a trainer.
 *
 * @module
 */
import { createSae, type Sae } from "../sae/sae.ts";
import type { Shards, TokenKind } from "../shards/read.ts";
import { checkRecipe } from "./check_recipe.ts";
import { chooseRecipe, describeRecipe } from "./choose_recipe.ts";
import { openPasses } from "./passes.ts";
import type { PresetName } from "./presets.ts";
import type { TrainRecipe } from "./recipe.ts";
import type { TrainStep } from "./step.ts";
import { makeTrainer, type TrainerState } from "./trainer.ts";

export type { TrainStep } from "./step.ts";

/** Options of {@linkcode trainSae}. Numbers that are given take the place of the recipe's. */
export interface TrainOptions {
  /** A recorded layer. */
  layer: number;
  /** Number of latents. */
  dSae: number;
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
   * Tokens to train on.
   *
   * @default {"patches"}
   */
  tokens?: TokenKind;
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
