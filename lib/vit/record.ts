/**
 * Records activations of a ViT over a source of images, batch by batch: while the model looks at one batch, the next one
 * is decoded, and the files of the one after it are read. A run of the model blocks this thread, and decoding (in
 * sharp's own threads) goes on meanwhile only if it was begun with the file at hand: hence two batches ahead.
 *
 * @module
 */
import { decodeImage } from "../images/decode.ts";
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

// A file that takes longer would hold up a batch that is ready.
const MOST_WAIT_MS = 100;

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
  const nBatches = Math.ceil(imageIndices.length / batchSize);
  const opening = vit.openLayers(options.layers, { hook });
  const readAhead = (batch: number) =>
    readFiles(images, imageIndices.slice(batch * batchSize, (batch + 1) * batchSize));
  // A batch is written while the model looks at the one before, so there are two places, and no page of them is new.
  const buffers: Float32Array[] = [];
  const load = (batch: number, files: ReadFiles) => {
    const length = Math.min(batchSize, imageIndices.length) * 3 * vit.heightPx * vit.widthPx;
    const loading = loadPixels(vit, files, {
      images,
      buffer: buffers[batch % 2] ??= new Float32Array(length),
      onBadImage,
    });
    // A failure is thrown where it is awaited, in its turn; a run that stops before must not end the process.
    loading.catch(() => {});
    return loading;
  };
  // The first images are decoded while the model is opened.
  let next = load(0, readAhead(0));
  let files = readAhead(1);
  const opened = await opening;
  try {
    for (let batch = 0; batch < nBatches; batch++) {
      signal?.throwIfAborted();
      const { pixels, kept, skipped } = await next;
      // Read during the last run, if they have not arrived they would be decoded after this one, not beside it.
      await settledWithin(files.map(({ file }) => file), MOST_WAIT_MS);
      next = load(batch + 1, files);
      files = readAhead(batch + 2);
      const activations = kept.length > 0 ? await opened.run(pixels) : opened.layers.map(() => new Float32Array(0));
      yield { imageIndices: Uint32Array.from(kept), activations, skipped };
      onProgress?.(Math.min((batch + 1) * batchSize, imageIndices.length), imageIndices.length);
    }
  } finally {
    await opened.close();
  }
}

/** Waits until all have settled, but not for one that hangs. */
async function settledWithin(promises: readonly Promise<unknown>[], mostMs: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => timer = setTimeout(resolve, mostMs));
  await Promise.race([Promise.allSettled(promises), late]);
  clearTimeout(timer);
}

/** Encoded images of a batch, each as soon as it is read. */
type ReadFiles = readonly { readonly imageIndex: number; readonly file: Promise<Uint8Array> }[];

function readFiles(images: ImageSource, imageIndices: readonly number[]): ReadFiles {
  return imageIndices.map((imageIndex) => {
    const file = Promise.resolve().then(() => images.read(imageIndex));
    file.catch(() => {}); // thrown where it is awaited
    return { imageIndex, file };
  });
}

/** Options of {@linkcode loadPixels}. */
interface LoadOptions {
  images: ImageSource;
  /** Where the pixels go, with place for a whole batch. */
  buffer: Float32Array;
  onBadImage: "skip" | "error";
}

/** Pixels of the images of a batch that can be read, one after another. */
async function loadPixels(
  vit: Vit,
  files: ReadFiles,
  { images, buffer, onBadImage }: LoadOptions,
): Promise<{ pixels: Float32Array; kept: number[]; skipped: SkippedImage[] }> {
  const { transform } = vit;
  const imageLength = 3 * vit.heightPx * vit.widthPx;
  const settled = await Promise.allSettled(files.map(async ({ imageIndex, file }, i) => {
    const { name } = images.info(imageIndex);
    const image = await decodeImage(await file, { name, background: transform.background });
    toPixelValues(image, transform, { into: buffer.subarray(i * imageLength, (i + 1) * imageLength) });
  }));
  const kept: number[] = [];
  const skipped: SkippedImage[] = [];
  settled.forEach((result, i) => {
    const { imageIndex } = files[i];
    if (result.status === "fulfilled") {
      // Moves up where images before it were left out.
      if (kept.length < i) buffer.copyWithin(kept.length * imageLength, i * imageLength, (i + 1) * imageLength);
      kept.push(imageIndex);
      return;
    }
    // The first in order, not the first to fail.
    if (onBadImage === "error") throw result.reason;
    skipped.push({ imageIndex, name: images.info(imageIndex).name, reason: (result.reason as Error).message });
  });
  return { pixels: buffer.subarray(0, kept.length * imageLength), kept, skipped };
}
