/**
 * The beginning of a run: the input measured, the parameters made.
 *
 * @module
 */
import type { InputNormalization } from "../compute/contract.ts";
import type { BackendChoice } from "../compute/select.ts";
import { normalizeInput } from "../compute/normalize.ts";
import { fitInput, type FittedInput } from "./center.ts";
import { reconstruct } from "./cpu/decode.ts";
import { encodeBatch, encoderInput } from "./cpu/encode.ts";
import { openForward } from "./cpu/forward.ts";
import { Workspace } from "./cpu/workspace.ts";
import { initializeParameters } from "./initialize.ts";
import { extraParameters, makeObjective } from "./objectives/make.ts";
import type { OptimizerState } from "./optimizer.ts";
import { parameterNames, type Parameters } from "./parameters.ts";
import type { TrainRecipe } from "./recipe.ts";

/** Options of {@linkcode makeTrainer}. */
export interface TrainerOptions {
  /** Width of the activations. */
  dModel: number;
  /** Number of latents. */
  dSae: number;
  /** Steps of the whole run, which schedules are stretched over. */
  nSteps: number;
  /**
   * Tokens to measure the input on and to begin from, shape `[nTokens, dModel]`, in random order.
   *
   * @default none, `state` or `start` must be given
   */
  sample?: Float32Array;
  /**
   * Parameters to begin from instead, which are copied, and what is done to activations, if not what the recipe says.
   *
   * @default made after the recipe from `sample`
   */
  start?: { parameters: Parameters; normalization?: InputNormalization };
  /**
   * Where to go on. The trainer takes its arrays over.
   *
   * @default the beginning
   */
  state?: TrainerState;
  /**
   * Tokens that are worked on at once, of recipes whose batches can be split (`relu`, `jumpRelu` and `gated` without
   * AuxK): fewer take less memory.
   *
   * @default {2 ** 24 / dSae}
   */
  tokensAtOnce?: number;
  /**
   * Where a step is computed. With `auto` that is a GPU if there is one; one that lacks the memory, and one that is
   * software, which is slower than the CPU it runs on, are left for the CPU.
   *
   * @default the environment variable `SPARSIGHT_BACKEND`, else "auto"
   */
  backend?: BackendChoice;
  /**
   * GPU to use instead of the one that would be found.
   *
   * @default the system's preferred adapter
   */
  adapter?: GPUAdapter;
  /**
   * Told if `auto` has left a GPU for the CPU, and why.
   *
   * @default {console.warn}
   */
  onWarning?: (message: string) => void;
  /**
   * Threads of the encoder's product on the CPU; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
}

/**
 * All that a trainer depends on, as plain data. It is the same whichever back end it comes from; with `cpu` the arrays
 * are the live ones.
 */
export interface TrainerState {
  /** Steps done. */
  readonly step: number;
  /** Tokens seen. */
  readonly nTokens: number;
  /** Seed of the rest of the random numbers. */
  readonly random: number;
  /** Running threshold of BatchTopK. */
  readonly threshold: number;
  /** What is done to activations. */
  readonly input: FittedInput;
  /** Tokens since each latent fired, shape `[dSae]`. */
  readonly idleTokens: Float64Array;
  /** What is learned. */
  readonly parameters: Parameters;
  /** What the optimizer remembers. */
  readonly optimizer: OptimizerState;
}

// Tokens that the length of the encoder is fitted on.
const FIT_TOKENS = 4096;

/**
 * State before the first step, but for the optimizer.
 *
 * @throws {TypeError} If there is nothing to begin from.
 */
export async function beginTraining(
  recipe: TrainRecipe,
  options: TrainerOptions & { random: () => number },
): Promise<Omit<TrainerState, "optimizer" | "random">> {
  const { dModel, dSae, sample, start, random } = options;
  const none = { step: 0, nTokens: 0, threshold: 0, idleTokens: new Float64Array(dSae) };
  const extra = extraParameters(recipe.activation, dSae);
  const input = start?.normalization
    ? { normalization: start.normalization, foldedScale: 1 }
    : fitInput(recipe.input, sample, dModel);
  if (start !== undefined) {
    const given = parameterNames(start.parameters).map((name) => [name, start.parameters[name]!.slice()]);
    return { ...none, input, parameters: { ...extra, ...Object.fromEntries(given) } };
  }
  if (sample === undefined) throw new TypeError("Cannot train SAE: sample, start or state must be given, none is");
  const { x } = normalizeInput(sample, { dModel, normalization: input.normalization });
  const parameters = { ...initializeParameters(recipe.initialization, x, { dModel, dSae, random }), ...extra };
  if (recipe.initialization.fitScale) {
    await fitEncoderScale(parameters, x.subarray(0, FIT_TOKENS * dModel), recipe, options.threads);
  }
  return { ...none, input, parameters };
}

/**
 * Directions that point at data overlap, so a sum of many of them starts many times too long: shortens the encoder by
 * the factor that reconstructs best.
 */
async function fitEncoderScale(
  parameters: Parameters,
  x: Float32Array,
  { activation, subtractBDec }: TrainRecipe,
  threads = 0,
): Promise<void> {
  const { wEnc, bDec } = parameters;
  const dModel = bDec.length;
  const encoded = encoderInput(x, { bDec, subtractBDec });
  const nTokens = x.length / dModel;
  const selection = makeObjective(activation, parameters).select(nTokens);
  const forward = await openForward({ dModel, threads });
  const entries = await encodeBatch(encoded, { forward, parameters, selection });
  await forward.close();
  const reconstruction = reconstruct({ workspace: new Workspace(dModel), parameters, entries, nTokens });
  let [along, squares] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    const explained = reconstruction[i] - bDec[i % dModel];
    along += explained * (x[i] - bDec[i % dModel]);
    squares += explained * explained;
  }
  if (squares > 0) { for (let i = 0; i < wEnc.length; i++) wEnc[i] *= along / squares; }
}
