import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { readTrainerState } from "../../lib/runs/checkpoint.ts";
import { readHeldOutSample } from "../../lib/runs/held_out.ts";
import type { RunStep } from "../../lib/runs/log.ts";
import { trainRun, type TrainRunOptions } from "../../lib/runs/run.ts";
import { trainSweep } from "../../lib/runs/sweep.ts";
import { measureMetrics } from "../../lib/sae/metrics/metrics.ts";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { chooseRecipe } from "../../lib/train/choose_recipe.ts";
import { presets } from "../../lib/train/presets.ts";
import type { TrainRecipe } from "../../lib/train/recipe.ts";
import { toTokenSource } from "../../lib/train/source.ts";
import { makeTrainer } from "../../lib/train/trainer.ts";
import { writeTinyRecording } from "../summary/tiny_recording.ts";
import { findTestAdapter } from "../support/software_adapter.ts";
import { dModel, nSteps, saeBytes, timelessLog, tinyOptions, writeTokens } from "./tiny_run.ts";

interface Places {
  readonly shards: Shards;
  readonly heldOut: Shards;
  /** A folder beside the recordings. */
  at(name: string): string;
}

async function withRecordings(body: (places: Places) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-held-out-"));
  const at = (name: string) => join(folder, name);
  try {
    await writeTokens(at("shards"));
    await writeTokens(at("held_out"), { seed: 12 });
    const [shards, heldOut] = [await openShards(at("shards")), await openShards(at("held_out"))];
    try {
      await body({ shards, heldOut, at });
    } finally {
      for (const opened of [shards, heldOut]) await opened.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Trains until a step is done, and stops there. */
async function trainUntil(stopAt: number, shards: Shards, options: TrainRunOptions): Promise<void> {
  const controller = new AbortController();
  const { signal } = controller;
  const onStep = ({ step }: RunStep) => step === stopAt && controller.abort();
  await assert.rejects(trainRun(shards, { ...options, signal, onStep }), { name: "AbortError" });
}

const heldOutOf = (log: readonly Record<string, unknown>[]) =>
  log.flatMap(({ step, held_out }) => held_out && step ? [step] : []);

const inputs: Readonly<Record<string, TrainRecipe>> = {
  "top-k": presets["top-k"],
  "top-k of layer norms": { ...presets["top-k"], input: { kind: "layerNorm", epsilon: 1e-5 } },
  "top-k of batches": { ...presets["top-k"], input: { kind: "batch", epsilon: 1e-6 } },
  "saev-2025-02": presets["saev-2025-02"],
  "jump-relu": presets["jump-relu"],
  "saev-top-k, whose latents may be negative": { ...presets["saev-top-k"], auxK: undefined },
};

for (const [name, recipe] of Object.entries(inputs)) {
  Deno.test(`trainRun() with heldOutEvery logs what measureMetrics() gives on the same tokens: ${name}`, async () => {
    await withRecordings(async ({ shards, heldOut, at }) => {
      const { k, kAux: _, ...rest } = tinyOptions(at("run"));
      const options = { ...rest, recipe, ...("k" in recipe.activation && { k }), heldOut, heldOutEvery: 7 };
      await trainUntil(7, shards, options);
      const state = await readTrainerState(at("run/checkpoint.safetensors"));
      const trainer = await makeTrainer(chooseRecipe(options), { dModel, dSae: 48, nSteps, threads: 1, state });
      const weights = await trainer.weights();
      await trainer.close();

      const pieces: number[] = [];
      for await (const { activations } of heldOut.readBatches({ layer: 3 })) pieces.push(...activations);
      const x = Float32Array.from(pieces);
      async function* once(): AsyncIterable<Float32Array> {
        yield await Promise.resolve(x);
      }
      const backend = await createCpuBackend({ threads: 1 });
      const metrics = await measureMetrics(weights, once(), { backend, space: "normalized" });
      const loaded = await backend.load(weights);
      const { values } = await loaded.encode(x);
      await loaded.dispose();
      await backend.close();
      const { held_out: found } = (await timelessLog(at("run"))).find(({ step }) => step === 7)!;
      const { normalizedMse, l0NonZero, nDead } = metrics;
      assert.deepEqual(found, { normalized_mse: normalizedMse, l0: l0NonZero, n_dead: nDead });
      assert.equal(l0NonZero, values.filter((value) => value !== 0).length / 1000);
      assert.ok(normalizedMse > 0 && normalizedMse < 2, `normalized MSE is ${normalizedMse}`);
    });
  });
}

Deno.test("trainRun() with heldOutEvery trains the same SAE, and logs every so many steps and the last", async () => {
  await withRecordings(async ({ shards, heldOut, at }) => {
    await trainRun(shards, { ...tinyOptions(at("plain")), heldOut });
    const told: RunStep[] = [];
    const options = { ...tinyOptions(at("run")), heldOut, heldOutEvery: 7 };
    const { steps, metrics } = await trainRun(shards, { ...options, onStep: (step) => told.push(step) });
    assert.deepEqual(await saeBytes(at("run")), await saeBytes(at("plain")));

    const [units, ...lines] = await timelessLog(at("run"));
    assert.deepEqual(lines.map(({ step }) => step), [1, 5, 7, 10, 14, 15, 20, 21, 24]);
    assert.deepEqual(heldOutOf(lines), [7, 14, 21, 24]);
    assert.deepEqual(
      lines.filter(({ step }) => step as number % 5 === 0 || step === 1 || step === nSteps)
        .map(({ held_out: _, ...line }) => line),
      (await timelessLog(at("plain"))).slice(1),
    );
    const names = Object.keys((units.units as { held_out: Record<string, string> }).held_out);
    assert.deepEqual(Object.keys(lines[2].held_out as object), names);

    const measured = steps.filter(({ heldOut }) => heldOut);
    assert.deepEqual(told.filter(({ heldOut }) => heldOut), measured);
    const { step, heldOut: last } = measured.at(-1)!;
    assert.equal(step, nSteps);
    // Of a scaled input, and where all tokens are measured, the last numbers are those of the end.
    assert.ok(Math.abs(last!.normalizedMse - (metrics!.normalized_mse as number)) < 1e-6);
    assert.deepEqual([last!.l0, last!.nDead], [metrics!.l0_non_zero, metrics!.n_dead]);
    assert.match(await readFile(at("run/report.html"), "utf8"), /held out/);
    assert.doesNotMatch(await readFile(at("plain/report.html"), "utf8"), /held out/);
    const again = await trainRun(shards, options);
    assert.deepEqual(again.steps.map(({ heldOut }) => heldOut), steps.map(({ heldOut }) => heldOut));
  });
});

Deno.test("trainRun() with heldOutEvery that was stopped ends with the bytes and the log of one that was not", async () => {
  await withRecordings(async ({ shards, heldOut, at }) => {
    const options = (name: string) => ({ ...tinyOptions(at(name)), heldOut, heldOutEvery: 3 });
    await trainRun(shards, options("whole"));
    for (const stopAt of [1, 6, 8, nSteps]) {
      await trainUntil(stopAt, shards, options(`stopped_${stopAt}`));
      const { startedAt } = await trainRun(shards, options(`stopped_${stopAt}`));
      assert.equal(startedAt, stopAt);
      assert.deepEqual(await saeBytes(at(`stopped_${stopAt}`)), await saeBytes(at("whole")));
      assert.deepEqual(await timelessLog(at(`stopped_${stopAt}`)), await timelessLog(at("whole")));
    }
  });
});

const adapter = await findTestAdapter();

Deno.test({
  name: "trainRun() with heldOutEvery on WebGPU trains the same SAE, also where it was stopped",
  ignore: adapter === undefined,
  async fn() {
    await withRecordings(async ({ shards, heldOut, at }) => {
      const options = (name: string) => ({
        ...tinyOptions(at(name)),
        ...{ epochs: 1, backend: "webgpu", heldOut, heldOutEvery: 3 } as const,
      });
      await trainRun(shards, { ...options("plain"), heldOutEvery: 0 });
      await trainRun(shards, options("run"));
      assert.deepEqual(await saeBytes(at("run")), await saeBytes(at("plain")));
      assert.deepEqual(heldOutOf(await timelessLog(at("run"))), [3, 6, 8]);
      await trainUntil(4, shards, options("stopped"));
      await trainRun(shards, options("stopped"));
      assert.deepEqual(await saeBytes(at("stopped")), await saeBytes(at("run")));
      assert.deepEqual(await timelessLog(at("stopped")), await timelessLog(at("run")));
    });
  },
});

Deno.test("trainRun() with heldOutEvery stops where the loss is no number or grows, as without", async () => {
  await withRecordings(async ({ shards, heldOut, at }) => {
    for (const [learningRate, message] of [[1e30, /the loss must be a number/], [100, /must not grow without end/]]) {
      const options = { ...tinyOptions(at(`${learningRate}`)), learningRate: learningRate as number };
      await assert.rejects(trainRun(shards, { ...options, heldOut, heldOutEvery: 1 }), { name: "Error", message });
    }
  });
});

Deno.test("trainRun() refuses a heldOutEvery that is no number of steps, or has nothing to measure on", async () => {
  await withRecordings(async ({ shards, heldOut, at }) => {
    for (const heldOutEvery of [-1, 2.5]) {
      await assert.rejects(trainRun(shards, { ...tinyOptions(at("run")), heldOut, heldOutEvery }), {
        name: "RangeError",
        message: `Cannot train SAE: heldOutEvery must be an integer of 0 or more, current value is ${heldOutEvery}`,
      });
    }
    await assert.rejects(trainRun(shards, { ...tinyOptions(at("run")), heldOutEvery: 10 }), {
      name: "RangeError",
      message: "Cannot train SAE: heldOutEvery must be 0 where nothing is held out, current value is 10",
    });
  });
});

Deno.test("trainSweep() with heldOutEvery reads held-out tokens once, and logs of each run what it has alone", async () => {
  await withRecordings(async ({ shards, heldOut, at }) => {
    const { directory: _, dSae, k: _k, ...shared } = tinyOptions("");
    const { layer, threads, poolBytes, logEvery, checkpointEvery, ...recipe } = shared;
    const rest = { layer, threads, poolBytes, logEvery, checkpointEvery, heldOutEvery: 10 };
    let nReads = 0;
    const source = toTokenSource(heldOut);
    const counted = {
      ...source,
      readBatches(options: Parameters<typeof source.readBatches>[0]) {
        nReads++;
        return source.readBatches(options);
      },
    };
    const runs = [2, 4].map((k) => ({ ...recipe, name: `k=${k}`, dSae, k }));
    await trainSweep(shards, { ...rest, directory: at("sweep"), runs, heldOut: counted });
    assert.equal(nReads, 1 + runs.length, "for all steps of all runs, and at the end of each");
    for (const { name, ...run } of runs) {
      await trainRun(shards, { ...rest, ...run, directory: at(name), heldOut });
      assert.deepEqual(await timelessLog(at(`sweep/${name}`)), await timelessLog(at(name)));
      assert.deepEqual(heldOutOf(await timelessLog(at(name))), [10, 20, 24]);
      assert.deepEqual(await saeBytes(at(`sweep/${name}`)), await saeBytes(at(name)));
    }
  });
});

/** Number of each token that was drawn, from a recording whose tokens are numbered. */
async function drawnFrom(nTokens: number, imagesPerBatch: number): Promise<number[][]> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-held-out-"));
  try {
    const x = Float32Array.from({ length: nTokens }, (_, token) => token);
    await writeTinyRecording(folder, x, { dModel: 1, gridHeight: 2, gridWidth: 2, imagesPerBatch });
    const shards = await openShards(folder);
    const draws = [1, 2].map(() => readHeldOutSample(toTokenSource(shards), { layer: 3, tokens: "patches" }));
    return (await Promise.all(draws)).map((draw) => Array.from(draw));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

Deno.test("readHeldOutSample() takes all tokens if there are 8192, else as many from all over, the same each time", async () => {
  const [all] = await drawnFrom(8192, 100);
  assert.deepEqual(all, Array.from({ length: 8192 }, (_, token) => token));
  // Batches that give all they have; 512 tokens each; more, as there are few.
  for (const [imagesPerBatch, nBatchesSeen] of [[50, 41], [200, 16], [1200, 5]]) {
    const [first, again] = await drawnFrom(24_000, imagesPerBatch);
    assert.deepEqual(first, again);
    assert.deepEqual([first.length, new Set(first).size], [8192, 8192]);
    const seen = new Set(first.map((token) => Math.floor(token / (4 * imagesPerBatch))));
    assert.equal(seen.size, nBatchesSeen, `of ${24_000 / (4 * imagesPerBatch)} batches`);
    const mean = first.reduce((sum, token) => sum + token, 0) / first.length;
    assert.ok(Math.abs(mean - 12_000) < 2000, `mean number is ${mean}`);
  }
});
