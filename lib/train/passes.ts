/**
 * The order in which tokens come: pass after pass over a source, each shuffled by a seed of its own, so that a run goes
 * on in the middle of one. `trainSae()` and a sweep with the same seed see the same batches.
 *
 * @module
 */
import { type TokenKind, tokenRange } from "../shards/read.ts";
import { measureScale } from "./center.ts";
import { seededRandom } from "./random.ts";
import type { TrainRecipe } from "./recipe.ts";
import { makePool, shuffledTokens, type ShuffledTokensOptions, type TokenPool } from "./shuffle.ts";
import type { TokenSource } from "./source.ts";

/** Options of {@linkcode openPasses}. */
export interface PassesOptions extends Pick<ShuffledTokensOptions, "batchSize" | "poolBytes" | "signal"> {
  /** A layer of the source. */
  layer: number;
  tokens: TokenKind;
  /** Seed of the order. */
  seed: number;
}

/** Shuffled tokens, pass after pass. */
export interface Passes {
  /** Steps of a run of some length. */
  countSteps(length: TrainRecipe["length"]): number;
  /**
   * Batches from `firstStep` on, without end, with the number of steps before each. A batch holds until the next one is
   * asked for. A pass that was begun is shuffled from its beginning.
   */
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

/**
 * Opens the passes over a source of tokens.
 *
 * @throws {RangeError} If the model has no such tokens.
 */
export function openPasses(source: TokenSource, options: PassesOptions): Passes {
  const { layer, tokens, batchSize, poolBytes, seed, signal } = options;
  const { d_model: dModel } = source.info;
  const nTokens = source.nImages * tokenRange(source.info, tokens).count;
  const stepsPerPass = Math.ceil(nTokens / batchSize);
  // One for all passes: what fits into it is read once, and memory of this size is not given back quickly.
  let pool: TokenPool | undefined;
  const openPool = () => pool ??= makePool(source, { tokens, poolBytes });
  // Number 0 is the look beforehand.
  const randomOf = (pass: number) => seededRandom(seed ^ Math.imul(pass, 0x9e3779b1));
  const noTokens = () => new RangeError(`Cannot train SAE: ${source.location} must hold tokens, it holds none`);
  return {
    countSteps: (length) => "epochs" in length ? length.epochs * stepsPerPass : Math.ceil(length.tokens / batchSize),
    async *batches(firstStep) {
      if (stepsPerPass === 0) throw noTokens();
      const shuffle = { layer, tokens, batchSize, pool: openPool(), reuse: true, signal };
      for (let pass = Math.floor(firstStep / stepsPerPass);; pass++) {
        let index = pass * stepsPerPass;
        for await (const x of shuffledTokens(source, { ...shuffle, random: randomOf(pass + 1) })) {
          if (index >= firstStep) yield { index, x };
          index++;
        }
      }
    },
    async readSample() {
      const whole = openPool();
      const batchSize = Math.max(1, Math.min(SAMPLE_TOKENS, whole.memory.length / dModel));
      // What does not stay is read for the sample alone: a small part of the pool mixes well enough.
      const part = { ...whole, memory: whole.memory.subarray(0, batchSize * dModel) };
      const shuffle = { layer, tokens, batchSize, pool: whole.holdsAll ? whole : part, signal };
      for await (const sample of shuffledTokens(source, { ...shuffle, random: randomOf(0) })) {
        const { scale } = measureScale(sample, dModel);
        if (scale > 0 && Number.isFinite(scale)) return sample;
        throw new RangeError(
          `Cannot train SAE: activations of layer ${layer} must be finite numbers that vary, their distance from the ` +
            `mean is ${scale}`,
        );
      }
      throw noTokens();
    },
  };
}
