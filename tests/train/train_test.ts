import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { saveSae } from "../../lib/sae/save.ts";
import { measureReconstruction } from "../../lib/sae/metrics/reconstruction.ts";
import type { Sae } from "../../lib/sae/sae.ts";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { presets } from "../../lib/train/presets.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { type TrainOptions, trainSae, type TrainStep } from "../../lib/train/train.ts";
import type { TrainerState } from "../../lib/train/start.ts";
import { writeTinyRecording } from "../summary/tiny_recording.ts";

const dModel = 16;
const nDirections = 24;
const shape = { dModel, gridHeight: 2, gridWidth: 2, imagesPerBatch: 50, batchesPerShard: 10 };

const random = seededRandom(11);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** True directions, of length 1, more than there are dimensions. */
const directions = Array.from({ length: nDirections }, () => {
  const direction = Array.from({ length: dModel }, normal);
  return direction.map((value) => value / Math.hypot(...direction));
});

/** Tokens that are two different directions each, with weights between 1 and 2, and off from zero by a constant. */
function sparseTokens(nTokens: number): Float32Array {
  const x = Float32Array.from({ length: nTokens * dModel }, (_, i) => (i % dModel) / 32);
  for (let token = 0; token < nTokens; token++) {
    const first = Math.floor(random() * nDirections);
    const second = (first + 1 + Math.floor(random() * (nDirections - 1))) % nDirections;
    for (const direction of [first, second]) {
      const weight = 1 + random();
      for (let d = 0; d < dModel; d++) x[token * dModel + d] += weight * directions[direction][d];
    }
  }
  return x;
}

const training = sparseTokens(4000);
const heldOut = sparseTokens(500);

const options: TrainOptions = {
  layer: 3,
  dSae: 48,
  k: 2,
  epochs: 15,
  batchSize: 128,
  learningRate: 1e-2,
  deadAfterTokens: 2000,
  kAux: 8,
  seed: 1,
  threads: 1,
};

async function withShards(x: Float32Array, body: (shards: Shards) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-train-"));
  try {
    await writeTinyRecording(join(folder, "shards"), x, shape);
    const shards = await openShards(join(folder, "shards"));
    try {
      await body(shards);
    } finally {
      await shards.close();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function weightsBytes(sae: Sae): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-train-"));
  try {
    await saveSae(sae, folder);
    return await readFile(join(folder, "sae_weights.safetensors"));
  } finally {
    await rm(folder, { recursive: true });
  }
}

function largestCosine(sae: Sae, direction: readonly number[]): number {
  let largest = 0;
  for (let row = 0; row < sae.wDec.length; row += dModel) {
    largest = Math.max(largest, direction.reduce((total, value, d) => total + value * sae.wDec[row + d], 0));
  }
  return largest;
}

Deno.test("trainSae() finds the directions that tokens are made of, and explains tokens it has not seen", async () => {
  await withShards(training, async (shards) => {
    const steps: TrainStep[] = [];
    const sae = await trainSae(shards, { ...options, onStep: (step) => steps.push(step) });
    const found = directions.filter((direction) => largestCosine(sae, direction) > 0.9);
    assert.ok(found.length >= 21, `found ${found.length} of ${nDirections}`);

    const backend = await createCpuBackend({ threads: 1 });
    const loaded = await backend.load(sae);
    async function* stream() {
      yield heldOut;
    }
    const { explainedVariance, meanL0 } = await measureReconstruction(loaded, stream());
    await loaded.dispose();
    await backend.close();
    assert.ok(explainedVariance > 0.9, `explained variance ${explainedVariance}`);
    assert.ok(meanL0 > 1 && meanL0 <= 2, `mean L0 ${meanL0}`);

    const nSteps = 15 * Math.ceil(4000 / 128);
    assert.deepEqual(steps.map(({ step }) => step), Array.from({ length: nSteps }, (_, i) => i + 1));
    assert.ok(steps.every((step) => step.nSteps === nSteps));
    assert.ok(steps[0].normalizedMse > 0.2, `before training the loss is ${steps[0].normalizedMse}`);
    const highest = Math.max(...steps.map(({ learningRate }) => learningRate));
    assert.ok(highest <= 1e-2 && highest > 0.99e-2 && steps[nSteps - 1].learningRate < 1e-5);
  });
});

Deno.test("trainSae() begins better than the mean, also where many overlapping directions are added up", async () => {
  await withShards(training.subarray(0, 400 * dModel), async (shards) => {
    const steps: TrainStep[] = [];
    await trainSae(shards, { ...options, k: 16, epochs: 1, onStep: (step) => steps.push(step) });
    assert.equal(steps[0].learningRate, 0);
    assert.ok(steps[0].normalizedMse < 1, `before training the loss is ${steps[0].normalizedMse}`);
  });
});

Deno.test("trainSae() counts latents that have not fired for deadAfterTokens, until they do", async () => {
  await withShards(training.subarray(0, 400 * dModel), async (shards) => {
    const countDead = async (deadAfterTokens: number) => {
      const steps: TrainStep[] = [];
      const onStep = (step: TrainStep) => steps.push(step);
      await trainSae(shards, { ...options, k: 1, epochs: 1, batchSize: 16, deadAfterTokens, onStep });
      return steps.map(({ nDead }) => nDead);
    };
    // Of 48 latents, 16 tokens make 16 fire at most.
    for (const nDead of await countDead(16)) assert.ok(nDead >= 32 && nDead < 48, `${nDead} are dead`);
    const later = await countDead(48);
    assert.deepEqual(later.slice(0, 2), [0, 0]);
    assert.ok(later[2] > 0 && later[2] < 48, `${later[2]} are dead`);
  });
});

Deno.test("trainSae() says what it made, with decoder rows of length 1", async () => {
  await withShards(training.subarray(0, 400 * dModel), async (shards) => {
    const sae = await trainSae(shards, { ...options, epochs: 2 });
    assert.deepEqual([sae.dModel, sae.dSae, sae.subtractBDec], [dModel, 48, true]);
    assert.deepEqual(sae.rule, { kind: "topK", k: 2, relu: true });
    const { training: record, ...rest } = sae.provenance;
    assert.deepEqual(rest, {
      model: { name: "tiny.onnx", sha256: "0123" },
      layer: 3,
      hook: "residPost",
      tokens: "patches",
    });
    assert.equal(record?.recipe, "top-k");
    assert.deepEqual([record?.epochs, record?.batch_size, record?.learning_rate, record?.seed], [2, 128, 1e-2, 1]);
    for (let latent = 0; latent < 48; latent++) {
      const length = Math.hypot(...sae.wDec.subarray(latent * dModel, (latent + 1) * dModel));
      assert.ok(Math.abs(length - 1) < 1e-5, `row ${latent} has length ${length}`);
    }
  });
});

Deno.test("trainSae() gives the same bytes for the same seed, others for another", async () => {
  await withShards(training.subarray(0, 1000 * dModel), async (shards) => {
    const train = async (seed: number) => await weightsBytes(await trainSae(shards, { ...options, epochs: 3, seed }));
    const first = await train(1);
    assert.deepEqual(await train(1), first);
    assert.notDeepEqual(await train(2), first);
  });
});

Deno.test("trainSae() refuses activations that are no numbers, or all the same", async () => {
  const refused = (x: Float32Array, scale: number) =>
    withShards(x, async (shards) => {
      await assert.rejects(trainSae(shards, options), {
        name: "RangeError",
        message: "Cannot train SAE: activations of layer 3 must be finite numbers that vary, their distance from the " +
          `mean is ${scale}`,
      });
    });
  await refused(training.slice(0, 400 * dModel).fill(NaN, 777, 778), NaN);
  await refused(training.slice(0, 400 * dModel).fill(Infinity, 777, 778), NaN);
  await refused(new Float32Array(400 * dModel).fill(2.5), 0);
});

Deno.test("trainSae() says so where a number that is not finite turns up later", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-train-"));
  // More tokens than the start is measured on, which seed 1 measures without the one that is NaN.
  const x = Float32Array.from({ length: 200_000 }, () => random());
  x[123_456] = NaN;
  await writeTinyRecording(folder, x, { dModel: 1, gridHeight: 5, gridWidth: 5, imagesPerBatch: 1000 });
  const shards = await openShards(folder);
  try {
    await assert.rejects(trainSae(shards, { layer: 3, dSae: 2, k: 1, batchSize: 5000, seed: 1, threads: 1 }), {
      name: "Error",
      message:
        /^Cannot go on training: the loss must be a number, it is NaN at step \d+; the activations hold numbers that are not finite, record them again$/,
    });
  } finally {
    await shards.close();
    await rm(folder, { recursive: true });
  }
});

Deno.test("trainSae() says that the learning rate is too high where the loss stops being a number", async () => {
  await withShards(training.subarray(0, 400 * dModel), async (shards) => {
    await assert.rejects(trainSae(shards, { ...options, learningRate: 1e30 }), {
      name: "Error",
      message:
        /^Cannot go on training: the loss must be a number, it is (NaN|Infinity) at step \d+; lower the learning rate from 1e\+30$/,
    });
  });
});

Deno.test("trainSae() refuses k out of range and layers that were not recorded, and stops when told", async () => {
  await withShards(training.subarray(0, 40 * dModel), async (shards) => {
    for (const k of [0, 49, 1.5, NaN]) {
      await assert.rejects(trainSae(shards, { ...options, k }), {
        name: "RangeError",
        message: `Cannot train SAE: k must be an integer between 1 and dSae 48, current value is ${k}`,
      });
    }
    await assert.rejects(trainSae(shards, { ...options, layer: 5 }), {
      name: "RangeError",
      message: /^Cannot read layer 5 of .*: layer must be one of 3$/,
    });
    await assert.rejects(trainSae(shards, { ...options, tokens: "cls" }), {
      name: "RangeError",
      message: "Cannot read CLS: the model must have a CLS token, this one has only patches",
    });
    const controller = new AbortController();
    const stopped = trainSae(shards, {
      ...options,
      signal: controller.signal,
      onStep: ({ step }) => step === 2 && controller.abort(),
    });
    await assert.rejects(stopped, { name: "AbortError" });
  });
});

Deno.test("trainSae() follows a recipe by its name or as data, and numbers take the place of the recipe's", async () => {
  await withShards(training.subarray(0, 400 * dModel), async (shards) => {
    const { k: _, deadAfterTokens: _dead, kAux: _aux, ...rest } = options;
    const relu = await trainSae(shards, { ...rest, recipe: "saev", epochs: 1 });
    assert.deepEqual([relu.rule, relu.subtractBDec], [{ kind: "relu" }, false]);
    assert.deepEqual(relu.provenance.training, {
      recipe: "saev",
      epochs: 1,
      batch_size: 128,
      learning_rate: 1e-2,
      seed: 1,
    });
    const recipe = { ...presets["clip-scope"], length: { tokens: 300 }, batchSize: 100 } as const;
    const steps: TrainStep[] = [];
    const scope = await trainSae(shards, {
      layer: 3,
      dSae: 48,
      k: 5,
      recipe,
      threads: 1,
      onStep: (step) => steps.push(step),
    });
    assert.deepEqual(scope.rule, { kind: "topK", k: 5, relu: false });
    assert.deepEqual(scope.normalization, { kind: "batch", epsilon: 1e-6 });
    assert.deepEqual(steps.map(({ nSteps, nTokens }) => [nSteps, nTokens]), [[3, 100], [3, 200], [3, 300]]);
    const record = scope.provenance.training!.recipe as Record<string, unknown>;
    assert.deepEqual(record.activation, { kind: "topK", k: 5, relu: false });
    assert.deepEqual(record.dead, { after_tokens: 10_000_000, above: 1e-3, counts_firing_batch: true });
    await assert.rejects(trainSae(shards, { ...options, recipe: "saev" }), {
      name: "RangeError",
      message:
        "Cannot train SAE: the activation of a recipe with k must be one of topK, batchTopK, current value is relu",
    });
    await assert.rejects(trainSae(shards, { ...options, recipe: "fast" as "saev" }), {
      name: "RangeError",
      message: /^Cannot train SAE: recipe must be one of top-k, saev-2025-02, saev, .*, current value is fast$/,
    });
  });
});

Deno.test("trainSae() goes on from a checkpoint with the same bits, also in the middle of an epoch", async () => {
  await withShards(training.subarray(0, 1000 * dModel), async (shards) => {
    const states: TrainerState[] = [];
    const checkpoints = {
      checkpointEvery: 11,
      onCheckpoint: (s: TrainerState) => void states.push(structuredClone(s)),
    };
    const steps: TrainStep[] = [];
    const onStep = (step: TrainStep) => steps.push(step);
    const whole = await trainSae(shards, { ...options, epochs: 3, ...checkpoints, onStep });
    assert.deepEqual(states.map(({ step }) => step), [11, 22, 24]);
    for (const resume of states) {
      const rest: TrainStep[] = [];
      const { step } = resume;
      const resumed = await trainSae(shards, { ...options, epochs: 3, resume, onStep: (log) => rest.push(log) });
      assert.deepEqual(rest, steps.slice(step));
      assert.deepEqual(await weightsBytes(resumed), await weightsBytes(whole));
    }
  });
});
