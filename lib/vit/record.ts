/**
 * Records activations of a ViT over a source of images, batch by batch: while the model looks at one batch,
 * the next one is decoded.
 *
 * @module
 */
import { readImage } from "../images/decode.ts";
import { toPixelValues } from "../images/pixels.ts";
import type { ImageSource } from "../images/source.ts";
import type { HookPoint } from "./hooks.ts";
import type { Vit } from "./vit.ts";

/** An image that could not be read. */
export interface SkippedImage {
  readonly imageIndex: number;
  readonly name: string;
  readonly reason: string;
}

/** Activations of a few images. */
export interface ActivationBatch {
  /** Index in the source of each image, ascending. */
  readonly imageIndices: Uint32Array;
  /** Activations of each layer, in the order asked for; each of shape `[nImages, tokensPerImage, dModel]`. */
  readonly activations: readonly Float32Array[];
  /** Images of this stretch that could not be read. */
  readonly skipped: readonly SkippedImage[];
}

/** Options of {@linkcode recordActivations}. */
export interface RecordOptions {
  /** Layers (0-based blocks) to record; negative ones count from the last. */
  layers: readonly number[];
  /**
   * Where in each block.
   *
   * @default {"residPost"}
   */
  hook?: HookPoint;
  /**
   * Which images of the source, ascending.
   *
   * @default every image
   */
  imageIndices?: readonly number[];
  /**
   * Images a batch.
   *
   * @default {32}
   */
  batchSize?: number;
  /**
   * What to do with an image that cannot be decoded: leave it out and say so in the batch, or throw.
   *
   * @default {"skip"}
   */
  onBadImage?: "skip" | "error";
  /** Stops between batches. */
  signal?: AbortSignal;
  /** Called after each batch with the number of images done, the skipped ones among them. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Records activations of some layers of `vit`, all in one pass.
 *
 * @returns Batches in the order of the images. A batch may be empty where all its images were skipped.
 */
export async function* recordActivations(
  vit: Vit,
  images: ImageSource,
  options: RecordOptions,
): AsyncIterable<ActivationBatch> {
  const { hook, batchSize = 32, onBadImage = "skip", signal, onProgress } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw new RangeError(
      `Cannot record activations: batchSize must be an integer of 1 or more, current value is ${batchSize}`,
    );
  }
  const imageIndices = options.imageIndices ?? Array.from({ length: images.nImages }, (_, i) => i);
  const opened = await vit.openLayers(options.layers, { hook });
  const load = (first: number) => {
    const loading = loadPixels(vit, images, imageIndices.slice(first, first + batchSize), onBadImage);
    // A failure is thrown where it is awaited, in its turn; a run that stops before must not end the process.
    loading.catch(() => {});
    return loading;
  };
  try {
    let next = load(0);
    for (let first = 0; first < imageIndices.length; first += batchSize) {
      signal?.throwIfAborted();
      const { pixels, kept, skipped } = await next;
      if (first + batchSize < imageIndices.length) next = load(first + batchSize);
      const activations = kept.length > 0 ? await opened.run(pixels) : opened.layers.map(() => new Float32Array(0));
      yield { imageIndices: Uint32Array.from(kept), activations, skipped };
      onProgress?.(Math.min(first + batchSize, imageIndices.length), imageIndices.length);
    }
  } finally {
    await opened.close();
  }
}

async function loadPixels(
  vit: Vit,
  images: ImageSource,
  imageIndices: readonly number[],
  onBadImage: "skip" | "error",
): Promise<{ pixels: Float32Array; kept: number[]; skipped: SkippedImage[] }> {
  const settled = await Promise.allSettled(imageIndices.map(async (imageIndex) => {
    const image = await readImage(images, imageIndex, { background: vit.transform.background });
    return toPixelValues(image, vit.transform);
  }));
  const loaded = settled.map((result, i) => {
    if (result.status === "fulfilled") return result.value;
    // The first in order, not the first to fail.
    if (onBadImage === "error") throw result.reason;
    const imageIndex = imageIndices[i];
    return { imageIndex, name: images.info(imageIndex).name, reason: (result.reason as Error).message };
  });
  const kept = imageIndices.filter((_, i) => loaded[i] instanceof Float32Array);
  const pixels = new Float32Array(kept.length * 3 * vit.heightPx * vit.widthPx);
  let position = 0;
  for (const image of loaded) {
    if (!(image instanceof Float32Array)) continue;
    pixels.set(image, position);
    position += image.length;
  }
  return { pixels, kept, skipped: loaded.filter((image) => !(image instanceof Float32Array)) as SkippedImage[] };
}
