/**
 * Steps of training on our side of the benchmark: saev's recipes from the start that `peers/train.py` begins with, too.
 *
 * @module
 */
import { normalizeRow } from "../lib/train/parameters.ts";
import { presets } from "../lib/train/presets.ts";
import type { TrainRecipe } from "../lib/train/recipe.ts";
import { makeTrainer, type Trainer } from "../lib/train/trainer.ts";
import { type Measured, threads, timed } from "./clock.ts";
import { type BenchRule, readRaw, readRawStart, readSizes } from "./data.ts";

const N_TRAIN_TOKENS = 100_000_000;

/** One step to warm up, whose loss is reported, then those that are timed. */
export async function train(folder: string, rule: BenchRule): Promise<Omit<Measured, "peakMb">> {
  const { dModel, trainBatchSize, nTrainSteps } = await readSizes(folder);
  const batchLength = trainBatchSize * dModel;
  const x = await readRawStart(folder, "x", (1 + nTrainSteps) * batchLength);
  const batch = (n: number) => x.subarray(n * batchLength, (n + 1) * batchLength);
  const trainer = await openTrainer(folder, rule);
  // What the start was read into is no part of training.
  (globalThis as { gc?: () => void }).gc?.();
  const { loss, l0 } = await trainer.step(batch(0));
  const result = await timed(async () => {
    for (let n = 1; n <= nTrainSteps; n++) await trainer.step(batch(n));
    return nTrainSteps * trainBatchSize;
  });
  return { ...result, firstLoss: loss, l0 };
}

async function openTrainer(folder: string, rule: BenchRule): Promise<Trainer> {
  const { dModel, dSae, k, trainBias, trainBatchSize } = await readSizes(folder);
  const wDec = await readRaw(folder, "wDec");
  for (let latent = 0; latent < dSae; latent++) normalizeRow(wDec, latent, dModel);
  const parameters = {
    wEnc: wDec,
    bEnc: new Float32Array(dSae).fill(trainBias),
    wDec,
    bDec: new Float32Array(dModel),
  };
  const recipes: Record<BenchRule, TrainRecipe> = {
    relu: presets.saev,
    topk: { ...presets["saev-top-k"], activation: { kind: "topK", k, relu: false } },
  };
  // One prefix, which is the whole dictionary.
  const recipe = { ...recipes[rule], prefixes: undefined };
  const nSteps = Math.ceil(N_TRAIN_TOKENS / trainBatchSize);
  return await makeTrainer(recipe, { dModel, dSae, nSteps, backend: "cpu", threads, start: { parameters } });
}
