/**
 * Opens a recording and reads the activations of one layer batch by batch, the next one while the caller works on one.
 * Only the bytes of that layer are read: neither a shard nor its other layers are ever in memory.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type ArrowFileReader, openArrowFile } from "../arrow/file_reader.ts";
import type { HookPoint } from "../vit/hooks.ts";
import {
  checkDtype,
  layerColumn,
  metadataFileName,
  parseMetadata,
  progressFileName,
  recordedHook,
  type RecordingMetadata,
  shardSchema,
} from "./format.ts";
import { readAhead } from "./read_ahead.ts";
import { selectTokens, type TokenKind, tokenRange } from "./tokens.ts";

export { selectTokens, type TokenKind, type TokenLayout, tokenRange } from "./tokens.ts";

/** Activations of a few whole images at one layer. */
export interface ShardBatch {
  /** Index of each image in its source, ascending. */
  readonly imageIndices: Uint32Array;
  /** Tokens of each image in this batch. */
  readonly tokensPerImage: number;
  /** Shape `[nImages · tokensPerImage, dModel]`. Float32 with `tokens: "all"` is a view of the bytes read. */
  readonly activations: Float32Array;
}

/** Options of {@linkcode Shards.readBatches}. */
export interface ReadBatchesOptions {
  /** A recorded layer; negative numbers count from the last recorded one. */
  layer: number;
  /**
   * Which tokens.
   *
   * @default {"patches"}
   */
  tokens?: TokenKind;
  /**
   * Order of the batches, as integers from 0, below {@linkcode Shards.nBatches}. It is asked for one batch ahead.
   *
   * @default ascending
   */
  order?: Iterable<number>;
  /**
   * Whether a batch may lie in the memory of the one before last, which is much faster to read into than new memory. Its
   * `activations` then hold until the next batch is asked for.
   *
   * @default {false}
   */
  reuse?: boolean;
  /** Stops between batches. */
  signal?: AbortSignal;
}

/** A complete recording on disk. */
export interface Shards {
  readonly directory: string;
  readonly metadata: RecordingMetadata;
  /** Where in its blocks the recording was made. */
  readonly hook: HookPoint;
  readonly nBatches: number;
  /**
   * Checks that a layer was recorded.
   *
   * @throws {RangeError} If it was not.
   */
  resolveLayer(layer: number): number;
  /** Indices in their source of the images of each batch. Read once, and kept. */
  readImageIndices(): Promise<readonly Uint32Array[]>;
  /** Numbers of the batches that hold some of these images, ascending; for `order` of {@linkcode readBatches}. */
  batchesOf(imageIndices: Iterable<number>): Promise<number[]>;
  /** Reads the activations of one layer, each batch a few whole images. The batch after the one handed out is being read. */
  readBatches(options: ReadBatchesOptions): AsyncIterable<ShardBatch>;
  close(): Promise<void>;
}

/**
 * Opens a recording and checks that it is whole: finished, of a known version, every shard present with its size and
 * its columns.
 *
 * @throws {Error} If the folder holds no finished recording.
 * @throws {SyntaxError} If a shard is missing, cut short or not what the metadata says.
 * @throws {RangeError} If it was written by a newer version of the format.
 */
export async function openShards(directory: string): Promise<Shards> {
  const metadata = await readMetadata(directory);
  const hook = recordedHook(metadata);
  checkDtype(metadata.dtype, `read shards in ${directory}`);
  const schema = shardSchema(metadata);
  const files: ArrowFileReader[] = [];
  const close = async () => {
    await Promise.all(files.map((file) => file.close()));
  };
  try {
    for (const entry of metadata.shards) {
      const path = join(directory, entry.file);
      const size = await stat(path).then((found) => found.size, () => undefined);
      if (size !== entry.n_bytes) {
        throw new SyntaxError(
          `Cannot read ${path}: its size must be ${entry.n_bytes} bytes, ` +
            `${
              size === undefined ? "the file is missing" : `current size is ${size}`
            }; record again into another folder`,
        );
      }
      const file = await openArrowFile(path);
      files.push(file);
      if (String(file.schema.fields) !== String(schema.fields)) {
        throw new SyntaxError(
          `Cannot read ${path}: its columns must be ${schema.fields.join(", ")}, current ones are ` +
            `${file.schema.fields.join(", ")}`,
        );
      }
      const rows = file.batchRows.reduce((total, count) => total + count, 0);
      const hasWholeImages = file.batchRows.every((count) => count % metadata.tokens_per_image === 0);
      if (rows !== entry.n_images * metadata.tokens_per_image || !hasWholeImages) {
        throw new SyntaxError(
          `Cannot read ${path}: it must hold ${entry.n_images} images of ${metadata.tokens_per_image} tokens, none ` +
            `split between batches, current batches are of ${file.batchRows.join(", ")} tokens`,
        );
      }
    }
  } catch (error) {
    await close();
    throw error;
  }

  const batches = files.flatMap((file) => file.batchRows.map((_, batchIndex) => ({ file, batchIndex })));
  const resolveLayer = (layer: number) => {
    const { layers } = metadata;
    const resolved = layer < 0 ? layers[layers.length + layer] : layer;
    if (!layers.includes(resolved)) {
      throw new RangeError(
        `Cannot read layer ${layer} of ${directory}: layer must be one of ${layers.join(", ")}`,
      );
    }
    return resolved;
  };
  const readImageIndices = async (position: number) => {
    const { file, batchIndex } = batches[position];
    const rows = new Uint32Array(await file.readColumn(batchIndex, "image_index"));
    const nImages = file.batchRows[batchIndex] / metadata.tokens_per_image;
    return Uint32Array.from({ length: nImages }, (_, i) => rows[i * metadata.tokens_per_image]);
  };
  let batchImages: Promise<Uint32Array[]> | undefined;
  // One after another: a large recording has a million images, and more bytes of indices than need to be there at once.
  const readOneByOne = async () => {
    const images: Uint32Array[] = [];
    for (const position of batches.keys()) images.push(await readImageIndices(position));
    return images;
  };
  return {
    directory,
    metadata,
    hook,
    nBatches: batches.length,
    resolveLayer,
    readImageIndices: () => batchImages ??= readOneByOne(),
    async batchesOf(imageIndices) {
      const wanted = new Set(imageIndices);
      const images = await (batchImages ??= readOneByOne());
      return Array.from(images.keys()).filter((position) => images[position].some((image) => wanted.has(image)));
    },
    async *readBatches({ layer, tokens = "patches", order, reuse = false, signal }) {
      const column = layerColumn(resolveLayer(layer));
      const range = tokenRange(metadata, tokens);
      const isView = metadata.dtype === "float32" && range.count === metadata.tokens_per_image;
      // Two, as one batch is read while the caller has another. What is copied out of needs only one.
      const reads: ArrayBuffer[] = [];
      const copies: Float32Array[] = [];
      let nRead = 0;
      const readBatch = async (position: number): Promise<ShardBatch> => {
        if (batches[position] === undefined) {
          throw new RangeError(
            `Cannot read batch ${position} of ${directory}: it must be an integer from 0 to ${batches.length - 1}`,
          );
        }
        const { file, batchIndex } = batches[position];
        const turn = nRead++ % 2;
        const place = isView ? turn : 0;
        const [imageIndices, bytes] = await Promise.all([
          readImageIndices(position),
          file.readColumn(batchIndex, column, reads[place]),
        ]);
        if (reuse || !isView) reads[place] = bytes;
        const values = metadata.dtype === "float32" ? new Float32Array(bytes) : new Uint16Array(bytes);
        const length = imageIndices.length * range.count * metadata.d_model;
        if (!isView && (!reuse || (copies[turn]?.length ?? 0) < length)) copies[turn] = new Float32Array(length);
        const into = copies[turn]?.subarray(0, length);
        const activations = selectTokens(values, imageIndices.length, { layout: metadata, range, into });
        return { imageIndices, tokensPerImage: range.count, activations };
      };
      yield* readAhead(order ?? batches.keys(), readBatch, { signal });
    },
    close,
  };
}

async function readMetadata(directory: string): Promise<RecordingMetadata> {
  const path = join(directory, metadataFileName);
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (text !== undefined) return parseMetadata(text, path);
  const unfinished = await readFile(join(directory, progressFileName), "utf8").catch(() => undefined);
  if (unfinished !== undefined) {
    const { n_done: done, dataset } = parseMetadata(unfinished, join(directory, progressFileName));
    throw new Error(
      `Cannot read shards in ${directory}: the recording must be finished, ${done} of ${dataset.n_selected} images are ` +
        `done; run the same record command again to resume it`,
    );
  }
  throw new Error(
    `Cannot read shards in ${directory}: it must hold ${metadataFileName}; make a recording with \`record\` first`,
  );
}
