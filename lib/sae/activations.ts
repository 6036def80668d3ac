/**
 * Opens activations to run an SAE on, wherever they were put: a recording of this kit or of saev, an array that NumPy
 * saved, or a tensor in a safetensors, torch or npz file. They are read range by range, so files may be larger than memory.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { isNpyFile, openNpyRows } from "../tensors/npy_rows.ts";
import { openTensorFile } from "../tensors/tensor_file.ts";
import { openShards, type TokenKind, tokenRange } from "../shards/read.ts";
import { isSaevFolder, openSaevShards } from "../shards/saev.ts";

/** Options of {@linkcode openActivations}. */
export interface OpenActivationsOptions {
  /**
   * Layer of a recording; negative numbers count from the last recorded one.
   *
   * @default the one layer of the recording
   */
  layer?: number;
  /**
   * Tokens of a recording.
   *
   * @default {"patches"}
   */
  tokens?: TokenKind;
  /**
   * Name of the tensor, for files that hold several.
   *
   * @default the only one that is shaped like activations
   */
  tensor?: string;
}

/** Options of {@linkcode Activations.batches}. */
export interface BatchesOptions {
  /**
   * Tokens of a batch, at most. Batches are as even as they can be: 10 tokens by 4 make 4, 3 and 3.
   *
   * @default {4096}
   */
  batchSize?: number;
  /** Stops between batches. */
  signal?: AbortSignal;
}

/** Activations that can be read again and again. */
export interface Activations {
  /** Where they are, for people. */
  readonly source: string;
  readonly nTokens: number;
  readonly dModel: number;
  /** Tokens of an image; `undefined` where it is not known. Images follow each other whole. */
  readonly tokensPerImage: number | undefined;
  /** Reads all of them, each batch of shape `[nTokens, dModel]`, in order. */
  batches(options?: BatchesOptions): AsyncIterable<Float32Array>;
  close(): Promise<void>;
}

/** Where activations come from, before they are cut into batches. */
interface TokenSource {
  readonly nTokens: number;
  readonly dModel: number;
  readonly tokensPerImage: number | undefined;
  /** Pieces of any size, about `batchSize` tokens, in order. */
  pieces(batchSize: number): AsyncIterable<Float32Array>;
  close(): Promise<void>;
}

/**
 * Opens activations: the folder of a recording (saev's own shards, too), an `.npy` file, or a safetensors, torch or npz file. Arrays are of shape
 * `[nTokens, dModel]` or `[nImages, tokensPerImage, dModel]` and of float16, float32 or float64 (bfloat16 in tensor
 * files); either memory order and either byte order will do.
 *
 * @throws {Error} If there is nothing of that name, or it cannot be opened.
 * @throws {SyntaxError} If it is damaged.
 * @throws {TypeError} If it holds numbers of another kind.
 * @throws {RangeError} If it is of another shape, holds no tokens, or an option names what is not there.
 */
export async function openActivations(source: string, options: OpenActivationsOptions = {}): Promise<Activations> {
  const found = await stat(source).catch(() => undefined);
  if (found === undefined) {
    throw new Error(`Cannot open activations ${source}: there must be a folder or a file of that name, there is none`);
  }
  if (!found.isDirectory() && (options.layer !== undefined || options.tokens !== undefined)) {
    throw new RangeError(
      `Cannot open activations ${source}: layer and tokens choose from a recording, they must be left out for a file`,
    );
  }
  const opened = found.isDirectory()
    ? await isSaevFolder(source) ? await openSaev(source, options) : await openRecording(source, options)
    : await isNpyFile(source)
    ? await openNpy(source)
    : await openTensor(source, options.tensor);
  const { nTokens, dModel, tokensPerImage } = opened;
  return {
    source,
    nTokens,
    dModel,
    tokensPerImage,
    batches: ({ batchSize = 4096, signal } = {}) => evenBatches(opened, { batchSize, signal }),
    close: () => opened.close(),
  };
}

async function openRecording(directory: string, { layer, tokens = "patches" }: OpenActivationsOptions) {
  const shards = await openShards(directory);
  try {
    const { metadata } = shards;
    const { layers, d_model: dModel, n_images: nImages } = metadata;
    const chosen = shards.resolveLayer(chooseLayer(directory, layers, layer));
    const { count } = tokenRange(metadata, tokens);
    return {
      nTokens: nImages * count,
      dModel,
      tokensPerImage: count,
      async *pieces() {
        for await (const { activations } of shards.readBatches({ layer: chosen, tokens })) yield activations;
      },
      close: () => shards.close(),
    };
  } catch (error) {
    await shards.close();
    throw error;
  }
}

async function openSaev(
  directory: string,
  { layer, tokens = "patches" }: OpenActivationsOptions,
): Promise<TokenSource> {
  const shards = await openSaevShards(directory);
  const { layers, nImages, layout } = shards;
  const chosen = shards.resolveLayer(chooseLayer(directory, layers, layer));
  const { count } = tokenRange(layout, tokens);
  return {
    nTokens: nImages * count,
    dModel: layout.d_model,
    tokensPerImage: count,
    pieces: (batchSize) =>
      shards.readImages({ layer: chosen, tokens, imagesPerBatch: Math.max(1, Math.floor(batchSize / count)) }),
    close: () => Promise.resolve(),
  };
}

/** The layer asked for, or the only one. */
function chooseLayer(directory: string, layers: readonly number[], layer: number | undefined): number {
  if (layer !== undefined || layers.length === 1) return layer ?? layers[0];
  throw new RangeError(
    `Cannot open activations ${directory}: layer must be given, one of ${layers.join(", ")} was recorded`,
  );
}

async function openNpy(path: string): Promise<TokenSource> {
  const array = await openNpyRows(path);
  try {
    return rowsOf(path, array, (rows) => array.readRows(rows), () => array.close());
  } catch (error) {
    await array.close();
    throw error;
  }
}

async function openTensor(path: string, wanted: string | undefined): Promise<TokenSource> {
  const file = await openTensorFile(path);
  try {
    const candidates = [...file.entries].filter(([, { shape, dtype }]) => isShape(shape) && dtype.includes("float"));
    const listed = [...file.entries].slice(0, 20).map(([name, { shape }]) => `${name} [${shape.join(", ")}]`).join(
      "; ",
    );
    const name = wanted ?? (candidates.length === 1 ? candidates[0][0] : undefined);
    if (name === undefined) {
      throw new RangeError(
        `Cannot open activations ${path}: tensor must be given, as ${candidates.length} tensors of floats have 2 or 3 ` +
          `axes; there are ${listed}`,
      );
    }
    const entry = file.entries.get(name);
    if (entry === undefined) {
      throw new RangeError(
        `Cannot open activations ${path}: tensor must be one of ${listed}, current value is ${name}`,
      );
    }
    return rowsOf(path, entry, (rows) => file.readRows(name, rows), () => file.close());
  } catch (error) {
    await file.close();
    throw error;
  }
}

const isShape = (shape: readonly number[]) => shape.length === 2 || shape.length === 3;

/** Tokens of an array whose first axis can be read in ranges: tokens or images. */
function rowsOf(
  path: string,
  { shape }: { shape: readonly number[] },
  readRows: (rows: { first: number; count: number }) => Promise<Float32Array>,
  close: () => Promise<void>,
): TokenSource {
  const [nRows] = shape;
  const dModel = shape[shape.length - 1];
  const tokensPerRow = shape.length === 3 ? shape[1] : 1;
  if (!isShape(shape) || shape.includes(0)) {
    throw new RangeError(
      `Cannot open activations ${path}: shape must be [nTokens, dModel] or [nImages, tokensPerImage, dModel], none of ` +
        `them 0, current shape is [${shape.join(", ")}]`,
    );
  }
  return {
    nTokens: nRows * tokensPerRow,
    dModel,
    tokensPerImage: shape.length === 3 ? tokensPerRow : undefined,
    async *pieces(batchSize) {
      const rowsPerPiece = Math.max(1, Math.floor(batchSize / tokensPerRow));
      for (let first = 0; first < nRows; first += rowsPerPiece) {
        yield await readRows({ first, count: Math.min(rowsPerPiece, nRows - first) });
      }
    },
    close,
  };
}

/** Batches whose sizes differ by one at most: a rest of one token could not be normalized by its batch. */
export async function* evenBatches(
  { nTokens, dModel, pieces }: Pick<TokenSource, "nTokens" | "dModel" | "pieces">,
  { batchSize, signal }: { batchSize: number; signal?: AbortSignal },
): AsyncIterable<Float32Array> {
  if (!(Number.isInteger(batchSize) && batchSize >= 1)) {
    throw new RangeError(
      `Cannot read activations: batchSize must be an integer of 1 or more, current value is ${batchSize}`,
    );
  }
  const nBatches = Math.ceil(nTokens / batchSize);
  const sizeOf = (batch: number) => (Math.floor(nTokens / nBatches) + Number(batch < nTokens % nBatches)) * dModel;
  let batch = 0;
  let target: Float32Array = new Float32Array(sizeOf(0));
  let filled = 0;
  for await (const piece of pieces(batchSize)) {
    signal?.throwIfAborted();
    for (let start = 0; start < piece.length;) {
      const count = Math.min(target.length - filled, piece.length - start);
      // A piece that is a batch needs no copy.
      if (count === piece.length && count === target.length) target = piece;
      else target.set(piece.subarray(start, start + count), filled);
      start += count;
      filled += count;
      if (filled < target.length) continue;
      yield target;
      signal?.throwIfAborted();
      filled = 0;
      if (++batch < nBatches) target = new Float32Array(sizeOf(batch));
    }
  }
}
