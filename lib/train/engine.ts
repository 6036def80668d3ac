/**
 * Where the matrices of an SAE in training live, and what a step does with them. There are two: `cpu/` and `webgpu/`.
 * The loop of a step, the objectives, and everything of size `[dSae]` or of one number an active latent are the same for
 * both and stay on the host; of a GPU's matrices only what is listed here is seen.
 *
 * @module
 */
import type { LatentEntries } from "./entries.ts";
import type { Objective } from "./objectives/objective.ts";
import type { OptimizerState } from "./optimizer.ts";
import type { ParameterName, Parameters, ParameterVectors } from "./parameters.ts";
import type { ReconstructionLoss, TrainOptimizer } from "./recipe.ts";
import type { SelectionRule } from "./select.ts";

/** What an engine is opened with. */
export interface EngineOptions {
  dModel: number;
  dSae: number;
  /** Where to begin. The engine takes the arrays over. */
  parameters: Parameters;
  /** Whether `bDec` is subtracted from the input of the encoder. */
  subtractBDec: boolean;
  optimizer: TrainOptimizer;
  /**
   * What the optimizer remembers.
   *
   * @default nothing
   */
  optimizerState?: OptimizerState;
  /**
   * Largest batch that comes in one piece, and how many prefixes it is reconstructed by.
   *
   * @default not known
   */
  batch?: { nTokens: number; nPrefixes: number };
  /** Threads of the host's products; 0 for every core. */
  threads: number;
}

/** What AuxK adds to a batch. */
export interface AuxTerms {
  readonly entries: LatentEntries;
  readonly weight: number;
  readonly bias: boolean;
  readonly over: "mean" | "residualVariance";
}

/** Losses of a batch. */
export interface BatchLosses {
  readonly reconstruction: number;
  readonly sparsity: number;
  /** AuxK, or the loss of the gates. */
  readonly aux: number;
  /** Mean square of what the whole dictionary leaves over. */
  readonly mse: number;
}

/** The piece of a batch whose gradients are wanted. */
export interface PieceTerms {
  readonly objective: Objective;
  /** Entries that {@linkcode Engine.encode} gave, with the values that the objective has made of them. */
  readonly entries: LatentEntries;
  /** Ascending, the last one `dSae`. */
  readonly prefixes: Uint32Array;
  readonly loss: ReconstructionLoss;
  /** Dead latents that explain what is left over. */
  readonly aux?: AuxTerms;
  /** Weight of the sparsity loss. */
  readonly coefficient: number;
  /** Which share of the step's tokens these are. */
  readonly share: number;
}

/** What an update goes by. */
export interface EngineUpdate {
  /** What gradients are multiplied by. */
  readonly gradientFactor: number;
  readonly learningRate: (name: ParameterName) => number;
}

/** The matrices of an SAE in training. One call at a time, in the order of a step. */
export interface Engine {
  readonly kind: "cpu" | "webgpu";
  /** For people: `"CPU"`, `"NVIDIA GeForce RTX 4070"`. */
  readonly device: string;
  /** Parameters that are no matrices; the live arrays. */
  readonly vectors: ParameterVectors;
  /**
   * Most pre-activations of a piece that this engine likes, where any number of them may be active.
   */
  readonly numbersAtOnce: number;
  /** Brings decoder rows to length 1: every one, or those that the last update moved. */
  normalizeDecoder(rows: "all" | "moved"): Promise<void>;
  /** Begins the gradients of a step. */
  begin(): void;
  /** Takes in a piece of a batch, shape `[nTokens, dModel]`, and gives the pre-activations that count. */
  encode(target: Float32Array, selection: SelectionRule): Promise<LatentEntries>;
  /** The same for some latents of that piece, ascending: the `k` of a token that come closest to firing. */
  encodeSome(latents: Uint32Array, selection: { k: number; relu: boolean }): Promise<LatentEntries>;
  /** Adds the gradients of that piece to those of the step, and gives its losses times its share. */
  addGradients(terms: PieceTerms): Promise<BatchLosses>;
  /**
   * Ends the gradients of a step: takes out of each decoder row's what would change the row's length only, if asked to.
   *
   * @returns Norm of all gradients together.
   */
  finish(options: { removeParallel: boolean }): Promise<number>;
  /** Moves the parameters along their gradients. */
  update(update: EngineUpdate): Promise<void>;
  /** Gradients of the last step, to look at. */
  gradients(): Promise<Parameters>;
  /** The parameters; on the CPU the live arrays, else copies of the matrices. */
  parameters(): Promise<Parameters>;
  /** What the optimizer remembers, likewise. */
  optimizerState(): Promise<OptimizerState>;
  close(): Promise<void>;
}
