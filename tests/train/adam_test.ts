import assert from "node:assert/strict";
import { createAdam } from "../../lib/train/adam.ts";
import { parameterNames, type Parameters } from "../../lib/train/parameters.ts";

const filled = (value: number): Parameters => ({
  wEnc: new Float32Array(6).fill(value),
  bEnc: new Float32Array(3).fill(value),
  wDec: new Float32Array(6).fill(value),
  bDec: new Float32Array(2).fill(value),
});

const assertNear = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) <= 1e-6 * Math.abs(expected), `${actual} is not ${expected}`);

Deno.test("createAdam() takes two steps as computed by hand", () => {
  const parameters = filled(1);
  const step = createAdam(parameters);
  // The first step is the learning rate against the gradient's sign, whatever its size.
  step(filled(4), 0.1);
  for (const name of parameterNames) for (const value of parameters[name]) assertNear(value, 1 - 0.1);
  // m = 0.9 · 0.4 + 0.1 · (−2) = 0.16, divided by 1 − 0.9² = 0.19;
  // v = 0.999 · 0.016 + 0.001 · 4 = 0.019984, divided by 1 − 0.999² = 0.001999.
  step(filled(-2), 0.01);
  const expected = 0.9 - 0.01 * (0.16 / 0.19) / Math.sqrt(0.019984 / 0.001999);
  for (const name of parameterNames) for (const value of parameters[name]) assertNear(value, expected);
});

Deno.test("createAdam() follows its options", () => {
  const parameters = filled(0);
  const step = createAdam(parameters, { beta1: 0.5, beta2: 0.75, epsilon: 1 });
  step(filled(3), 1);
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
  createAdam(parameters)(gradients, 0.5);
  assert.deepEqual(gradients, before);
  assert.deepEqual([...parameters.wEnc], [2, 1.5, 2, 2, 2, 2]);
});
