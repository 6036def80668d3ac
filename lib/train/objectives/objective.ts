/**
 * What an architecture adds to training: which pre-activations count, what latents they become, how slopes come back
 * through them, and what is punished. Everything else is the same for all.
 *
 * @module
 */
import type { ActivationRule } from "../../compute/contract.ts";
import type { LatentEntries } from "../entries.ts";
import type { ParameterVectors } from "../parameters.ts";
import type { SelectionRule } from "../select.ts";

/** Slopes of the loss along the entries of one latent, `start` to `end`. */
export interface LatentSlopes {
  readonly latent: number;
  readonly start: number;
  readonly end: number;
  /** Along values when given, along pre-activations when handed back. */
  readonly slopes: Float32Array;
  /** Along gates, where there are any. */
  readonly gateSlopes: Float32Array | undefined;
  /** Weight of the sparsity loss for one token. */
  readonly pull: number;
}

/** An architecture with its parameters. */
export interface Objective {
  /** Which pre-activations of a batch of so many tokens count. */
  select(nTokens: number): SelectionRule;
  /** Fills in the values of entries, and sees a batch go by where it keeps a running threshold. */
  activate(entries: LatentEntries, position: { step: number }): void;
  /** Gates that have to reconstruct on their own, one an entry. */
  gates?(entries: LatentEntries): Float32Array;
  /** What is punished, summed over tokens. */
  penalty(entries: LatentEntries): number;
  /** Carries slopes back through one latent, and adds to the gradients of its biases and thresholds. */
  addSlopes(entries: LatentEntries, along: LatentSlopes, gradients: ParameterVectors): void;
  /** What the latents are, once trained. */
  rule(): ActivationRule;
  /** Running threshold of BatchTopK: 0 where there is none yet. */
  threshold: number;
}
