/** Training on WebGPU: the CPU's numbers after every recipe, the same bits after a stop, and what becomes of failures. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { backendVariable } from "../../lib/compute/select.ts";
import { trainRun } from "../../lib/runs/run.ts";
import { openShards } from "../../lib/shards/read.ts";
import { parameterNames } from "../../lib/train/parameters.ts";
import { type PresetName, presets } from "../../lib/train/presets.ts";
import type { TrainRecipe } from "../../lib/train/recipe.ts";
import type { TrainerOptions, TrainerState } from "../../lib/train/start.ts";
import type { TrainStep } from "../../lib/train/step.ts";
import { makeTrainer, makeTrainerOn } from "../../lib/train/trainer.ts";
import { watchDevice } from "../compute/webgpu_device_spy.ts";
import { saeBytes, tinyOptions, writeTokens } from "../runs/tiny_run.ts";
import { findTestAdapter, type TestBackend } from "../support/software_adapter.ts";
import { cpuEngine, findWebGpuEngine } from "./engines.ts";
import { batches, dModel, dSae, nSteps, nTokens, sample, small } from "./small_runs.ts";
import { relativeDifference } from "./traces.ts";

const webgpu = await findWebGpuEngine();
const { ignore } = webgpu;

interface Ran {
  readonly logs: readonly TrainStep[];
  readonly state: TrainerState;
}

async function train(
  recipe: TrainRecipe,
  options: Partial<TrainerOptions> & { open: typeof webgpu.open; from?: number; to: number },
): Promise<Ran> {
  const { from = 0, to, ...rest } = options;
  const trainer = await makeTrainerOn(recipe, { dModel, dSae, nSteps, sample, threads: 1, ...rest });
  const logs: TrainStep[] = [];
  for (let step = from; step < to; step++) logs.push(await trainer.step(batches[step]));
  const state = structuredClone(await trainer.state());
  await trainer.close();
  return { logs, state };
}

/** Asserts that two runs are the same but for rounding. */
function assertNear(actual: Ran, expected: Ran, tolerance: number): void {
  for (const key of Object.keys(expected.logs[0]) as (keyof TrainStep)[]) {
    const [a, b] = [actual, expected].map(({ logs }) => logs.map((log) => log[key]));
    const difference = relativeDifference(a, b);
    assert.ok(difference <= tolerance, `${key} is off by ${difference}`);
  }
  const [a, b] = [actual.state, expected.state];
  assert.deepEqual(a.idleTokens, b.idleTokens);
  assert.deepEqual(a.optimizer.adam.quietSteps, b.optimizer.adam.quietSteps);
  const groups = [
    // Adam makes steps of one size out of gradients of any, so that of one next to zero the rounding is seen.
    [a.parameters, b.parameters, 10 * tolerance],
    [a.optimizer.adam.means, b.optimizer.adam.means, tolerance],
    [a.optimizer.adam.squares, b.optimizer.adam.squares, tolerance],
  ] as const;
  for (const [actual, expected, tolerance] of groups) {
    for (const name of parameterNames(expected)) {
      const difference = relativeDifference(actual[name]!, expected[name]!);
      assert.ok(difference <= tolerance, `${name} is off by ${difference}`);
    }
  }
}

/** Recipes beyond the presets. */
const others: Readonly<Record<string, TrainRecipe>> = {
  "saev-top-k with Muon": { ...small("saev-top-k"), optimizer: { kind: "muon", learningRate: 0.01 } },
  "top-k with biases that rise": { ...small("top-k"), biasRise: { afterTokens: 100, learningRates: 50 } },
  "batch-top-k with latents that die at once": {
    ...small("batch-top-k"),
    activation: { kind: "batchTopK", k: 1, relu: true, momentum: 0.1, thresholdFrom: 0 },
    dead: { afterTokens: nTokens },
  },
};
const recipes = Object.fromEntries([
  ...Object.keys(presets).map((name) => [name, small(name as PresetName)] as const),
  ...Object.entries(others),
]);

for (const [name, recipe] of Object.entries(recipes)) {
  Deno.test({
    name: `makeTrainer() takes the CPU's steps on WebGPU, and goes on with the same bits: ${name}`,
    ignore,
    async fn() {
      const [onCpu, onGpu] = [await train(recipe, { ...cpuEngine, to: 7 }), await train(recipe, { ...webgpu, to: 7 })];
      assertNear(onGpu, onCpu, 1e-4);
      const { state } = await train(recipe, { ...webgpu, to: 4 });
      const rest = await train(recipe, { ...webgpu, from: 4, to: 7, sample: undefined, state });
      assert.deepEqual(rest.logs, onGpu.logs.slice(4));
      assert.deepEqual(rest.state, onGpu.state);
    },
  });
}

Deno.test({
  name: "makeTrainer() goes on with WebGPU where the CPU stopped, and the other way round",
  ignore,
  async fn() {
    const recipe = small("saev-top-k");
    const whole = await train(recipe, { ...cpuEngine, to: 7 });
    for (const [first, second] of [[cpuEngine, webgpu], [webgpu, cpuEngine]]) {
      const { logs, state } = await train(recipe, { ...first, to: 4 });
      const rest = await train(recipe, { ...second, from: 4, to: 7, sample: undefined, state });
      assertNear({ logs: [...logs, ...rest.logs], state: rest.state }, whole, 1e-4);
    }
  },
});

Deno.test({
  name: "makeTrainer() brings dead latents back on WebGPU",
  ignore,
  async fn() {
    const { logs } = await train(others["batch-top-k with latents that die at once"], { ...webgpu, to: 3 });
    assert.ok(logs[2].nDead > 0);
    assert.ok(logs[2].aux > 0);
  },
});

for (const name of ["saev", "jump-relu", "gated"] as const) {
  Deno.test({
    name: `makeTrainer() adds up the pieces of a batch on WebGPU: ${name}`,
    ignore,
    async fn() {
      const [whole, pieces] = [
        await train(small(name), { ...webgpu, to: 3 }),
        await train(small(name), { ...webgpu, to: 3, tokensAtOnce: 11 }),
      ];
      assertNear(pieces, whole, 1e-4);
    },
  });
}

for (const name of ["saev-batch-top-k", "batch-top-k", "top-k"] as const) {
  Deno.test({
    name: `makeTrainer() encodes a batch a few tokens at a time where memory is small: ${name}`,
    ignore,
    async fn() {
      // Pre-activations of 20 tokens fit.
      const open = webgpu.openWith({ scratchBytes: 20 * 4 * dSae });
      const recipe = { ...small(name), prefixes: undefined };
      const [whole, parts] = [await train(recipe, { ...webgpu, to: 4 }), await train(recipe, { open, to: 4 })];
      assert.deepEqual(parts, whole);
    },
  });
}

Deno.test({
  name: "makeTrainer() brings nothing dense back to the host in a step",
  ignore,
  async fn() {
    const { adapter, device } = await disguise();
    const [dModel, dSae, nTokens, k] = [64, 500, 40, 3];
    const recipe: TrainRecipe = { ...presets["top-k"], activation: { kind: "topK", k, relu: true } };
    const x = batches[0].subarray(0, nTokens * 6);
    const wide = Float32Array.from({ length: nTokens * dModel }, (_, i) => x[i % x.length] + (i % 7) / 7);
    const trainer = await makeTrainer(recipe, {
      ...{ dModel, dSae, nSteps, sample: wide, threads: 1, backend: "webgpu", adapter },
    });
    const events = watchDevice({ device: device() } as TestBackend);
    await trainer.step(wide);
    await trainer.close();
    const arrived = events.filter(({ kind }) => kind === "arrived");
    const lists = 4 * (nTokens + 2 * k * nTokens) + 4 * (k * nTokens + nTokens + dModel);
    const rows = 4 * (dSae + dModel * Math.ceil(dSae / 128));
    const bytes = arrived.reduce((sum, event) => sum + event.bytes, 0);
    // For entries, for slopes and for the norm: the three times that the host waits.
    assert.equal(arrived.length, 3);
    assert.ok(bytes > 4 * 3 * k * nTokens && bytes <= lists + rows, `${bytes} bytes`);
    // Pre-activations would be 80,000, a matrix 128,000.
    assert.ok(bytes < 10_000, `${bytes} bytes`);
  },
});

Deno.test({
  name: "makeTrainer() says what does not fit a device's buffers",
  ignore,
  async fn() {
    await assert.rejects(train(small("jump-relu"), { open: webgpu.openWith({ maxBytes: 600 }), to: 1 }), {
      name: "RangeError",
      message: "Cannot train SAE on WebGPU: wEnc must fit a buffer of 0.0 MiB, it needs 0.0 MiB; choose a smaller " +
        "dSae, or use backend cpu",
    });
    await assert.rejects(train(small("jump-relu"), { open: webgpu.openWith({ maxBytes: 640 }), to: 1 }), {
      name: "RangeError",
      message: "Cannot train SAE on WebGPU: x of a batch must fit a buffer of 0.0 MiB, it needs 0.0 MiB; choose a " +
        "smaller batchSize, or use backend cpu",
    });
    const large = { ...small("saev-top-k"), batchSize: 2 ** 20 };
    await assert.rejects(train(large, { open: webgpu.openWith({ maxBytes: 2 ** 20 }), to: 1 }), {
      name: "RangeError",
      message:
        "Cannot train SAE on WebGPU: slopes of a batch must fit a buffer of 1.0 MiB, it needs 96.0 MiB; choose a " +
        "smaller batchSize or fewer prefixes, or use backend cpu",
    });
  },
});

/** An adapter that gives itself out for a real GPU, and the device that is opened on it. */
async function disguise(): Promise<{ adapter: GPUAdapter; device: () => GPUDevice }> {
  const adapter = (await findTestAdapter())!;
  let device: GPUDevice | undefined;
  const disguised = {
    info: { vendor: "", architecture: "", device: "", description: "Good GPU" },
    limits: adapter.limits,
    features: adapter.features,
    requestDevice: async (descriptor: GPUDeviceDescriptor) => device = await adapter.requestDevice(descriptor),
  };
  return { adapter: disguised as unknown as GPUAdapter, device: () => device! };
}

const run = { dModel, dSae, nSteps, sample, threads: 1 };

Deno.test({
  name: "makeTrainer() takes a real GPU by itself, a software one only by name, and else the CPU",
  ignore,
  async fn() {
    const software = (await findTestAdapter())!;
    const left = await makeTrainer(small("top-k"), { ...run, backend: "auto", adapter: software });
    assert.deepEqual([left.backend, left.device], ["cpu", "CPU"]);
    await left.close();
    const named = await makeTrainer(small("top-k"), { ...run, backend: "webgpu", adapter: software });
    assert.equal(named.backend, "webgpu");
    await named.close();
    const { adapter } = await disguise();
    const taken = await makeTrainer(small("top-k"), { ...run, backend: "auto", adapter });
    assert.deepEqual([taken.backend, taken.device], ["webgpu", "Good GPU"]);
    await taken.close();
  },
});

Deno.test("makeTrainer() leaves a GPU that cannot be opened for the CPU, with a warning, unless it was named", async () => {
  const adapter = {
    info: { description: "Good GPU" },
    limits: {},
    features: new Set(),
    requestDevice: () => Promise.reject(new Error("it is busy")),
  } as unknown as GPUAdapter;
  const warnings: string[] = [];
  const onWarning = (message: string) => warnings.push(message);
  const trainer = await makeTrainer(small("top-k"), { ...run, backend: "auto", adapter, onWarning });
  assert.equal(trainer.backend, "cpu");
  await trainer.close();
  assert.deepEqual(warnings, ["Good GPU failed, training on the CPU: it is busy"]);
  await assert.rejects(makeTrainer(small("top-k"), { ...run, backend: "webgpu", adapter }), { message: "it is busy" });
  const before = process.env[backendVariable];
  process.env[backendVariable] = "cpu";
  try {
    const trainer = await makeTrainer(small("top-k"), { ...run, adapter });
    assert.equal(trainer.backend, "cpu");
    await trainer.close();
    await assert.rejects(makeTrainer(small("top-k"), { ...run, adapter, backend: "webgpu" }), {
      message: "it is busy",
    });
  } finally {
    if (before === undefined) delete process.env[backendVariable];
    else process.env[backendVariable] = before;
  }
  await assert.rejects(makeTrainer(small("top-k"), { ...run, backend: "gpu" as "webgpu" }), {
    name: "RangeError",
    message: "Cannot train SAE: backend must be one of auto, webgpu, cpu, current value is gpu",
  });
});

Deno.test({
  name: "makeTrainer() says after which step a GPU was lost, and its last state goes on elsewhere",
  ignore,
  async fn() {
    const { adapter, device } = await disguise();
    const trainer = await makeTrainer(small("top-k"), { ...run, backend: "auto", adapter });
    await trainer.step(batches[0]);
    const state = structuredClone(await trainer.state());
    await trainer.step(batches[1]);
    const { queue } = device();
    const submit = queue.submit.bind(queue);
    let nSubmitted = 0;
    queue.submit = (commands) => {
      submit(commands);
      if (++nSubmitted === 4) device().destroy();
    };
    await assert.rejects(trainer.step(batches[2]), (error: Error) => {
      assert.equal(error.name, "Error");
      assert.match(
        error.message,
        /^Cannot go on training after step 2 of 60: Good GPU must not fail, it did \(.*lost.*\); go on from the last checkpoint, or use backend cpu$/,
      );
      return true;
    });
    await trainer.close();
    const next = await makeTrainer(small("top-k"), { ...run, sample: undefined, backend: "cpu", state });
    const { step, loss } = await next.step(batches[1]);
    assert.equal(step, 2);
    assert.ok(Number.isFinite(loss));
    await next.close();
  },
});

Deno.test({
  name: "trainRun() on WebGPU that was stopped goes on from its checkpoint to the same bits",
  ignore,
  async fn() {
    const folder = await mkdtemp(join(tmpdir(), "sparsight-webgpu-"));
    try {
      await writeTokens(join(folder, "shards"));
      const shards = await openShards(join(folder, "shards"));
      const options = (name: string) => ({
        ...tinyOptions(join(folder, name)),
        ...{ epochs: 1, checkpointEvery: 3, backend: "webgpu" } as const,
      });
      await trainRun(shards, options("whole"));
      const controller = new AbortController();
      const onStep = ({ step }: TrainStep) => step === 5 && controller.abort();
      await assert.rejects(trainRun(shards, { ...options("stopped"), signal: controller.signal, onStep }), {
        name: "AbortError",
      });
      const { startedAt } = await trainRun(shards, options("stopped"));
      assert.equal(startedAt, 5);
      assert.deepEqual(await saeBytes(join(folder, "stopped")), await saeBytes(join(folder, "whole")));
      await shards.close();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
});
