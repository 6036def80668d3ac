/**
 * A small training run for tests: tokens that are two of 24 directions each, and options that train on them in a second
 * or two. As a program it trains slowly in the folder given second, on the recording given first or on "images", and says each step.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { openShards } from "../../lib/shards/read.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { trainRun, type TrainRunOptions } from "../../lib/runs/run.ts";
import { imageTokens, type TokenSource } from "../../lib/train/source.ts";
import { openPictures, openSmallVit } from "../shards/recordings.ts";
import { writeTinyRecording } from "../summary/tiny_recording.ts";

export const dModel = 16;
const nDirections = 24;

/** Steps of a run with {@linkcode tinyOptions}: three passes of 7 batches and a rest. */
export const nSteps = 3 * 8;

/** Place for 300 tokens, so that each pass is read anew. */
export const poolBytes = 300 * 4 * dModel;

/** Options of a run of 24 steps. */
export function tinyOptions(directory: string): TrainRunOptions {
  return {
    directory,
    layer: 3,
    dSae: 48,
    k: 2,
    kAux: 4,
    epochs: 3,
    batchSize: 128,
    learningRate: 1e-2,
    deadAfterTokens: 500,
    seed: 1,
    threads: 1,
    poolBytes,
    logEvery: 5,
    checkpointEvery: 4,
  };
}

/** Options of the run that is killed: 80 steps, a checkpoint at every other one. */
export function killedOptions(directory: string): TrainRunOptions {
  return { ...tinyOptions(directory), epochs: 10, checkpointEvery: 2 };
}

/** Options of a run on images that is killed: 80 steps, and a pool that holds half of a pass. */
export function killedImagesOptions(directory: string): TrainRunOptions {
  return { ...killedOptions(directory), layer: 1, epochs: 20, batchSize: 50, poolBytes: 88 * 4 * dModel };
}

/** Patches of 11 pictures, 16 each. */
export async function openPictureTokens(): Promise<TokenSource> {
  return imageTokens(await openSmallVit(), await openPictures(), {
    imageIndices: [0, 2, 3, 5, 7, 8, 9, 11, 12, 13, 16],
  });
}

/** Writes a recording of 1000 tokens, 4 an image; another seed gives other tokens of the same kind. */
export async function writeTokens(directory: string, { seed = 11 }: { seed?: number } = {}): Promise<void> {
  const same = seededRandom(5);
  const directions = Array.from({ length: nDirections * dModel }, () => same() - 0.5);
  const random = seededRandom(seed);
  const x = Float32Array.from({ length: 1000 * dModel }, (_, i) => (i % dModel) / 32);
  for (let token = 0; token < 1000; token++) {
    for (let part = 0; part < 2; part++) {
      const direction = Math.floor(random() * nDirections);
      const weight = 1 + random();
      for (let d = 0; d < dModel; d++) x[token * dModel + d] += weight * directions[direction * dModel + d];
    }
  }
  await writeTinyRecording(directory, x, { dModel, gridHeight: 2, gridWidth: 2, imagesPerBatch: 50 });
}

/** Bytes of a run's SAE: its weights and its configuration. */
export async function saeBytes(directory: string): Promise<Uint8Array[]> {
  return await Promise.all(
    ["sae_weights.safetensors", "cfg.json"].map((name) => readFile(join(directory, "sae", name))),
  );
}

/** The log of a run without what depends on the clock. */
export async function timelessLog(directory: string): Promise<Record<string, unknown>[]> {
  const text = await readFile(join(directory, "log.jsonl"), "utf8");
  return text.trimEnd().split("\n").map((line) => {
    const { tokens_per_second: _speed, seconds: _seconds, ...rest } = JSON.parse(line);
    return rest;
  });
}

if (import.meta.main) {
  const [recording, directory] = process.argv.slice(2);
  const shards = recording === "images" ? undefined : await openShards(recording);
  await trainRun(shards ?? await openPictureTokens(), {
    ...(shards ? killedOptions(directory) : killedImagesOptions(directory)),
    onStep({ step }) {
      console.log(`step ${step}`);
      // Slow enough to be killed in the middle of things.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3);
    },
  });
  await shards?.close();
}
