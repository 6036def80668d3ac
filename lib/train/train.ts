/**
 * Trains a TopK SAE on a recording, on the CPU: encode in onnxruntime, everything after it sparse.
 *
 * @module
 */
import { createSae, type Sae } from "../sae/sae.ts";
import { type Shards, type TokenKind, tokenRange } from "../shards/read.ts";
import { createAdam } from "./adam.ts";
import { openForward } from "./forward.ts";
import { addAuxKGradients, addReconstructionGradients } from "./gradients.ts";
import { initializeFromData, measureScale, normalizeRow, type Parameters, toWeights, zerosLike } from "./parameters.ts";
import { seededRandom } from "./random.ts";
import { shuffledTokens } from "./shuffle.ts";

/** Options of {@linkcode trainSae}. */
export interface TrainOptions {
  /** A recorded layer. */
  layer: number;
  /** Number of latents. */
  dSae: number;
  /** Active latents a token. */
  k: number;
  /**
   * Tokens to train on.
   *
   * @default {"patches"}
   */
  tokens?: TokenKind;
  /**
   * Passes over the recording.
   *
   * @default {3}
   */
  epochs?: number;
  /**
   * Tokens a step.
   *
   * @default {512}
   */
  batchSize?: number;
  /**
   * Highest learning rate; it rises over the first 5 % of the steps and falls along a cosine to zero.
   *
   * @default {3e-4}
   */
  learningRate?: number;
  /**
   * A latent is dead once it has not fired for this many tokens.
   *
   * @default {65536}
   */
  deadAfterTokens?: number;
  /**
   * Dead latents that explain what is left over of a token (AuxK); 0 for none. Meant for long training: in one epoch on
   * the embedded model, 32 left 175 of 1,536 latents dead, and 0 left 91.
   *
   * @default {0}
   */
  kAux?: number;
  /**
   * Weight of that loss.
   *
   * @default {1 / 32}
   */
  auxWeight?: number;
  /**
   * Seed of every random choice. The same seed gives the same SAE.
   *
   * @default {0}
   */
  seed?: number;
  /**
   * Threads; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
  /** Stops between steps. */
  signal?: AbortSignal;
  /** Called after each step. */
  onStep?: (step: TrainStep) => void;
}

/** How training stands after a step. */
export interface TrainStep {
  /** Steps done. */
  readonly step: number;
  readonly nSteps: number;
  /** Share of variance not explained on this step's batch. */
  readonly normalizedMse: number;
  /** Latents that have not fired for `deadAfterTokens`. */
  readonly nDead: number;
  readonly learningRate: number;
}

// Tokens that the start is measured and drawn from.
const INIT_TOKENS = 65_536;
const FIT_TOKENS = 4096;
const WARM_UP_SHARE = 0.05;
const DATA_SHARE = 0.8;

/**
 * Trains a TopK SAE (ReLU after TopK, `bDec` subtracted from the input, decoder rows of length 1).
 *
 * @throws {RangeError} If the layer was not recorded, a number is out of its range, or the activations are not finite
 * numbers that vary.
 * @throws {Error} If the loss stops being a number.
 */
export async function trainSae(shards: Shards, options: TrainOptions): Promise<Sae> {
  const { dSae, k, tokens = "patches", epochs = 3, batchSize = 512, learningRate = 3e-4, seed = 0 } = options;
  const { deadAfterTokens = 65_536, kAux = 0, auxWeight = 1 / 32, threads = 0, signal, onStep } = options;
  if (!(Number.isInteger(k) && k >= 1 && k <= dSae)) {
    throw new RangeError(`Cannot train SAE: k must be an integer between 1 and dSae ${dSae}, current value is ${k}`);
  }
  const { metadata } = shards;
  const layer = shards.resolveLayer(options.layer);
  const { d_model: dModel } = metadata;
  const random = seededRandom(seed);
  const stream = (size: number) => shuffledTokens(shards, { layer, tokens, batchSize: size, random, signal });

  let first = new Float32Array(0);
  for await (const batch of stream(INIT_TOKENS)) {
    first = batch as Float32Array<ArrayBuffer>;
    break;
  }
  const { mean, scale } = measureScale(first, dModel);
  if (!(scale > 0 && Number.isFinite(scale))) {
    throw new RangeError(
      `Cannot train SAE: activations of layer ${layer} must be finite numbers that vary, their distance from the mean ` +
        `is ${scale}`,
    );
  }
  const scaledMean = mean.map((value) => value / scale);
  const parameters = initializeFromData(first.map((value) => value / scale), scaledMean, {
    dModel,
    dSae,
    dataShare: DATA_SHARE,
    random,
  });
  // The scale makes the mean square of a dimension 1.
  const variance = dModel;
  const gradients = zerosLike(parameters);
  const adam = createAdam(parameters);
  const idleTokens = new Float64Array(dSae);
  const forward = await openForward({ dModel, dSae, k, threads });
  const auxForward = kAux > 0 ? await openForward({ dModel, dSae, k: Math.min(kAux, dSae), threads }) : undefined;

  const nTokens = metadata.n_images * tokenRange(metadata, tokens).count;
  const nSteps = epochs * Math.ceil(nTokens / batchSize);
  let step = 0;
  try {
    await fitEncoderScale(first.subarray(0, FIT_TOKENS * dModel));
    for (let epoch = 0; epoch < epochs; epoch++) {
      for await (const x of stream(batchSize)) {
        const rate = learningRate * schedule(step / nSteps);
        const { normalizedMse, nDead } = await takeStep(x);
        if (!Number.isFinite(normalizedMse)) {
          const remedy = x.every(Number.isFinite)
            ? `lower the learning rate from ${learningRate}`
            : "the activations hold numbers that are not finite, record them again";
          throw new Error(
            `Cannot go on training: the loss must be a number, it is ${normalizedMse} at step ${step}; ${remedy}`,
          );
        }
        removeParallel(parameters, gradients, dModel);
        adam(gradients, rate);
        for (let latent = 0; latent < dSae; latent++) normalizeRow(parameters.wDec, latent, dModel);
        step++;
        onStep?.({ step, nSteps, normalizedMse, nDead, learningRate: rate });
      }
    }
  } finally {
    await forward.close();
    await auxForward?.close();
  }
  const weights = toWeights(parameters, { dModel, dSae, scale, rule: { kind: "topK", k, relu: true } });
  return createSae(weights, {
    model: { name: metadata.model.path.split(/[\\/]/).pop()!, sha256: metadata.model.sha256 },
    layer,
    hook: shards.hook,
    tokens,
    training: { epochs, batch_size: batchSize, learning_rate: learningRate, k_aux: kAux, aux_weight: auxWeight, seed },
  });

  /**
   * Directions that point at data overlap, so a sum of k of them starts many times too long: shortens the encoder by
   * the factor that reconstructs best.
   */
  async function fitEncoderScale(x: Float32Array): Promise<void> {
    const centered = center(x);
    const top = await forward.top(centered, parameters.wEnc, parameters.bEnc);
    const residual = new Float32Array(x.length);
    const terms = { centered, top, k, dModel, variance, residual, fired: () => {} };
    addReconstructionGradients(parameters, zerosLike(parameters), terms);
    let along = 0;
    let squares = 0;
    for (let i = 0; i < x.length; i++) {
      const reconstruction = centered[i] - residual[i];
      along += reconstruction * centered[i];
      squares += reconstruction * reconstruction;
    }
    if (squares > 0) { for (let i = 0; i < parameters.wEnc.length; i++) parameters.wEnc[i] *= along / squares; }
  }

  function center(x: Float32Array): Float32Array {
    const centered = new Float32Array(x.length);
    for (let i = 0; i < x.length; i++) centered[i] = x[i] / scale - parameters.bDec[i % dModel];
    return centered;
  }

  async function takeStep(x: Float32Array): Promise<{ normalizedMse: number; nDead: number }> {
    const centered = center(x);
    for (const array of Object.values(gradients)) array.fill(0);
    const top = await forward.top(centered, parameters.wEnc, parameters.bEnc);
    for (let latent = 0; latent < dSae; latent++) idleTokens[latent] += x.length / dModel;
    const residual = new Float32Array(x.length);
    const terms = { centered, dModel, variance, residual };
    const normalizedMse = addReconstructionGradients(parameters, gradients, {
      ...terms,
      top,
      k,
      fired: (latent) => idleTokens[latent] = 0,
    });
    const dead = idleTokens.map((idle) => idle >= deadAfterTokens ? 1 : 0);
    const nDead = dead.reduce((total, isDead) => total + isDead, 0);
    if (nDead > 0 && auxForward !== undefined) {
      const bias = parameters.bEnc.map((value, latent) => dead[latent] === 1 ? value : -Infinity);
      const auxTop = await auxForward.top(centered, parameters.wEnc, bias);
      addAuxKGradients(parameters, gradients, { ...terms, top: auxTop, k: Math.min(kAux, dSae), weight: auxWeight });
    }
    return { normalizedMse, nDead };
  }
}

/** Share of the highest learning rate at a point of the run, 0 to 1. */
function schedule(progress: number): number {
  if (progress < WARM_UP_SHARE) return progress / WARM_UP_SHARE;
  return 0.5 * (1 + Math.cos(Math.PI * (progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)));
}

/** Takes out of each decoder row's gradient what would change its length only. */
function removeParallel(parameters: Parameters, gradients: Parameters, dModel: number): void {
  const { wDec } = parameters;
  for (let row = 0; row < wDec.length; row += dModel) {
    let along = 0;
    for (let i = row; i < row + dModel; i++) along += wDec[i] * gradients.wDec[i];
    for (let i = row; i < row + dModel; i++) gradients.wDec[i] -= along * wDec[i];
  }
}
