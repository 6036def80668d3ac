import assert from "node:assert/strict";
import { type Adam, type AdamOptions, createAdam } from "../../lib/train/adam.ts";
import { parameterNames, type Parameters } from "../../lib/train/parameters.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { randomFloats } from "../support/reference.ts";
import { relativeDifference } from "./traces.ts";

const [dModel, dSae] = [3, 5];

const filled = (value: number): Parameters => ({
  wEnc: new Float32Array(dSae * dModel).fill(value),
  bEnc: new Float32Array(dSae).fill(value),
  wDec: new Float32Array(dSae * dModel).fill(value),
  bDec: new Float32Array(dModel).fill(value),
});

const every = new Uint8Array(dSae).fill(1);

function makeAdam(parameters: Parameters, options: Partial<AdamOptions> = {}) {
  const adam = createAdam(parameters, { names: parameterNames(parameters), dModel, ...options });
  const step = (gradients: Parameters, rate: number, touched = every, gradientFactor = 1) =>
    adam.step({ gradients, touched, gradientFactor, learningRate: () => rate });
  return { adam, step };
}

const assertNear = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) <= 1e-6 * Math.abs(expected), `${actual} is not ${expected}`);

Deno.test("createAdam() takes two steps as computed by hand", () => {
  const parameters = filled(1);
  const { step } = makeAdam(parameters);
  // The first step is the learning rate against the gradient's sign, whatever its size.
  step(filled(4), 0.1);
  for (const name of parameterNames(parameters)) for (const value of parameters[name]!) assertNear(value, 1 - 0.1);
  // m = 0.9 · 0.4 + 0.1 · (−2) = 0.16, divided by 1 − 0.9² = 0.19;
  // v = 0.999 · 0.016 + 0.001 · 4 = 0.019984, divided by 1 − 0.999² = 0.001999.
  step(filled(-2), 0.01);
  const expected = 0.9 - 0.01 * (0.16 / 0.19) / Math.sqrt(0.019984 / 0.001999);
  for (const name of parameterNames(parameters)) for (const value of parameters[name]!) assertNear(value, expected);
});

Deno.test("createAdam() follows its options, and shortens gradients by a factor", () => {
  const parameters = filled(0);
  const { step } = makeAdam(parameters, { beta1: 0.5, beta2: 0.75, epsilon: 1 });
  step(filled(6), 1, every, 0.5);
  for (const value of parameters.wDec) assertNear(value, -3 / (3 + 1));
  // m = 0.5 · 1.5 + 0.5 · 1 = 1.25, divided by 0.75; v = 0.75 · 2.25 + 0.25 · 1 = 1.9375, divided by 0.4375.
  step(filled(1), 1);
  for (const value of parameters.wDec) assertNear(value, -0.75 - (1.25 / 0.75) / (Math.sqrt(1.9375 / 0.4375) + 1));
});

Deno.test("createAdam() keeps gradients as they are, and stays where there is none", () => {
  const parameters = filled(2);
  const gradients = filled(0);
  gradients.wEnc[1] = 5;
  const before = structuredClone(gradients);
  makeAdam(parameters).step(gradients, 0.5);
  assert.deepEqual(gradients, before);
  assert.deepEqual([...parameters.wEnc.subarray(0, 4)], [2, 1.5, 2, 2]);
});

Deno.test("createAdam() moves only the parameters it is told to, each at its own rate", () => {
  const parameters = filled(1);
  const adam = createAdam(parameters, { names: ["bEnc", "bDec"], dModel });
  const learningRate = (name: string) => name === "bEnc" ? 0.5 : 0.25;
  adam.step({ gradients: filled(1), touched: every, gradientFactor: 1, learningRate });
  assert.deepEqual([parameters.bEnc[0], parameters.bDec[0], parameters.wEnc[0]], [0.5, 0.75, 1]);
});

Deno.test("createAdam() gives the numbers of an Adam that moves everything, though it lets quiet latents rest", () => {
  const random = seededRandom(4);
  const start = filled(0);
  for (const name of parameterNames(start)) start[name]!.set(randomFloats(start[name]!.length, random));
  const parameters = structuredClone(start);
  const { adam, step } = makeAdam(parameters);
  const plain = Object.fromEntries(parameterNames(start).map((name) => [name, Float64Array.from(start[name]!)]));
  const means = structuredClone(plain);
  const squares = structuredClone(plain);
  for (const name of parameterNames(start)) [means[name].fill(0), squares[name].fill(0)];
  // Latent 0 always, 1 never, 2 once and again after it has come to rest, 3 every 100 steps, 4 in the end.
  const isTouched = (latent: number, t: number) => [true, false, t === 3 || t >= 700, t % 100 === 0, t > 750][latent];
  const rested: boolean[] = [];
  for (let t = 0; t < 760; t++) {
    const touched = Uint8Array.from({ length: dSae }, (_, latent) => isTouched(latent, t) ? 1 : 0);
    const gradients = filled(0);
    for (const name of parameterNames(start)) {
      const values = randomFloats(gradients[name]!.length, random);
      const isMatrix = name === "wEnc" || name === "wDec";
      values.forEach((value, i) => {
        if (!isMatrix || touched[Math.floor(i / dModel)] === 1) gradients[name]![i] = value;
      });
    }
    step(gradients, 1e-2, touched);
    for (const name of parameterNames(start)) {
      const [p, m, v, g] = [plain[name], means[name], squares[name], gradients[name]!];
      for (let i = 0; i < p.length; i++) {
        m[i] += 0.1 * (g[i] - m[i]);
        v[i] += 0.001 * (g[i] * g[i] - v[i]);
        p[i] -= 1e-2 / (1 - 0.9 ** (t + 1)) * m[i] / (Math.sqrt(v[i] / (1 - 0.999 ** (t + 1))) + 1e-8);
      }
    }
    rested.push(!adam.quiet.isAwake(2));
  }
  assert.deepEqual([rested[2], rested[3], rested[500], rested[699], rested[700]], [true, false, false, true, false]);
  for (const name of parameterNames(start)) {
    assert.ok(relativeDifference(parameters[name]!, plain[name]) < 1e-5, name);
    assert.ok(relativeDifference(adam.state.squares[name]!, squares[name]) < 1e-4, name);
  }
  assert.deepEqual(parameters.wEnc.subarray(3, 6), start.wEnc.subarray(3, 6));
});

Deno.test("createAdam() goes on from a state with the same bits", () => {
  const gradientsOf = (t: number) => filled(Math.sin(t));
  const run = (adam: ReturnType<typeof makeAdam>, from: number, to: number) => {
    for (let t = from; t < to; t++) adam.step(gradientsOf(t), 1e-2);
  };
  const whole = filled(1);
  run(makeAdam(whole), 0, 9);
  const parts = filled(1);
  const first = makeAdam(parts);
  run(first, 0, 4);
  const state: Adam["state"] = structuredClone(first.adam.state);
  run(makeAdam(parts, { state }), 4, 9);
  assert.deepEqual(parts, whole);
});
