/**
 * The one pass that every summary is made by: batches of activations in, running statistics out. Where the batches come
 * from, a recording or a ViT that is looking at images, makes no difference to it.
 *
 * @module
 */
import type { Backend } from "../compute/contract.ts";
import { freeArrays } from "../runtime/free.ts";
import type { Sae } from "../sae/sae.ts";
import type { ShardBatch } from "../shards/read.ts";
import { SummaryAccumulator } from "./accumulate.ts";

/** Options of {@linkcode summarizeBatches}. */
export interface SummarizeBatchesOptions {
  backend: Backend;
  /** How many top images each latent keeps. */
  imagesPerLatent: number;
  /** Index of the first token as a patch: 0 where only patches are read, −1 where CLS comes first. */
  firstPatch: number;
  /** Called after each batch with the number of images done. */
  onBatch?: (nImages: number) => void;
}

// What is held of latents at once: few enough for little memory, enough for each latent to have several.
const TOKENS_AT_ONCE = 1024;

/**
 * Summarizes the latents of activations as they come. Nothing of a batch is kept.
 *
 * @throws {RangeError} If the latents of a token depend on the rest of its batch.
 */
export async function summarizeBatches(
  batches: AsyncIterable<ShardBatch>,
  sae: Sae,
  options: SummarizeBatchesOptions,
): Promise<SummaryAccumulator> {
  const { backend, imagesPerLatent, firstPatch, onBatch } = options;
  checkPerToken(sae, "summarize latents");
  const accumulated = new SummaryAccumulator(sae.dSae, { imagesPerLatent });
  const loaded = await backend.load(sae);
  try {
    for await (const { activations, imageIndices, tokensPerImage } of batches) {
      const imagesAtOnce = Math.max(1, Math.floor(TOKENS_AT_ONCE / tokensPerImage));
      for (let first = 0; first < imageIndices.length; first += imagesAtOnce) {
        const some = imageIndices.subarray(first, first + imagesAtOnce);
        const numbersPerImage = activations.length / imageIndices.length;
        const x = activations.subarray(first * numbersPerImage, (first + some.length) * numbersPerImage);
        const latents = await loaded.encode(x);
        accumulated.add(latents, { imageIndices: some, tokensPerImage, firstPatch });
        freeArrays(latents.indices, latents.values);
      }
      onBatch?.(accumulated.nImages);
    }
  } finally {
    await loaded.dispose();
  }
  return accumulated;
}

/**
 * Throws if the latents of a token depend on the rest of its batch: what is found would depend on how the images were
 * cut into batches, and could not be found again.
 *
 * @throws {RangeError} If they do.
 */
export function checkPerToken({ normalization, rule }: Sae, action: string): void {
  if (normalization?.kind === "batch") {
    throw new RangeError(
      `Cannot ${action}: they must not depend on how images are cut into batches, current normalization is batch; give ` +
        `the SAE an affine one, measured once by measureStatistics()`,
    );
  }
  if (rule.kind === "batchTopK") {
    throw new RangeError(
      `Cannot ${action}: they must not depend on how images are cut into batches, current rule is batchTopK; give the ` +
        `SAE the rule topK, or jumpRelu with the threshold that BatchTopK has at inference`,
    );
  }
}
