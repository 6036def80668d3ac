/**
 * Records a ViT over images into shards on disk: streaming, atomic, and resumable. A shard appears under its name
 * only when whole; `recording.json` says how far a run came, and becomes `metadata.json` when all is done.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { readdir, readFile, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { RecordBatch } from "apache-arrow";
import { type ArrowFileWriter, createArrowFile } from "../arrow/file_writer.ts";
import type { ImageSource } from "../images/source.ts";
import { makeFolder, replaceFile } from "../runtime/files.ts";
import { checkHookPoint } from "../vit/hooks.ts";
import { type ActivationBatch, recordActivations, type RecordOptions } from "../vit/record.ts";
import type { Vit } from "../vit/vit.ts";
import { encodeBatch } from "./encode.ts";
import {
  checkDtype,
  dtypeBytes,
  metadataFileName,
  parseMetadata,
  progressFileName,
  type RecordingInfo,
  type RecordingMetadata,
  type ShardDtype,
  shardFileName,
  shardFormatVersion,
  shardSchema,
  streamNames,
} from "./format.ts";

/** Options of {@linkcode writeShards}. */
export interface WriteShardsOptions extends RecordOptions {
  /** Folder of the recording; made if it is missing. A stopped recording in it is resumed. */
  directory: string;
  /**
   * Size that a shard grows to, in bytes. A killed run loses at most one shard's work.
   *
   * @default {134217728}
   */
  shardBytes?: number;
  /**
   * How numbers are stored. Float16 takes half the space and rounds each number by at most a part in 2,048
   * (`docs/shards.md` says what that costs).
   *
   * @default {"float32"}
   */
  dtype?: ShardDtype;
}

/**
 * Records activations of `vit` over `images` into `directory`. Where the folder holds a stopped recording of
 * the same model, layers and images it is resumed; where it holds a complete one, nothing is done. When `signal`
 * aborts, the images done so far are kept.
 *
 * @returns The metadata of the complete recording.
 * @throws {Error} If the folder holds another recording, or cannot be written.
 * @throws {RangeError} If an activation is beyond what `dtype` holds.
 */
export async function writeShards(
  vit: Vit,
  images: ImageSource,
  options: WriteShardsOptions,
): Promise<RecordingMetadata> {
  const { directory, shardBytes = 128 * 2 ** 20, onProgress, signal } = options;
  if (!(shardBytes > 0)) {
    throw new RangeError(`Cannot record shards: shardBytes must be above 0, current value is ${shardBytes}`);
  }
  const imageIndices = options.imageIndices ?? Array.from({ length: images.nImages }, (_, i) => i);
  const info = describeRecording(vit, images, options);
  const schema = shardSchema(info);
  const state = await startOrResume(directory, info);
  if (state.complete) return state.metadata;

  const { metadata } = state;
  const imageBytes = info.tokens_per_image * (6 + dtypeBytes[info.dtype] * info.d_model * info.layers.length);
  const imagesPerShard = Math.max(1, Math.floor(shardBytes / imageBytes));
  const doneBefore = metadata.n_done;
  let writer: ArrowFileWriter | undefined;
  let pending = { nImages: 0, nDone: 0, skipped: [] as RecordingMetadata["skipped"] };

  const closeShard = async () => {
    if (writer !== undefined) {
      const nBytes = await writer.finish();
      writer = undefined;
      metadata.shards.push({ file: shardFileName(metadata.shards.length), n_images: pending.nImages, n_bytes: nBytes });
      metadata.n_images += pending.nImages;
      metadata.n_tokens += pending.nImages * info.tokens_per_image;
    }
    metadata.n_done += pending.nDone;
    metadata.skipped.push(...pending.skipped);
    pending = { nImages: 0, nDone: 0, skipped: [] };
    await writeJson(join(directory, progressFileName), metadata);
  };
  const store = async (batch: ActivationBatch, encoded: RecordBatch) => {
    if (batch.imageIndices.length > 0) await writer!.write(encoded);
    pending.nImages += batch.imageIndices.length;
    pending.nDone += batch.imageIndices.length + batch.skipped.length;
    pending.skipped.push(
      ...batch.skipped.map(({ imageIndex, name, reason }) => ({ image_index: imageIndex, name, reason })),
    );
    if (pending.nImages >= imagesPerShard) await closeShard();
  };
  // One batch goes to disk while the model looks at the next.
  let storing = Promise.resolve();
  try {
    const batches = recordActivations(vit, images, {
      ...options,
      imageIndices: imageIndices.slice(doneBefore),
      onProgress: (done) => onProgress?.(doneBefore + done, imageIndices.length),
    });
    for await (const batch of batches) {
      const encoded = encodeBatch(batch, { info, schema });
      await storing;
      if (batch.imageIndices.length > 0) {
        writer ??= await createArrowFile(join(directory, shardFileName(metadata.shards.length)), schema);
      }
      storing = store(batch, encoded);
      storing.catch(() => {}); // thrown where it is awaited
    }
    await storing;
  } catch (error) {
    const isStored = await storing.then(() => true, () => false);
    // Stopped on purpose: keep what is done. Anything else leaves the shards that were complete.
    if (isStored && signal?.aborted && error === signal.reason) await closeShard();
    else await writer?.abandon();
    throw error;
  }
  await closeShard();
  if (metadata.n_images === 0) {
    await unlink(join(directory, progressFileName));
    throw new Error(
      `Cannot record ${images.location}: at least one image must be readable, the first of ${metadata.skipped.length} ` +
        `failed with: ${metadata.skipped[0]?.reason}`,
    );
  }
  await rename(join(directory, progressFileName), join(directory, metadataFileName));
  return metadata;
}

/** What a recording with these options holds, known before it is made. */
export function describeRecording(
  vit: Vit,
  images: ImageSource,
  { layers, hook = "residPost", imageIndices: selected, dtype = "float32" }: RecordOptions & { dtype?: ShardDtype },
): RecordingInfo {
  checkHookPoint(hook);
  checkDtype(dtype, "record shards");
  const { kind, location, fingerprint, nImages } = images;
  const selection = selected ? createHash("sha256").update(Uint32Array.from(selected)).digest("hex") : "all";
  return {
    format_version: shardFormatVersion,
    model: { path: vit.path, sha256: vit.fingerprint, ...(vit.replacedGelu && { gelu: vit.replacedGelu }) },
    layers: vit.resolveLayers(layers),
    stream: streamNames[hook],
    dtype,
    d_model: vit.dModel,
    tokens_per_image: vit.tokensPerImage,
    n_special_tokens: vit.nSpecialTokens,
    cls: vit.specialTokens[0] === "cls",
    grid_height: vit.gridHeight,
    grid_width: vit.gridWidth,
    dataset: { kind, location, fingerprint, n_images: nImages, n_selected: selected?.length ?? nImages, selection },
    transform: { ...vit.transform },
  };
}

async function startOrResume(
  directory: string,
  info: RecordingInfo,
): Promise<{ complete: boolean; metadata: RecordingMetadata }> {
  await makeFolder(directory);
  for (const file of [metadataFileName, progressFileName]) {
    const path = join(directory, file);
    const text = await readFile(path, "utf8").catch(() => undefined);
    if (text === undefined) continue;
    const metadata = parseMetadata(text, path);
    const differing = (Object.keys(info) as (keyof RecordingInfo)[]).filter((key) =>
      JSON.stringify(withoutPaths(metadata)[key]) !== JSON.stringify(withoutPaths(info)[key])
    );
    // A run that failed at its first images has nothing to lose.
    if (differing.length > 0 && file === progressFileName && metadata.n_done === 0) break;
    if (differing.length > 0) {
      throw new Error(
        `Cannot record into ${directory}: it must be empty or hold the same recording, the one in it differs in ` +
          `${differing.join(", ")}; choose another folder or delete it`,
      );
    }
    return { complete: file === metadataFileName, metadata };
  }
  const names = await readdir(directory);
  const stray = names.includes(progressFileName) ? [] : names.filter((name) => /^shard_\d+\.arrow$/.test(name));
  if (stray.length > 0) {
    throw new Error(
      `Cannot record into ${directory}: it must be empty or hold a recording, it holds ${stray[0]} without ` +
        `${metadataFileName}; choose another folder or delete it`,
    );
  }
  const metadata = { ...info, n_images: 0, n_tokens: 0, n_done: 0, shards: [], skipped: [] };
  await writeJson(join(directory, progressFileName), metadata);
  return { complete: false, metadata };
}

/** The same model and images may have moved. */
function withoutPaths(info: RecordingInfo): RecordingInfo {
  return { ...info, model: { ...info.model, path: "" }, dataset: { ...info.dataset, location: "" } };
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await replaceFile(path, JSON.stringify(value, undefined, 2) + "\n");
}
