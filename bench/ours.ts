/**
 * Our side of the benchmark: one task, measured in a process of its own so that its peak memory is its own. Prints one
 * line of JSON: `deno run -A bench/ours.ts <task> <folder> <relu|topk>`.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { createCpuBackend } from "../lib/compute/cpu/backend.ts";
import type { LoadedSae } from "../lib/compute/contract.ts";
import { buildOnnx } from "../lib/onnx/build.ts";
import { createSession, loadOrt } from "../lib/runtime/ort.ts";
import { loadSae } from "../lib/sae/load.ts";
import { openShards } from "../lib/shards/read.ts";
import { SummaryAccumulator } from "../lib/summary/accumulate.ts";
import { summarize } from "../lib/summary/summarize.ts";
import { type Measured, type Missing, threads, timed } from "./clock.ts";
import { type BenchRule, readBenchSae, readRaw, readSizes, writeRaw } from "./data.ts";
import { recordEmoji, recordPhotos } from "./record_task.ts";
import { train } from "./train_task.ts";

type Task = (folder: string, rule: BenchRule) => Promise<Omit<Measured, "peakMb"> | Missing>;

/** Four batches as the peers have them, each a view. */
async function fourBatches(folder: string): Promise<Float32Array[]> {
  const { dModel, gridSize, imagesPerBatch } = await readSizes(folder);
  const length = imagesPerBatch * gridSize ** 2 * dModel;
  const x = await readRaw(folder, "x");
  return [0, 1, 2, 3].map((i) => x.subarray(i * length, (i + 1) * length)).filter((batch) => batch.length > 0);
}

async function withLoaded<T>(folder: string, rule: BenchRule, body: (loaded: LoadedSae) => Promise<T>): Promise<T> {
  const backend = await createCpuBackend({ threads });
  const loaded = await backend.load(await readBenchSae(folder, rule));
  return await body(loaded);
}

const tasks: Record<string, Task> = {
  /** The bare product, one number of it coming out. */
  async product(folder) {
    const { dModel, dSae } = await readSizes(folder);
    const { Tensor } = await loadOrt();
    const session = await createSession(
      buildOnnx({
        inputs: [{ name: "x", dims: ["n", dModel] }],
        constants: [{ name: "w", dims: [dModel, dSae], data: await readRaw(folder, "wEnc") }],
        nodes: [
          { op: "MatMul", inputs: ["x", "w"], outputs: ["h"] },
          { op: "ReduceMax", inputs: ["h"], outputs: ["y"], attributes: { keepdims: 0 } },
        ],
        outputs: ["y"],
      }),
      { threads },
    );
    const batches = await fourBatches(folder);
    const run = (x: Float32Array) => session.run({ x: new Tensor("float32", x, [x.length / dModel, dModel]) });
    await run(batches[0]);
    return await timed(async () => {
      for (const x of batches) await run(x);
      return batches.reduce((total, x) => total + x.length / dModel, 0);
    });
  },

  encode: (folder, rule) =>
    withLoaded(folder, rule, async (loaded) => {
      const batches = await fourBatches(folder);
      await loaded.encode(batches[0]);
      return await timed(async () => {
        let nTokens = 0;
        for (const x of batches) nTokens += (await loaded.encode(x)).nTokens;
        return nTokens;
      });
    }),

  reconstruct: (folder, rule) =>
    withLoaded(folder, rule, async (loaded) => {
      const batches = await fourBatches(folder);
      const reconstruct = async (x: Float32Array) => await loaded.decode(await loaded.encode(x));
      await reconstruct(batches[0]);
      return await timed(async () => {
        let nTokens = 0;
        for (const x of batches) nTokens += (await reconstruct(x)).length / loaded.dModel;
        return nTokens;
      });
    }),

  /** Opening, laying out the weights and reading shards count, too; only the compiler was warmed up. */
  async summary(folder, rule) {
    const { imagesPerLatent } = await readSizes(folder);
    const backend = await createCpuBackend({ threads });
    const sae = await readBenchSae(folder, rule);
    const shards = await openShards(join(folder, "shards"));
    let stored: Awaited<ReturnType<typeof summarize>>;
    const result = await timed(async () => {
      stored = await summarize(shards, sae, { backend, layer: 3, imagesPerLatent });
      return stored.accumulated.nTokens;
    });
    const { accumulated } = stored!;
    const sums = Float32Array.from({ length: sae.dSae }, (_, latent) => accumulated.sum(latent));
    await writeRaw(folder, `ours_${rule}_sum`, sums);
    await writeRaw(folder, `ours_${rule}_n_active`, Float32Array.from(accumulated.nActive));
    await writeRaw(folder, `ours_${rule}_top_values`, accumulated.topValues);
    await writeRaw(folder, `ours_${rule}_top_images`, Float32Array.from(accumulated.topImages));
    return result;
  },

  async first_latent(folder) {
    let nLatents = 0;
    // As the peer imports PyTorch before its clock starts.
    await loadOrt();
    const result = await timed(async () => {
      const sae = await loadSae(join(folder, "sae.pt"));
      const backend = await createCpuBackend({ threads });
      const loaded = await backend.load(sae);
      nLatents = (await loaded.encode(Float32Array.from({ length: sae.dModel }, (_, d) => Math.sin(d)))).values.length;
      return 1;
    });
    return { ...result, nLatents };
  },

  record_emoji: recordEmoji,
  record_photos: recordPhotos,
  train,

  memory_1k: () => streamImages(1000),
  memory_100k: () => streamImages(100_000),
};

/** Summarizes images that are made as they are needed: what grows with their number would show. */
async function streamImages(nImages: number): Promise<{ seconds: number; nDone: number }> {
  const [dModel, dSae, tokensPerImage, imagesPerBatch] = [32, 512, 4, 250];
  const wEnc = Float32Array.from({ length: dModel * dSae }, (_, i) => Math.sin(i * i));
  const backend = await createCpuBackend({ threads });
  const loaded = await backend.load({
    dModel,
    dSae,
    wEnc,
    bEnc: new Float32Array(dSae),
    wDec: wEnc,
    bDec: new Float32Array(dModel),
    subtractBDec: false,
    rule: { kind: "topK", k: 16, relu: true },
  });
  const accumulated = new SummaryAccumulator(dSae, { imagesPerLatent: 16 });
  return await timed(async () => {
    for (let first = 0; first < nImages; first += imagesPerBatch) {
      const x = Float32Array.from(
        { length: imagesPerBatch * tokensPerImage * dModel },
        (_, i) => Math.sin((first + 1) * (i + 1)),
      );
      const imageIndices = Uint32Array.from({ length: imagesPerBatch }, (_, i) => first + i);
      accumulated.add(await loaded.encode(x), { imageIndices, tokensPerImage, firstPatch: 0 });
    }
    return nImages;
  });
}

async function peakMb(): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8").catch(() => "");
  return Number(/VmHWM:\s*(\d+) kB/.exec(status)?.[1] ?? NaN) / 1024;
}

if (import.meta.main) {
  const [task, folder, rule] = process.argv.slice(2);
  // Loaded for its own tasks only: the peak memory of the others is to be theirs.
  const run = tasks[task] ?? (await import("./webgpu_task.ts")).webgpuTasks[task];
  const result = await run(folder, rule as BenchRule);
  console.log(JSON.stringify({ ...result, peakMb: await peakMb() } satisfies Measured | Missing));
  // onnxruntime's threads would keep the process.
  process.exit(0);
}
