/**
 * The order in which tokens come: pass after pass over a recording, each shuffled by a seed of its own, so that a run
 * goes on in the middle of one. `trainSae()` and a sweep with the same seed see the same batches.
 *
 * @module
 */
import { type Shards, type TokenKind, tokenRange } from "../shards/read.ts";
import { measureScale } from "./center.ts";
import { seededRandom } from "./random.ts";
import type { TrainRecipe } from "./recipe.ts";
import { shuffledTokens } from "./shuffle.ts";

/** Options of {@linkcode openPasses}. */
export interface PassesOptions {
  /** A recorded layer. */
  layer: number;
  tokens: TokenKind;
  /** Tokens a step. */
  batchSize: number;
  /** Seed of the order. */
  seed: number;
  /** Stops between batches. */
  signal?: AbortSignal;
}

/** Shuffled tokens, pass after pass. */
export interface Passes {
  /** Steps of a run of some length. */
  countSteps(length: TrainRecipe["length"]): number;
  /** Batches from `firstStep` on, without end, with the number of steps before each. */
  batches(firstStep: number): AsyncIterable<{ index: number; x: Float32Array }>;
  /**
   * Tokens to begin from, shape `[nTokens, dModel]`.
   *
   * @throws {RangeError} If they are not finite numbers that vary.
   */
  readSample(): Promise<Float32Array>;
}

// Tokens that the start is measured and drawn from.
const SAMPLE_TOKENS = 65_536;

/** Opens the passes over a recording. */
export function openPasses(shards: Shards, options: PassesOptions): Passes {
  const { layer, tokens, batchSize, seed, signal } = options;
  const { metadata } = shards;
  const nTokens = metadata.n_images * tokenRange(metadata, tokens).count;
  const stepsPerPass = Math.ceil(nTokens / batchSize);
  // Number 0 is the look beforehand.
  const stream = (pass: number, size: number) =>
    shuffledTokens(shards, {
      ...{ layer, tokens, batchSize: size, signal },
      random: seededRandom(seed ^ Math.imul(pass, 0x9e3779b1)),
    });
  return {
    countSteps: (length) => "epochs" in length ? length.epochs * stepsPerPass : Math.ceil(length.tokens / batchSize),
    async *batches(firstStep) {
      if (stepsPerPass === 0) throw new RangeError("Cannot train SAE: the recording must hold tokens, it holds none");
      for (let pass = Math.floor(firstStep / stepsPerPass);; pass++) {
        let index = pass * stepsPerPass;
        for await (const x of stream(pass + 1, batchSize)) {
          if (index >= firstStep) yield { index, x };
          index++;
        }
      }
    },
    async readSample() {
      for await (const sample of stream(0, SAMPLE_TOKENS)) {
        const { scale } = measureScale(sample, metadata.d_model);
        if (scale > 0 && Number.isFinite(scale)) return sample;
        throw new RangeError(
          `Cannot train SAE: activations of layer ${layer} must be finite numbers that vary, their distance from the ` +
            `mean is ${scale}`,
        );
      }
      throw new RangeError("Cannot train SAE: the recording must hold tokens, it holds none");
    },
  };
}
