/**
 * Recording on our side of the benchmark, beside the same session on pixels that are ready, in the same process: once
 * the embedded images with the embedded ViT, once photographs with a ViT-B/16.
 *
 * @module
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { embeddedPaths } from "../lib/embedded.ts";
import { openImages } from "../lib/images/open.ts";
import type { ImageSource } from "../lib/images/source.ts";
import { seededRandom } from "../lib/train/random.ts";
import { recordActivations } from "../lib/vit/record.ts";
import { openVit, type Vit } from "../lib/vit/vit.ts";
import { type Measured, threads, timed } from "./clock.ts";
import { fullSizes, readSizes } from "./data.ts";
import { buildVit, tinyVit, vitB16 } from "./vit_model.ts";

/** Small images for a small model: what surrounds the model weighs most here. */
export async function recordEmoji(folder: string): Promise<Omit<Measured, "peakMb">> {
  const { nRecorded: { emoji: nImages } } = await readSizes(folder);
  const paths = embeddedPaths();
  const vit = await openVit(paths.vit, { threads });
  const imageIndices = Array.from({ length: nImages }, (_, i) => 3 * i);
  return await measure(vit, await openImages(paths.images), { layer: paths.layer, imageIndices, batchSize: 32 });
}

/** Photographs for a model of the usual size. */
export async function recordPhotos(folder: string): Promise<Omit<Measured, "peakMb">> {
  const { dModel, nRecorded: { photos: nImages } } = await readSizes(folder);
  const model = join(folder, "vit.onnx");
  await writeFile(model, buildVit(dModel === fullSizes.dModel ? vitB16 : tinyVit));
  const photos = join(folder, "photos");
  await mkdir(photos, { recursive: true });
  for (let i = 0; i < nImages; i++) await writeFile(join(photos, `${i}.jpg`), await makePhoto(i));
  const vit = await openVit(model, { threads });
  const imageIndices = Array.from({ length: nImages }, (_, i) => i);
  return await measure(vit, await openImages(photos), { layer: -2, imageIndices, batchSize: 8 });
}

// By turns, so that a machine that is busy for a while is busy for both.
const N_ROUNDS = 3;

interface MeasureOptions {
  readonly layer: number;
  readonly imageIndices: readonly number[];
  readonly batchSize: number;
}

/** Records some images in the middle of a process that has warmed up, several times. */
async function measure(vit: Vit, images: ImageSource, options: MeasureOptions): Promise<Omit<Measured, "peakMb">> {
  const { layer, imageIndices, batchSize } = options;
  const opened = await vit.openLayers([layer]);
  // The session is opened once, for both.
  const reopened = { ...opened, close: () => Promise.resolve() };
  const open: Vit = { ...vit, openLayers: () => Promise.resolve(reopened) };
  const pixels = new Float32Array(batchSize * 3 * vit.heightPx * vit.widthPx);
  const bare = async (indices: readonly number[]) => {
    for (let i = 0; i < indices.length; i += batchSize) await opened.run(pixels);
    return indices.length;
  };
  const record = async (indices: readonly number[]) => {
    const recording = recordActivations(open, images, { layers: [layer], imageIndices: indices, batchSize });
    let nRecorded = 0;
    for await (const batch of recording) nRecorded += batch.imageIndices.length;
    // Skipped images would cost nothing.
    if (nRecorded < indices.length) throw new Error(`Cannot measure recording: only ${nRecorded} images can be read`);
    return nRecorded;
  };
  const warmUp = imageIndices.slice(0, 2 * batchSize);
  await bare(warmUp);
  await record(warmUp);
  const total = { seconds: 0, nDone: 0, baselineSeconds: 0 };
  for (let round = 0; round < N_ROUNDS; round++) {
    total.baselineSeconds += (await timed(() => bare(imageIndices))).seconds;
    const { seconds, nDone } = await timed(() => record(imageIndices));
    total.seconds += seconds;
    total.nDone += nDone;
  }
  return total;
}

/** A JPEG of 640 × 480 pixels: soft shapes and grain, as many bytes as a photograph of that size has. */
async function makePhoto(seed: number): Promise<Uint8Array> {
  const random = seededRandom(seed);
  const [width, height] = [640, 480];
  const waves = Array.from({ length: 6 }, () => [random() / 40, random() / 40, 6 * random(), 40 * random()]);
  const data = new Uint8ClampedArray(width * height * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const grain = 24 * (random() - 0.5);
      for (let channel = 0; channel < 3; channel++, at++) {
        let level = 128 + grain;
        for (const [across, down, phase, size] of waves) {
          level += size * Math.sin(x * across + y * down + phase + channel);
        }
        data[at] = level;
      }
    }
  }
  return await sharp(data, { raw: { width, height, channels: 3 } }).jpeg({ quality: 85 }).toBuffer();
}
