/**
 * How an SAE is trained, as plain data: what its latents are, what it is punished for, how it begins, how it learns.
 * A recipe knows no sizes and no files, so it can be compared, and given to another model.
 *
 * @module
 */
import type { ParameterName } from "./parameters.ts";

/**
 * How latents come from pre-activations while training.
 *
 * - `relu`: every positive one.
 * - `topK`: the `k` largest of a token; with `relu: true` only those above zero.
 * - `batchTopK`: the `k · nTokens` largest of a batch (https://arxiv.org/abs/2412.06410), with `relu: true` only those
 *   above zero. A running mean of the smallest positive one kept becomes the threshold of the finished SAE:
 *   `threshold ← (1 − momentum) · threshold + momentum · smallest`, from step `thresholdFrom` on. It starts at 0, or with
 *   `startsAtFirst` at the first smallest one.
 * - `jumpRelu`: those above the threshold of their latent, which is learned by its logarithm with straight-through
 *   gradients of width `bandwidth` (https://arxiv.org/abs/2407.14435).
 * - `gated`: a gate that is punished says which, a magnitude that is not says how much
 *   (https://arxiv.org/abs/2404.16014).
 */
export type TrainActivation =
  | { readonly kind: "relu" }
  | { readonly kind: "topK"; readonly k: number; readonly relu: boolean }
  | {
    readonly kind: "batchTopK";
    readonly k: number;
    readonly relu: boolean;
    readonly momentum: number;
    readonly thresholdFrom: number;
    readonly startsAtFirst?: boolean;
  }
  | { readonly kind: "jumpRelu"; readonly bandwidth: number; readonly initialThreshold: number }
  | { readonly kind: "gated" };

/**
 * What is done to activations before all else.
 *
 * - `none`: nothing.
 * - `scale`: divided by their root mean square distance from the mean. The number is multiplied into the biases of the
 *   finished SAE, which takes activations as they are.
 * - `unitNorm`: the same with the root mean square length of a token.
 * - `standardize`: `(clamp(x) − mean) / scale` with one `scale`, the mean distance of a token from the mean over
 *   `√dModel`, as saev had it until July 2025.
 * - `layerNorm`, `constantNorm`, `batch`: as `InputNormalization` has them.
 */
export type TrainInput =
  | { readonly kind: "none" }
  | { readonly kind: "scale" }
  | { readonly kind: "unitNorm" }
  | { readonly kind: "constantNorm" }
  | { readonly kind: "standardize"; readonly clamp?: readonly [low: number, high: number] }
  | { readonly kind: "layerNorm"; readonly epsilon: number }
  | { readonly kind: "batch"; readonly epsilon: number };

/**
 * How squared errors become a loss: `mean` over tokens and dimensions, `sum` over dimensions and mean over tokens, or
 * `tokenNorm`, the mean of squares over each token's length, plus 1e-9, as CLIP-Scope has it.
 */
export type ReconstructionLoss = "mean" | "sum" | "tokenNorm";

/**
 * Prefixes of the dictionary that each have to reconstruct on their own (https://arxiv.org/abs/2503.17547), the whole
 * among them; their losses are averaged.
 *
 * - `shares`: groups of these shares of the dictionary, which add up to 1.
 * - `sampled`: drawn anew each step, as saev does: `count − 1` lengths without repetition, with a probability that falls
 *   as `length ** −(power + 1)` does, and the whole.
 */
export type TrainPrefixes =
  | { readonly kind: "shares"; readonly shares: readonly number[] }
  | { readonly kind: "sampled"; readonly count: number; readonly minimum: number; readonly power: number };

/** A loss that lets latents which have not fired for long explain what is left over (https://arxiv.org/abs/2406.04093). */
export interface AuxK {
  /** Dead latents a token; 0 for none. */
  readonly k: number;
  /** Factor of the loss. */
  readonly weight: number;
  /** Whether only those above zero count. */
  readonly relu: boolean;
  /** Whether `bDec` is added to what they explain, as in saev. */
  readonly bias: boolean;
  /** Mean over dimensions, or share of the variance of what is left over, as in OpenAI's. */
  readonly over: "mean" | "residualVariance";
}

/** When a latent counts as dead. */
export interface DeadRule {
  /** Tokens without a sign of life. */
  readonly afterTokens: number;
  /** What a latent has to exceed to be alive; any value but zero if absent. */
  readonly above?: number;
  /** Whether the batch it fired in counts as tokens without, as CLIP-Scope counts. */
  readonly countsFiringBatch?: boolean;
}

/**
 * What wakes latents that fire too rarely: the bias of their encoder rises, step by step, until they win some token, and
 * from there on they learn like any other. It changes no loss, and it goes with every activation. Biases that follow how
 * often a latent fires are an idea of https://arxiv.org/abs/2506.14002, which lowers those of frequent ones, too.
 */
export interface BiasRise {
  /** Tokens without a sign of life, as `dead` counts them: about one over the least density that is wanted. */
  readonly afterTokens: number;
  /** How much the bias rises in a step, in learning rates of that step. */
  readonly learningRates: number;
}

/** How parameters begin. */
export interface TrainInitialization {
  /**
   * Where decoder rows point: `spread` out over data points (k-means++ on directions), `data` points drawn at random,
   * or at random: `kaiming` (uniform between ±√(6 / dModel)) or `normal` (of length about √½).
   */
  readonly directions: "spread" | "data" | "kaiming" | "normal";
  /**
   * Share of a row that is its data point; the rest is random.
   *
   * @default {0.8}
   */
  readonly blend?: number;
  /** The encoder begins as the decoder, or as a draw of its own, as in saev's first version. */
  readonly encoder: "decoder" | "own";
  /** Whether rows of the decoder begin with length 1 (before the encoder is copied from it). */
  readonly unit: boolean;
  /** Whether the encoder is shortened at the start by the factor that reconstructs best. */
  readonly fitScale?: boolean;
  /** Where `bDec` begins; `normal` is 0.01 times a normal draw. */
  readonly bias: "zero" | "mean" | "geometricMedian" | "normal";
}

/** How parameters move. */
export interface TrainOptimizer {
  /** `muon` moves the two matrices by Muon (https://kellerjordan.github.io/posts/muon/), all else by Adam. */
  readonly kind: "adam" | "muon";
  /** Highest learning rate. */
  readonly learningRate: number;
  /**
   * Adam's decay of the running mean of gradients.
   *
   * @default {0.9}
   */
  readonly beta1?: number;
  /**
   * Adam's decay of the running mean of their squares.
   *
   * @default {0.999}
   */
  readonly beta2?: number;
  /**
   * Added to the root of the latter.
   *
   * @default {1e-8}
   */
  readonly epsilon?: number;
  /**
   * Factors of the learning rate, by name of the parameter.
   *
   * @default 1 for each
   */
  readonly factors?: Readonly<Partial<Record<ParameterName, number>>>;
  /**
   * Momentum of Muon.
   *
   * @default {0.95}
   */
  readonly momentum?: number;
  /**
   * Share by which Muon shrinks a matrix, times the learning rate.
   *
   * @default {0.1}
   */
  readonly weightDecay?: number;
}

/** How the learning rate runs over the steps. Numbers below 1 are shares of the run, others steps. */
export interface TrainSchedule {
  /** How long it rises. The first step is at its beginning. */
  readonly warmUp: number;
  /**
   * How it rises.
   *
   * @default {"linear"}
   */
  readonly warmUpShape?: "linear" | "cosine";
  /**
   * Share of the learning rate that it rises from.
   *
   * @default {0}
   */
  readonly warmUpFrom?: number;
  /** How it falls after the warm-up. */
  readonly decay: "none" | "cosine" | "linear";
  /**
   * Where it begins to fall to zero, at the end of the run.
   *
   * @default the end of the warm-up
   */
  readonly decayFrom?: number;
}

/** How an SAE is trained. */
export interface TrainRecipe {
  /** How latents come from pre-activations. */
  readonly activation: TrainActivation;
  /** Whether `bDec` is subtracted from the input of the encoder. */
  readonly subtractBDec: boolean;
  /** What is done to activations before all else. */
  readonly input: TrainInput;
  /** How squared errors become a loss. */
  readonly loss: ReconstructionLoss;
  /**
   * Punishment: of the sum of latents (`relu`, `topK`, `batchTopK`), of the sum of gates (`gated`) or of the number of
   * active latents (`jumpRelu`), each a mean over tokens. It rises from 0 over the first `warmUp` steps (or that share of
   * them, if below 1).
   */
  readonly sparsity: { readonly coefficient: number; readonly warmUp: number };
  /**
   * Prefixes of the dictionary that each have to reconstruct.
   *
   * @default only the whole dictionary
   */
  readonly prefixes?: TrainPrefixes;
  /**
   * What brings dead latents back.
   *
   * @default nothing
   */
  readonly auxK?: AuxK;
  /** When a latent counts as dead. */
  readonly dead: DeadRule;
  /**
   * What wakes latents that fire too rarely.
   *
   * @default nothing
   */
  readonly biasRise?: BiasRise;
  /** How parameters begin. */
  readonly initialization: TrainInitialization;
  /** How parameters move. */
  readonly optimizer: TrainOptimizer;
  /** How the learning rate runs. */
  readonly schedule: TrainSchedule;
  /** When decoder rows are brought to length 1: `before` each step, `after` it, or never. */
  readonly unitDecoder: "before" | "after" | "never";
  /** Whether the part of a decoder row's gradient that would only change its length is taken out. */
  readonly removeParallel: boolean;
  /**
   * Largest norm of all gradients together, after the parallel parts are out; longer ones are shortened to it.
   *
   * @default {Infinity}
   */
  readonly clipNorm?: number;
  /** Tokens a step. */
  readonly batchSize: number;
  /** How long: passes over the recording, or tokens. */
  readonly length: { readonly epochs: number } | { readonly tokens: number };
  /** Seed of every random choice. */
  readonly seed: number;
}
