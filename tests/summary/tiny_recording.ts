/**
 * Recordings made of numbers instead of images, for tests: written with the same Arrow writer and schema as real ones.
 *
 * @module
 */
import { mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  Field,
  FixedSizeList,
  Float32,
  makeData,
  RecordBatch,
  type Schema,
  Struct,
  Uint16,
  Uint32,
} from "apache-arrow";
import { createArrowFile } from "../../lib/arrow/file_writer.ts";
import {
  metadataFileName,
  type RecordingMetadata,
  type ShardEntry,
  shardFileName,
  shardFormatVersion,
  shardSchema,
} from "../../lib/shards/format.ts";

/** Shape of a tiny recording. */
export interface TinyRecordingOptions {
  dModel: number;
  gridHeight: number;
  gridWidth: number;
  /** CLS first, then registers. @default {0} */
  nSpecialTokens?: number;
  /** The layer that the activations are of. @default {3} */
  layer?: number;
  /** Index of each image in its source. @default 0, 1, 2, … */
  imageIndices?: readonly number[];
  /** @default {4} */
  imagesPerBatch?: number;
  /** Batches of each shard. @default {2} */
  batchesPerShard?: number;
}

/**
 * Writes a recording of activations into `directory`.
 *
 * @param activations Shape `[nImages, nSpecialTokens + gridHeight · gridWidth, dModel]`.
 */
export async function writeTinyRecording(
  directory: string,
  activations: Float32Array,
  options: TinyRecordingOptions,
): Promise<void> {
  const { dModel, gridHeight, gridWidth, nSpecialTokens = 0, layer = 3 } = options;
  const { imagesPerBatch = 4, batchesPerShard = 2 } = options;
  const tokensPerImage = nSpecialTokens + gridHeight * gridWidth;
  const nImages = activations.length / (tokensPerImage * dModel);
  const imageIndices = options.imageIndices ?? Array.from({ length: nImages }, (_, i) => i);
  const info = {
    format_version: shardFormatVersion,
    model: { path: "models/tiny.onnx", sha256: "0123" },
    layers: [layer],
    stream: "resid_post",
    dtype: "float32",
    d_model: dModel,
    tokens_per_image: tokensPerImage,
    n_special_tokens: nSpecialTokens,
    cls: nSpecialTokens > 0,
    grid_height: gridHeight,
    grid_width: gridWidth,
    dataset: {
      kind: "folder",
      location: "images",
      fingerprint: "4567",
      n_images: Math.max(...imageIndices) + 1,
      n_selected: nImages,
      selection: "all",
    },
    transform: {},
  } as const;
  const schema = shardSchema({ ...info, layers: [layer] });
  const shards: ShardEntry[] = [];
  await mkdir(directory, { recursive: true });
  const imagesPerShard = imagesPerBatch * batchesPerShard;
  for (let start = 0; start < nImages; start += imagesPerShard) {
    const end = Math.min(nImages, start + imagesPerShard);
    const file = shardFileName(shards.length);
    const writer = await createArrowFile(join(directory, file), schema);
    for (let first = start; first < end; first += imagesPerBatch) {
      const last = Math.min(end, first + imagesPerBatch);
      const values = activations.subarray(first * tokensPerImage * dModel, last * tokensPerImage * dModel);
      await writer.write(recordBatch(values, imageIndices.slice(first, last), schema, { tokensPerImage, dModel }));
    }
    await writer.finish();
    shards.push({ file, n_images: end - start, n_bytes: (await stat(join(directory, file))).size });
  }
  const metadata: RecordingMetadata = {
    ...info,
    layers: [layer],
    n_images: nImages,
    n_tokens: nImages * tokensPerImage,
    n_done: nImages,
    shards,
    skipped: [],
  };
  await writeFile(join(directory, metadataFileName), JSON.stringify(metadata));
}

function recordBatch(
  values: Float32Array,
  images: readonly number[],
  schema: Schema,
  { tokensPerImage, dModel }: { tokensPerImage: number; dModel: number },
): RecordBatch {
  const length = images.length * tokensPerImage;
  const imageIndex = Uint32Array.from({ length }, (_, row) => images[Math.floor(row / tokensPerImage)]);
  const tokenIndex = Uint16Array.from({ length }, (_, row) => row % tokensPerImage);
  const children = [
    makeData({ type: new Uint32(), data: imageIndex }),
    makeData({ type: new Uint16(), data: tokenIndex }),
    makeData({
      type: new FixedSizeList(dModel, new Field("item", new Float32(), false)),
      length,
      nullCount: 0,
      child: makeData({ type: new Float32(), data: values }),
    }),
  ];
  return new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length, nullCount: 0, children }));
}
