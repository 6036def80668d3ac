/**
 * Trains an SAE on a recording, on the CPU, after a recipe: the loop over the data around a trainer.
 *
 * @module
 */
import { createSae, type Sae } from "../sae/sae.ts";
import { type Shards, type TokenKind, tokenRange } from "../shards/read.ts";
import { measureScale } from "./center.ts";
import { checkRecipe } from "./check_recipe.ts";
import { type PresetName, presets } from "./presets.ts";
import { seededRandom } from "./random.ts";
import type { TrainRecipe } from "./recipe.ts";
import { shuffledTokens } from "./shuffle.ts";
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

// Tokens that the start is measured and drawn from.
const INIT_TOKENS = 65_536;

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
  const { batchSize, length, seed } = recipe;
  const { metadata } = shards;
  const layer = shards.resolveLayer(options.layer);
  const dModel = metadata.d_model;
  const nTokens = metadata.n_images * tokenRange(metadata, tokens).count;
  const stepsPerEpoch = Math.ceil(nTokens / batchSize);
  const nSteps = "epochs" in length ? length.epochs * stepsPerEpoch : Math.ceil(length.tokens / batchSize);
  // Each pass has a seed of its own, so that a run goes on in the middle of one; number 0 is the look beforehand.
  const stream = (pass: number, size: number) =>
    shuffledTokens(shards, {
      ...{ layer, tokens, batchSize: size, signal },
      random: seededRandom(seed ^ Math.imul(pass, 0x9e3779b1)),
    });

  const trainer = await makeTrainer(recipe, {
    ...{ dModel, dSae, nSteps, threads, state: resume },
    sample: resume === undefined ? await readSample() : undefined,
  });
  try {
    let step = resume?.step ?? 0;
    while (step < nSteps) {
      const pass = Math.floor(step / stepsPerEpoch);
      let position = pass * stepsPerEpoch;
      for await (const x of stream(pass + 1, batchSize)) {
        if (position++ < step) continue;
        const log = await trainer.step(x);
        if (!Number.isFinite(log.loss)) throw notANumber(log, x, recipe);
        step = log.step;
        onStep?.(log);
        if (step % checkpointEvery === 0) await onCheckpoint?.(trainer.state());
        if (step === nSteps) break;
      }
    }
    return createSae(trainer.weights(), {
      model: { name: metadata.model.path.split(/[\\/]/).pop()!, sha256: metadata.model.sha256 },
      layer,
      hook: shards.hook,
      tokens,
      training: describeRecipe(recipe, options.recipe),
    });
  } finally {
    await trainer.close();
  }

  async function readSample(): Promise<Float32Array> {
    for await (const sample of stream(0, INIT_TOKENS)) {
      const { scale } = measureScale(sample, dModel);
      if (scale > 0 && Number.isFinite(scale)) return sample;
      throw new RangeError(
        `Cannot train SAE: activations of layer ${layer} must be finite numbers that vary, their distance from the ` +
          `mean is ${scale}`,
      );
    }
    throw new RangeError(`Cannot train SAE: the recording must hold tokens, it holds none`);
  }
}

/** The recipe that options ask for. */
function chooseRecipe(options: TrainOptions): TrainRecipe {
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
function describeRecipe(recipe: TrainRecipe, chosen: TrainOptions["recipe"] = "top-k"): Record<string, unknown> {
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

function inSnakeCase(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      inSnakeCase(inner),
    ]),
  );
}

function notANumber(log: TrainStep, x: Float32Array, recipe: TrainRecipe): Error {
  const remedy = x.every(Number.isFinite)
    ? `lower the learning rate from ${recipe.optimizer.learningRate}`
    : "the activations hold numbers that are not finite, record them again";
  return new Error(
    `Cannot go on training: the loss must be a number, it is ${log.loss} at step ${log.step - 1}; ${remedy}`,
  );
}
