/**
 * What the benchmark runs on: an SAE of the size of published ones and activations for it, random but the same on every
 * machine, written as raw little-endian float32 for every program that is measured. Weights and activations are
 * uniform and a negative bias makes them sparse, so no program gains from the shape of the data.
 *
 * @module
 */
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeSaev } from "../lib/checkpoints/saev_writer.ts";
import type { ActivationRule } from "../lib/compute/contract.ts";
import { createSae, type Sae } from "../lib/sae/sae.ts";
import { seededRandom } from "../lib/train/random.ts";
import { writeTinyRecording } from "../tests/summary/tiny_recording.ts";

/** Sizes of a benchmark. */
export interface BenchSizes {
  readonly dModel: number;
  readonly dSae: number;
  readonly nImages: number;
  readonly gridSize: number;
  /** Latents a token under TopK. */
  readonly k: number;
  /** Encoder bias, which sets how many latents a token has under ReLU. */
  readonly bias: number;
  /** Images of a batch of the programs in Python. */
  readonly imagesPerBatch: number;
  /** Top images that summaries keep. */
  readonly imagesPerLatent: number;
  /** Images after which saev's algorithm, an order slower, is stopped: its rate does not change. */
  readonly nImagesSaev: number;
  /** Tokens of a step of training. */
  readonly trainBatchSize: number;
  /** Steps of training that are timed. */
  readonly nTrainSteps: number;
  /** Encoder bias while training, where its columns have length 1: sets how many latents a token has under ReLU. */
  readonly trainBias: number;
  /** Images that are recorded. */
  readonly nRecorded: { readonly emoji: number; readonly photos: number };
  /** The product on WebGPU, small enough for a software adapter, and for how long it is repeated. */
  readonly webgpu: { readonly nTokens: number; readonly nLatents: number; readonly seconds: number };
}

/** A ViT-B/16 and a dictionary of 32 times its width: 255 images are 49,980 patches. */
export const fullSizes: BenchSizes = {
  dModel: 768,
  dSae: 24_576,
  nImages: 255,
  gridSize: 14,
  k: 32,
  bias: -1.05,
  imagesPerBatch: 14,
  imagesPerLatent: 16,
  nImagesSaev: 28,
  trainBatchSize: 2048,
  nTrainSteps: 4,
  trainBias: -1.235,
  nRecorded: { emoji: 512, photos: 32 },
  webgpu: { nTokens: 128, nLatents: 4096, seconds: 3 },
};

/** Small enough for a test: the same programs, no meaningful times. */
export const quickSizes: BenchSizes = {
  dModel: 48,
  dSae: 384,
  nImages: 18,
  gridSize: 3,
  k: 8,
  bias: -0.26,
  imagesPerBatch: 5,
  imagesPerLatent: 4,
  nImagesSaev: 10,
  trainBatchSize: 54,
  nTrainSteps: 2,
  trainBias: -0.74,
  nRecorded: { emoji: 64, photos: 4 },
  webgpu: { nTokens: 9, nLatents: 132, seconds: 0.05 },
};

/** The rules that are measured. */
export const benchRules = ["relu", "topk"] as const;
export type BenchRule = (typeof benchRules)[number];

const names = ["wEnc", "bEnc", "wDec", "bDec"] as const;
const rawFile = (folder: string, name: string) => join(folder, `${name}.f32`);

/** Writes sizes, weights, activations (raw, and as a recording) and a saev checkpoint into `folder`. */
export async function writeBenchData(folder: string, sizes: BenchSizes): Promise<void> {
  const { dModel, dSae, nImages, gridSize, bias } = sizes;
  const random = seededRandom(0);
  const numbers = (length: number, scale: number) => {
    const values = new Float32Array(length);
    for (let i = 0; i < length; i++) values[i] = (random() - 0.5) * scale;
    return values;
  };
  const weights = {
    dModel,
    dSae,
    wEnc: numbers(dModel * dSae, 0.1),
    bEnc: new Float32Array(dSae).fill(bias),
    wDec: numbers(dSae * dModel, 0.1),
    bDec: new Float32Array(dModel),
    subtractBDec: false,
    rule: { kind: "relu" },
  } as const;
  for (const name of names) await writeRaw(folder, name, weights[name]);
  await writeSaev(weights, join(folder, "sae.pt"));
  const activations = numbers(nImages * gridSize ** 2 * dModel, 2);
  await writeRaw(folder, "x", activations);
  await writeTinyRecording(join(folder, "shards"), activations, {
    dModel,
    gridHeight: gridSize,
    gridWidth: gridSize,
    imagesPerBatch: 32,
    batchesPerShard: 4,
  });
  await writeFile(join(folder, "sizes.json"), JSON.stringify(sizes));
}

/** Sizes of the data in a folder. */
export async function readSizes(folder: string): Promise<BenchSizes> {
  return JSON.parse(await readFile(join(folder, "sizes.json"), "utf8"));
}

/** The SAE in a folder, under one of the rules. */
export async function readBenchSae(folder: string, rule: BenchRule): Promise<Sae> {
  const { dModel, dSae, k } = await readSizes(folder);
  const rules: Record<BenchRule, ActivationRule> = { relu: { kind: "relu" }, topk: { kind: "topK", k, relu: true } };
  const [wEnc, bEnc, wDec, bDec] = await Promise.all(names.map((name) => readRaw(folder, name)));
  return createSae({ dModel, dSae, wEnc, bEnc, wDec, bDec, subtractBDec: false, rule: rules[rule] });
}

/** Numbers of a raw file. */
export async function readRaw(folder: string, name: string): Promise<Float32Array> {
  const { buffer, byteOffset, byteLength } = await readFile(rawFile(folder, name));
  return new Float32Array(buffer as ArrayBuffer, byteOffset, byteLength / 4);
}

/** The first numbers of a raw file. */
export async function readRawStart(folder: string, name: string, nNumbers: number): Promise<Float32Array> {
  const file = await open(rawFile(folder, name));
  const numbers = new Float32Array(nNumbers);
  const { bytesRead } = await file.read(new Uint8Array(numbers.buffer), 0, numbers.byteLength, 0);
  await file.close();
  return numbers.subarray(0, bytesRead / 4);
}

/** Writes numbers as a raw file. */
export async function writeRaw(folder: string, name: string, values: Float32Array): Promise<void> {
  await writeFile(rawFile(folder, name), new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
}
