/**
 * Where tokens to train on come from: a recording, or images that a ViT looks at anew in each pass, with nothing on disk.
 * Training asks both for the same few things, and a run's folder keeps which tokens they were.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { assertImageIndex } from "../images/fingerprint.ts";
import type { ImageSource } from "../images/source.ts";
import type { SaeProvenance } from "../sae/sae.ts";
import type { RecordingInfo } from "../shards/format.ts";
import { selectTokens, type Shards, type TokenKind, tokenRange } from "../shards/read.ts";
import { describeRecording } from "../shards/write.ts";
import type { HookPoint } from "../vit/hooks.ts";
import { recordActivations } from "../vit/record.ts";
import type { Vit } from "../vit/vit.ts";
import { randomOrder } from "./random.ts";

/** Options of {@linkcode TokenSource.readBatches}. */
export interface ReadTokensOptions {
  /** A layer of the source; negative ones count from its last. */
  layer: number;
  /**
   * Which tokens.
   *
   * @default {"patches"}
   */
  tokens?: TokenKind;
  /**
   * Source of randomness for the order of the images; the same sequence gives the same order.
   *
   * @default ascending
   */
  random?: () => number;
  /** Stops between batches. */
  signal?: AbortSignal;
}

/** Tokens that can be read again and again. */
export interface TokenSource {
  /** What it is made of. */
  readonly kind: "recording" | "images";
  /** Where that is, for people. */
  readonly location: string;
  /** What a recording says of itself: the model, its layers, how its tokens lie, the images. */
  readonly info: RecordingInfo;
  /** Where in its blocks. */
  readonly hook: HookPoint;
  /** Images that are read. */
  readonly nImages: number;
  /** Hex SHA-256 of what decides on the tokens, wherever it lies, but for which images are read. */
  readonly fingerprint: string;
  /** Which images are read: `"all"`, or the hex SHA-256 of their indices as uint32, ascending. */
  readonly selection: string;
  /**
   * Checks that there is such a layer.
   *
   * @throws {RangeError} If there is not.
   */
  resolveLayer(layer: number): number;
  /**
   * Reads each image once, a few whole ones at a time: activations of shape `[nTokens, dModel]`, which hold until the next
   * ones are asked for. The next ones are being read meanwhile.
   */
  readBatches(options: ReadTokensOptions): AsyncIterable<Float32Array>;
}

/** Options of {@linkcode shardTokens}. */
export interface ShardTokensOptions {
  /**
   * Images to read, as `selectImages()` gives them. Those that were not recorded do not count.
   *
   * @default all that were recorded
   */
  imageIndices?: Iterable<number>;
}

/**
 * Tokens of a recording. Only the batches that hold wanted images are read.
 *
 * @throws {RangeError} If no wanted image was recorded.
 */
export async function shardTokens(shards: Shards, options: ShardTokensOptions = {}): Promise<TokenSource> {
  if (options.imageIndices === undefined) return toTokenSource(shards);
  const wanted = new Set(options.imageIndices);
  const recorded = (await shards.readImageIndices()).flatMap((images) => [...images]);
  const kept = recorded.filter((image) => wanted.has(image)).sort((a, b) => a - b);
  if (kept.length === 0) {
    throw new RangeError(
      `Cannot read tokens of ${shards.directory}: imageIndices must name images that were recorded, none of ` +
        `${wanted.size} is`,
    );
  }
  if (kept.length === recorded.length) return toTokenSource(shards);
  return {
    ...toTokenSource(shards),
    nImages: kept.length,
    selection: hashIndices(kept),
    async *readBatches({ random, ...read }) {
      const batches = await shards.batchesOf(wanted);
      const order = random === undefined ? batches : inRandomOrder(batches, random);
      for await (const { imageIndices, activations } of shards.readBatches({ ...read, order, reuse: true })) {
        const imageLength = activations.length / imageIndices.length;
        // Neighbors go together.
        for (let end = 0; end < imageIndices.length; end++) {
          const first = end;
          while (end < imageIndices.length && wanted.has(imageIndices[end])) end++;
          if (end > first) yield activations.subarray(first * imageLength, end * imageLength);
        }
      }
    },
  };
}

/** What training takes: a recording is a source of all of its tokens. */
export function toTokenSource(data: Shards | TokenSource): TokenSource {
  if ("kind" in data) return data;
  const { metadata, directory, hook, resolveLayer } = data;
  return {
    ...{ kind: "recording", location: directory, info: metadata, hook, resolveLayer },
    nImages: metadata.n_images,
    fingerprint: fingerprintOf(metadata),
    selection: "all",
    async *readBatches({ random, ...read }) {
      const order = random && randomOrder(data.nBatches, random);
      for await (const { activations } of data.readBatches({ ...read, order, reuse: true })) yield activations;
    },
  };
}

/** Options of {@linkcode imageTokens}. */
export interface ImageTokensOptions {
  /**
   * Where in each block.
   *
   * @default {"residPost"}
   */
  hook?: HookPoint;
  /**
   * Images to read, as `selectImages()` gives them.
   *
   * @default every image
   */
  imageIndices?: Iterable<number>;
  /** Called after each batch with the number of images that a pass has looked at. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Tokens of images, as a ViT gives them whenever they are read: slower than a recording from the second pass on, and
 * without its gigabytes. All images must be readable, as a pass is as long as their number says.
 *
 * @throws {RangeError} If an image is out of range, there is none, or there is no such hook.
 */
export function imageTokens(vit: Vit, images: ImageSource, options: ImageTokensOptions = {}): TokenSource {
  const { hook = "residPost", onProgress } = options;
  const { nImages, location } = images;
  const chosen = [...new Set(options.imageIndices ?? Array(nImages).keys())].sort((a, b) => a - b);
  for (const image of chosen) assertImageIndex(image, nImages);
  if (chosen.length === 0) {
    throw new RangeError(`Cannot read tokens of ${location}: imageIndices must name at least one image, it is empty`);
  }
  const info = describeRecording(vit, images, { layers: Array.from(Array(vit.nLayers).keys()), hook });
  return {
    ...{ kind: "images", location, info, hook },
    nImages: chosen.length,
    fingerprint: fingerprintOf(info),
    selection: chosen.length === nImages ? "all" : hashIndices(chosen),
    resolveLayer: (layer) => vit.resolveLayers([layer])[0],
    async *readBatches({ layer, tokens = "patches", random, signal }) {
      const range = tokenRange(info, tokens);
      const imageIndices = random === undefined ? chosen : inRandomOrder(chosen, random);
      const batches = recordActivations(vit, images, { layers: [layer], hook, imageIndices, signal, onProgress });
      for await (const { imageIndices: kept, activations: [values], skipped: [unreadable] } of batches) {
        if (unreadable) {
          throw new Error(
            `Cannot read tokens of ${location}: every image must be readable, ${unreadable.name} is not ` +
              `(${unreadable.reason}); choose others, or record the images, which leaves it out`,
          );
        }
        yield selectTokens(values, kept.length, { layout: info, range });
      }
    },
  };
}

/** What an SAE trained on a source is told of it. */
export function provenanceOf(
  { info: { model }, hook }: TokenSource,
  { layer, tokens }: { layer: number; tokens: TokenKind },
): SaeProvenance {
  return { model: { name: model.path.split(/[\\/]/).pop()!, sha256: model.sha256 }, layer, hook, tokens };
}

function inRandomOrder(values: readonly number[], random: () => number): number[] {
  return Array.from(randomOrder(values.length, random), (i) => values[i]);
}

/** The same model and images may have moved. */
function fingerprintOf(info: RecordingInfo): string {
  const content = { ...info, model: { ...info.model, path: "" }, dataset: { ...info.dataset, location: "" } };
  return createHash("sha256").update(JSON.stringify(content)).digest("hex");
}

function hashIndices(imageIndices: Iterable<number>): string {
  return createHash("sha256").update(Uint32Array.from(imageIndices)).digest("hex");
}
