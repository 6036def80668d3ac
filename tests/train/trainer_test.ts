import assert from "node:assert/strict";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { parameterNames } from "../../lib/train/parameters.ts";
import { type PresetName, presets } from "../../lib/train/presets.ts";
import type { TrainRecipe } from "../../lib/train/recipe.ts";
import type { TrainStep } from "../../lib/train/step.ts";
import type { TrainerOptions, TrainerState } from "../../lib/train/start.ts";
import { makeTrainer } from "../../lib/train/trainer.ts";
import { batches, dModel, dSae, nSteps, nTokens, sample, small } from "./small_runs.ts";
import { relativeDifference } from "./traces.ts";

async function train(recipe: TrainRecipe, options: Partial<TrainerOptions> & { from?: number; to?: number } = {}) {
  const { from = 0, to = nSteps, ...rest } = options;
  const trainer = await makeTrainer(recipe, { dModel, dSae, nSteps, sample, threads: 1, backend: "cpu", ...rest });
  const logs: TrainStep[] = [];
  for (let step = from; step < to; step++) logs.push(await trainer.step(batches[step]));
  const result = { logs, weights: await trainer.weights(), state: structuredClone(await trainer.state()) };
  await trainer.close();
  return result;
}

for (const name of Object.keys(presets) as PresetName[]) {
  Deno.test(`makeTrainer() learns after the recipe ${name}, and its SAE means what training meant`, async () => {
    const recipe = small(name);
    const { logs, weights, state } = await train(recipe);
    const mean = (part: TrainStep[]) => part.reduce((sum, log) => sum + log.normalizedMse, 0) / part.length;
    const [first, last] = [mean(logs.slice(0, 5)), mean(logs.slice(-5))];
    assert.ok(last < 0.8 * first, `${first} became ${last}`);
    logs.forEach((log, i) => {
      assert.deepEqual([log.step, log.nSteps, log.nTokens], [i + 1, nSteps, (i + 1) * nTokens]);
      assert.ok(Math.abs(log.loss - log.reconstruction - log.sparsity - log.aux) < 1e-12);
    });

    // The next step's batch, by the SAE as it is used: the same latents, the same error.
    const next = await makeTrainer({ ...recipe, unitDecoder: "never" }, {
      ...{ dModel, dSae, nSteps: nSteps + 1, threads: 1, backend: "cpu" },
      state,
    });
    assert.deepEqual(await next.weights(), weights);
    const x = batches[7];
    const { mse, l0, l1 } = await next.step(x);
    await next.close();
    const backend = await createCpuBackend({ threads: 1 });
    const sae = await backend.load(weights);
    const latents = await sae.encode(x);
    const reconstruction = await sae.decode(latents);
    await sae.dispose();
    await backend.close();
    if (recipe.activation.kind === "batchTopK") {
      assert.ok(state.threshold > 0);
      assert.ok(weights.rule.kind === "jumpRelu");
      assert.deepEqual(weights.rule.threshold, new Float32Array(dSae).fill(state.threshold));
      // A threshold stands in for the choice among the batch: about as many latents, not the same ones.
      assert.ok(latents.values.length / nTokens > 1 && latents.values.length / nTokens < 6);
      return;
    }
    const { foldedScale } = state.input;
    const scale = foldedScale !== 1 ? foldedScale : 1;
    let [squares, sum] = [0, 0];
    const statistics = latents.statistics;
    for (let i = 0; i < x.length; i++) {
      const unit = statistics
        ? statistics.scale[statistics.per === "token" ? Math.floor(i / dModel) : i % dModel]
        : scale;
      squares += ((x[i] - reconstruction[i]) / unit) ** 2;
    }
    for (const value of latents.values) sum += Math.abs(value) / scale;
    assert.ok(Math.abs(squares / x.length / mse - 1) < 1e-4, `${squares / x.length} is not ${mse}`);
    assert.ok(Math.abs(sum / nTokens / l1 - 1) < 1e-4, `${sum / nTokens} is not ${l1}`);
    const counted = latents.values.filter((value) => value !== 0).length / nTokens;
    assert.ok(Math.abs(counted - l0) <= 1 / nTokens, `${counted} is not ${l0}`);
  });

  Deno.test(`makeTrainer() goes on from a state with the same bits: ${name}`, async () => {
    const recipe = small(name);
    const whole = await train(recipe, { to: 14 });
    const { state } = await train(recipe, { to: 9 });
    const rest = await train(recipe, { from: 9, to: 14, sample: undefined, state });
    assert.deepEqual(rest.logs, whole.logs.slice(9));
    assert.deepEqual(rest.state, whole.state);
    assert.deepEqual(rest.weights, whole.weights);
  });
}

Deno.test("makeTrainer() trains with Muon, and goes on with the same bits", async () => {
  const recipe: TrainRecipe = { ...small("saev-top-k"), optimizer: { kind: "muon", learningRate: 0.01 } };
  const whole = await train(recipe);
  assert.ok(whole.logs[nSteps - 1].normalizedMse < 0.8 * whole.logs[0].normalizedMse);
  const { state } = await train(recipe, { to: 50 });
  const rest = await train(recipe, { from: 50, sample: undefined, state });
  assert.deepEqual(rest.state, whole.state);
});

Deno.test("makeTrainer() keeps decoder rows at length 1, and shortens long gradients", async () => {
  const { state, logs } = await train(small("top-k"), { to: 10 });
  for (let latent = 0; latent < dSae; latent++) {
    const length = Math.hypot(...state.parameters.wDec.subarray(latent * dModel, (latent + 1) * dModel));
    assert.ok(Math.abs(length - 1) < 1e-6);
  }
  // Adam does not see a factor that all gradients share, but for epsilon: a large one makes it visible.
  const optimizer = { kind: "adam", learningRate: 0.02, epsilon: 1e3 } as const;
  const moved = async (clipNorm: number) => {
    const from = await train({ ...small("top-k"), optimizer, clipNorm, schedule: { warmUp: 0, decay: "none" } }, {
      to: 0,
    });
    const to = await train({ ...small("top-k"), optimizer, clipNorm, schedule: { warmUp: 0, decay: "none" } }, {
      to: 1,
    });
    return Math.hypot(...to.state.parameters.bEnc.map((value, i) => value - from.state.parameters.bEnc[i]));
  };
  const norm = logs[0].gradientNorm;
  const ratio = await moved(norm / 4) / await moved(Infinity);
  assert.ok(Math.abs(ratio - 0.25) < 1e-3, String(ratio));
});

for (const name of ["saev", "jump-relu", "gated"] as const) {
  Deno.test(`makeTrainer() adds up the pieces of a batch: ${name}`, async () => {
    const whole = await train(small(name), { to: 6 });
    const pieces = await train(small(name), { to: 6, tokensAtOnce: 11 });
    assert.deepEqual(pieces.state.idleTokens, whole.state.idleTokens);
    for (const part of ["loss", "reconstruction", "sparsity", "aux", "mse", "l0", "l1", "gradientNorm"] as const) {
      const [a, b] = [pieces, whole].map(({ logs }) => logs.map((log) => log[part]));
      assert.ok(relativeDifference(a, b) < 1e-5, part);
    }
    for (const parameter of parameterNames(whole.state.parameters)) {
      const [a, b] = [pieces, whole].map(({ state }) => state.parameters[parameter]!);
      assert.ok(relativeDifference(a, b) < 1e-4, parameter);
    }
  });
}

Deno.test("makeTrainer() wakes latents whose bias rises, and goes on with the same bits", async () => {
  const recipe: TrainRecipe = { ...small("top-k"), schedule: { warmUp: 0, decay: "none" } };
  // Far below all others, half of the latents stay dead by themselves.
  const { state: { parameters } } = await train(recipe, { to: 0 });
  for (let latent = 0; latent < dSae / 2; latent++) parameters.bEnc[latent] = -10;
  const begun = { start: { parameters } };
  const asleep = await train(recipe, begun);
  assert.ok(asleep.logs[nSteps - 1].nDead >= dSae / 2);

  const rising: TrainRecipe = { ...recipe, biasRise: { afterTokens: 100, learningRates: 50 } };
  const awake = await train(rising, begun);
  assert.ok(awake.logs[nSteps - 1].nDead < 3, `${awake.logs[nSteps - 1].nDead} of ${dSae} are dead`);
  const { state } = await train(rising, { ...begun, to: 30 });
  const rest = await train(rising, { from: 30, sample: undefined, state });
  assert.deepEqual(rest.state, awake.state);

  // A bias that does not learn does not rise either.
  const factors = { bEnc: 0 };
  const held = await train({ ...rising, optimizer: { ...rising.optimizer, factors } }, begun);
  assert.deepEqual(held.state.parameters.bEnc, parameters.bEnc);
});

Deno.test("makeTrainer() raises the weight of the sparsity loss step by step", async () => {
  const recipe: TrainRecipe = { ...small("saev"), sparsity: { coefficient: 0.01, warmUp: 4 } };
  const { logs } = await train(recipe, { to: 6 });
  const shares = logs.map(({ sparsity, l1 }) => Number((sparsity / (0.01 * l1)).toFixed(5)));
  assert.deepEqual(shares, [0, 0.25, 0.5, 0.75, 1, 1]);
});

Deno.test("makeTrainer() keeps a running mean of BatchTopK's smallest value", async () => {
  const recipe = small("saev-batch-top-k");
  const trainer = await makeTrainer(recipe, { dModel, dSae, nSteps, sample, threads: 1, backend: "cpu" });
  let expected = 0;
  for (const x of batches.slice(0, 3)) {
    const { wEnc, bEnc } = (await trainer.state()).parameters;
    const pre: number[] = [];
    for (let token = 0; token < nTokens; token++) {
      for (let latent = 0; latent < dSae; latent++) {
        let h = bEnc[latent];
        for (let d = 0; d < dModel; d++) h += x[token * dModel + d] * wEnc[latent * dModel + d];
        pre.push(h);
      }
    }
    const kept = pre.sort((a, b) => b - a).slice(0, 3 * nTokens).filter((value) => value > 0);
    expected = 0.9 * expected + 0.1 * kept.at(-1)!;
    await trainer.step(x);
  }
  const { threshold } = await trainer.state();
  await trainer.close();
  assert.ok(Math.abs(threshold / expected - 1) < 1e-5, `${threshold} is not ${expected}`);
});

Deno.test("makeTrainer() refuses recipes that do not go with the sizes, and batches of part of a token", async () => {
  const recipe = presets["saev-top-k"];
  const refuse = async (changed: Partial<TrainRecipe>, message: string) => {
    await assert.rejects(
      makeTrainer({ ...recipe, ...changed }, { dModel, dSae, nSteps, sample, threads: 1, backend: "cpu" }),
      {
        name: "RangeError",
        message: `Cannot train SAE: ${message}`,
      },
    );
  };
  await refuse({}, "k must be an integer between 1 and dSae 20, current value is 32");
  await refuse(
    { activation: { kind: "gated" } },
    "activation with auxK must be one of relu, topK, batchTopK, current value is gated",
  );
  await refuse(
    { activation: { kind: "relu" }, prefixes: { kind: "shares", shares: [0.5, 0.25] } },
    "sum of prefix shares must be 1, current value is 0.75",
  );
  await refuse(
    { activation: { kind: "relu" }, batchSize: 0 },
    "batchSize must be an integer of 1 or more, current value is 0",
  );
  await refuse(
    { activation: { kind: "relu" }, biasRise: { afterTokens: 0, learningRates: 10 } },
    "afterTokens of biasRise must be above 0, current value is 0",
  );
  await refuse(
    { activation: { kind: "relu" }, biasRise: { afterTokens: 100, learningRates: NaN } },
    "learningRates of biasRise must be above 0, current value is NaN",
  );
  await refuse({ activation: { kind: "relu" }, clipNorm: 0 }, "clipNorm must be above 0, current value is 0");
  await assert.rejects(makeTrainer(small("saev"), { dModel, dSae, nSteps, threads: 1, backend: "cpu" }), {
    name: "TypeError",
    message: "Cannot train SAE: sample, start or state must be given, none is",
  });
  const trainer = await makeTrainer(small("saev"), { dModel, dSae, nSteps, sample, threads: 1, backend: "cpu" });
  await assert.rejects(trainer.step(new Float32Array(7)), {
    name: "RangeError",
    message: "Cannot train SAE: expected activations of shape [nTokens, 6], current length is 7",
  });
  const before: TrainerState = structuredClone(await trainer.state());
  const given = batches[0].slice();
  // The first step of this schedule has a learning rate of zero.
  await trainer.step(batches[0]);
  await trainer.step(batches[0]);
  assert.deepEqual(batches[0], given);
  assert.notDeepEqual((await trainer.state()).parameters, before.parameters);
  await trainer.close();
});
