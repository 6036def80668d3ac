/**
 * A small recording to test shards with: 17 pictures through a torchvision ViT of 3 layers, 17 tokens, width 16.
 *
 * @module
 */
import type { ImageSource } from "../../lib/images/source.ts";
import type { ShardBatch } from "../../lib/shards/read.ts";
import { writeShards, type WriteShardsOptions } from "../../lib/shards/write.ts";
import { openVit, type Vit } from "../../lib/vit/vit.ts";
import { fixture, imageSource, makePicture, withFolder } from "../vit/fixtures.ts";

export const nImages = 17;
export const tokensPerImage = 17;
export const dModel = 16;
/** Layers that {@linkcode smallOptions} records. */
export const layers = [0, 2];

/** The ViT of `tests/fixtures/vit`. */
export function openSmallVit(): Promise<Vit> {
  return openVit(fixture("vit/torchvision.onnx"), { threads: 1 });
}

/** The first pictures, and how often they were read. */
export async function openPictures(count: number = nImages): Promise<ImageSource & { nReads: number }> {
  const source = imageSource(await Promise.all(Array.from({ length: count }, (_, i) => makePicture(i))));
  const counted = {
    ...source,
    nReads: 0,
    read(imageIndex: number) {
      counted.nReads++;
      return source.read(imageIndex);
    },
  };
  return counted;
}

/** Batches of 2 images, shards of 4. */
export function smallOptions(directory: string): WriteShardsOptions {
  const imageBytes = tokensPerImage * (4 + 2 + layers.length * dModel * 4);
  return { directory, layers, batchSize: 2, shardBytes: 4 * imageBytes };
}

/** All batches. */
export async function collect(batches: AsyncIterable<ShardBatch>): Promise<ShardBatch[]> {
  const collected: ShardBatch[] = [];
  for await (const batch of batches) collected.push(batch);
  return collected;
}

/** Numbers of some batches, one after another. */
export function joinActivations(batches: readonly { activations: Float32Array }[]): Float32Array {
  return Float32Array.from(batches.flatMap(({ activations }) => [...activations]));
}

/** Runs `test` on a folder with the small recording. */
export async function withRecording(test: (directory: string) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    await writeShards(await openSmallVit(), await openPictures(), smallOptions(folder));
    await test(folder);
  });
}
