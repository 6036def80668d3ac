/**
 * Trains an SAE on a recording or on images after a recipe: the loop over the data around a trainer.
 *
 * @module
 */
import { createSae, type Sae } from "../sae/sae.ts";
import type { Shards, TokenKind } from "../shards/read.ts";
import { checkRecipe } from "./check_recipe.ts";
import { chooseRecipe, describeRecipe, type RecipeOptions } from "./choose_recipe.ts";
import { openPasses } from "./passes.ts";
import type { TrainRecipe } from "./recipe.ts";
import { provenanceOf, type TokenSource, toTokenSource } from "./source.ts";
import type { TrainStep } from "./step.ts";
import type { TrainerOptions, TrainerState } from "./start.ts";
import { makeTrainer } from "./trainer.ts";

export type { TrainStep } from "./step.ts";

/** Options of {@linkcode trainSae}. */
export interface TrainOptions extends RecipeOptions, Pick<TrainerOptions, "backend" | "adapter" | "onWarning"> {
  /** A recorded layer, or one of the ViT's; negative ones count from the last. */
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
   * Memory that tokens are shuffled in, in bytes. An epoch that fits, 4 bytes a number, is shuffled perfectly. The order
   * of the tokens depends on it, and on nothing else but the seed.
   *
   * @default {512_000_000}
   */
  poolBytes?: number;
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
  /**
   * Called with the state of the run every `checkpointEvery` steps, after the last one, and where `signal` stops it. The
   * state changes once it returns: write or copy it.
   */
  onCheckpoint?: (state: TrainerState) => void | Promise<void>;
}

/**
 * Trains an SAE.
 *
 * @param data A recording; or, from {@linkcode shardTokens} and {@linkcode imageTokens}, some of its images, or images
 *   that a ViT looks at anew in each pass.
 * @throws {RangeError} If there is no such layer, a number is out of its range, or the activations are not finite numbers
 * that vary.
 * @throws {Error} If the loss stops being a number, or an image cannot be read.
 */
export async function trainSae(data: Shards | TokenSource, options: TrainOptions): Promise<Sae> {
  const { dSae, tokens = "patches", poolBytes, threads = 0, resume, signal, onStep, onCheckpoint } = options;
  const { checkpointEvery = 1000 } = options;
  const source = toTokenSource(data);
  const recipe = checkRecipe(chooseRecipe(options), dSae);
  const layer = source.resolveLayer(options.layer);
  const { batchSize, length, seed } = recipe;
  const passes = openPasses(source, { layer, tokens, batchSize, poolBytes, seed, signal });
  const nSteps = passes.countSteps(length);
  const trainer = await makeTrainer(recipe, {
    ...{ dModel: source.info.d_model, dSae, nSteps, threads, state: resume },
    ...{ backend: options.backend, adapter: options.adapter, onWarning: options.onWarning },
    sample: resume === undefined ? await passes.readSample() : undefined,
  });
  try {
    const firstStep = resume?.step ?? 0;
    if (firstStep < nSteps) {
      for await (const { x } of passes.batches(firstStep)) {
        const log = await trainer.step(x);
        if (!Number.isFinite(log.loss)) throw notANumber(log, x, recipe);
        onStep?.(log);
        const isLast = log.step === nSteps;
        if (log.step % checkpointEvery === 0 || isLast) await onCheckpoint?.(await trainer.state());
        signal?.throwIfAborted();
        if (isLast) break;
      }
    }
    return createSae(await trainer.weights(), {
      ...provenanceOf(source, { layer, tokens }),
      training: describeRecipe(recipe, options.recipe),
    });
  } catch (error) {
    // What the signal stops is between two steps.
    if (signal?.aborted && error === signal.reason) await onCheckpoint?.(await trainer.state());
    throw error;
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
