/**
 * Hands out the tokens of a recording in random order with bounded memory: batches are read in random order into a
 * pool, and tokens are drawn from the pool. Every token comes exactly once an epoch.
 *
 * @module
 */
import type { ReadBatchesOptions, Shards } from "../shards/read.ts";
import { randomOrder } from "./random.ts";

/** Options of {@linkcode shuffledTokens}. */
export interface ShuffledTokensOptions extends Omit<ReadBatchesOptions, "order"> {
  /** Tokens a batch. The last batch of an epoch may be smaller. */
  batchSize: number;
  /**
   * Tokens that the pool holds at least while there are more to read. Larger mixes better.
   *
   * @default {262144}
   */
  poolTokens?: number;
  /** Source of randomness; the same sequence gives the same batches. */
  random: () => number;
}

/** One epoch of a recording's tokens: batches of shape `[batchSize, dModel]`, each an array of its own. */
export async function* shuffledTokens(shards: Shards, options: ShuffledTokensOptions): AsyncIterable<Float32Array> {
  const { batchSize, poolTokens = 262_144, random, ...read } = options;
  const { d_model: dModel, tokens_per_image: tokensPerImage } = shards.metadata;
  const order = randomOrder(shards.nBatches, random);
  let pool = new Float32Array((poolTokens + batchSize + 64 * tokensPerImage) * dModel);
  let nPooled = 0;

  const draw = (n: number): Float32Array => {
    const batch = new Float32Array(n * dModel);
    for (let i = 0; i < n; i++) {
      const row = Math.floor(random() * nPooled) * dModel;
      batch.set(pool.subarray(row, row + dModel), i * dModel);
      nPooled--;
      pool.copyWithin(row, nPooled * dModel, (nPooled + 1) * dModel);
    }
    return batch;
  };
  for await (const { activations } of shards.readBatches({ ...read, order })) {
    if (nPooled * dModel + activations.length > pool.length) {
      const larger = new Float32Array(nPooled * dModel + activations.length);
      larger.set(pool.subarray(0, nPooled * dModel));
      pool = larger;
    }
    pool.set(activations, nPooled * dModel);
    nPooled += activations.length / dModel;
    while (nPooled >= poolTokens + batchSize) yield draw(batchSize);
  }
  while (nPooled > 0) yield draw(Math.min(batchSize, nPooled));
}
