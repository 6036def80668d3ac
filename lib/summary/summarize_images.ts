/**
 * A summary straight from images, with no recording on disk: the ViT looks at a batch, the SAE encodes it, and nothing
 * of it is kept. It is the same summary, to the last bit, as that of a recording of the same images; a recording is worth
 * its gigabytes once a second SAE, or a heat map, asks for the same activations.
 *
 * @module
 */
import type { ImageSource } from "../images/source.ts";
import { checkSaeFits, type Sae } from "../sae/sae.ts";
import type { RecordingInfo } from "../shards/format.ts";
import { selectTokens, type ShardBatch, type TokenKind, tokenRange } from "../shards/read.ts";
import { describeRecording } from "../shards/write.ts";
import { type ActivationBatch, recordActivations, type RecordOptions, type SkippedImage } from "../vit/record.ts";
import type { Vit } from "../vit/vit.ts";
import type { StoredSummary } from "./file.ts";
import { summarizeBatches } from "./pass.ts";
import { describeSource, type SummarizeOptions } from "./summarize.ts";

/** Options of {@linkcode summarizeImages}. */
export interface SummarizeImagesOptions extends Omit<RecordOptions, "layers">, Omit<SummarizeOptions, "layer"> {
  sae: Sae;
  /** The layer (0-based block) that the SAE belongs to; negative ones count from the last. */
  layer: number;
  /**
   * Called for each image that could not be read, where these are left out.
   *
   * @default none; they are left out silently
   */
  onSkipped?: (image: SkippedImage) => void;
}

/**
 * Summarizes the latents of images in one pass, with memory that does not grow with their number.
 *
 * @throws {RangeError} If the SAE does not fit the ViT, or its latents depend on the batch.
 * @throws {Error} If no image can be read.
 */
export async function summarizeImages(
  vit: Vit,
  images: ImageSource,
  options: SummarizeImagesOptions,
): Promise<StoredSummary> {
  const { sae, backend, tokens = "patches", imagesPerLatent = 16, saePath = "", onSkipped } = options;
  const [layer] = vit.resolveLayers([options.layer]);
  checkSaeFits(sae, vit.dModel, { what: vit.path });
  const record = { ...options, layers: [layer] };
  const info = describeRecording(vit, images, record);
  const { first } = tokenRange(info, tokens);
  let reason = "there is none";
  const noteSkipped = (image: SkippedImage) => {
    reason = image.reason;
    onSkipped?.(image);
  };
  const batches = chooseTokens(recordActivations(vit, images, record), { info, tokens, noteSkipped });
  const firstPatch = first - info.n_special_tokens;
  const accumulated = await summarizeBatches(batches, sae, { backend, imagesPerLatent, firstPatch });
  if (accumulated.nImages === 0) {
    throw new Error(
      `Cannot summarize ${images.location}: at least one image must be readable, the last one: ${reason}`,
    );
  }
  return { accumulated, source: describeSource(info, { layer, tokens, sae, saePath }) };
}

/** The batches that a recording would hand out, of one layer and the wanted tokens. */
async function* chooseTokens(
  batches: AsyncIterable<ActivationBatch>,
  options: { info: RecordingInfo; tokens: TokenKind; noteSkipped: (image: SkippedImage) => void },
): AsyncIterable<ShardBatch> {
  const { info, tokens, noteSkipped } = options;
  const range = tokenRange(info, tokens);
  for await (const { imageIndices, activations: [values], skipped } of batches) {
    skipped.forEach(noteSkipped);
    if (imageIndices.length === 0) continue;
    const activations = selectTokens(values, imageIndices.length, { layout: info, range });
    yield { imageIndices, tokensPerImage: range.count, activations };
  }
}
