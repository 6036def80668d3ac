import assert from "node:assert/strict";
import { initializeParameters } from "../../lib/train/initialize.ts";
import { presets } from "../../lib/train/presets.ts";
import { normalFrom, seededRandom } from "../../lib/train/random.ts";
import type { TrainInitialization } from "../../lib/train/recipe.ts";

const dModel = 4;
const mean = [1, 2, 3, 4];
// Points along the four axes, seen from (−0.25, 0.75, 1.75, 2.75).
const x = Float32Array.from({ length: 40 * dModel }, (_, i) => {
  const [token, d] = [Math.floor(i / dModel), i % dModel];
  return mean[d] - 1.25 + (token % dModel === d ? 5 : 0);
});

function begin(initialization: TrainInitialization, dSae: number, seed = 1) {
  return initializeParameters(initialization, x, { dModel, dSae, random: seededRandom(seed) });
}

const rowsOf = (matrix: Float32Array) =>
  Array.from({ length: matrix.length / dModel }, (_, i) => [...matrix.subarray(i * dModel, (i + 1) * dModel)]);

const variance = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0) / values.length;

Deno.test("initializeParameters() spreads directions of length 1 over data", () => {
  const spread = presets["top-k"].initialization;
  const before = x.slice();
  const start = begin({ ...spread, blend: 1 }, 4);
  assert.deepEqual(x, before);
  assert.deepEqual([...start.bDec], mean);
  assert.deepEqual(start.wEnc, start.wDec);
  assert.deepEqual(start.bEnc, new Float32Array(4));
  // What one direction explains is hardly ever drawn again, so that the rows are the four points seen from the mean.
  const points = rowsOf(start.wDec).map((row) => row.findIndex((value) => value > 0.8));
  assert.deepEqual(points.sort(), [0, 1, 2, 3]);
  for (const row of rowsOf(begin(spread, 9).wDec)) {
    assert.ok(Math.abs(Math.hypot(...row) - 1) < 1e-6);
    assert.ok(Math.max(...row) > 0.7 && Math.max(...row) < 1, String(row));
  }
});

Deno.test("initializeParameters() blends data points with uniform draws, as saev does", () => {
  const { wDec, wEnc, bDec } = begin({ ...presets.saev.initialization, unit: false, blend: 0.75 }, 60);
  assert.deepEqual(bDec, new Float32Array(dModel));
  assert.deepEqual(wEnc, wDec);
  const bound = 0.25 * Math.sqrt(6 / dModel);
  const counts = [0, 0, 0, 0];
  for (const row of rowsOf(wDec)) {
    const axis = row.indexOf(Math.max(...row));
    counts[axis]++;
    row.forEach((value, d) => {
      const point = 0.75 * (d === axis ? 3.75 : -1.25);
      assert.ok(Math.abs(value - point) <= bound, String(row));
    });
  }
  // Sixty rows out of forty tokens: each token once or twice.
  for (const count of counts) assert.ok(count >= 10 && count <= 20, String(counts));
  for (const row of rowsOf(begin(presets.saev.initialization, 5).wDec)) {
    assert.ok(Math.abs(Math.hypot(...row) - 1) < 1e-6);
  }
});

Deno.test("initializeParameters() draws as saev's first version and CLIP-Scope do", () => {
  const dSae = 3000;
  const old = begin(presets["saev-2025-02"].initialization, dSae);
  // Uniform within ±b has the variance b² / 3; the encoder takes dSae for its number of inputs.
  assert.ok(Math.abs(variance(old.wDec) / (6 / dModel / 3) - 1) < 0.03);
  assert.ok(Math.abs(variance(old.wEnc) / (6 / dSae / 3) - 1) < 0.03);
  assert.deepEqual(old.bDec, new Float32Array(dModel));
  const scope = begin(presets["clip-scope"].initialization, dSae);
  assert.ok(Math.abs(variance(scope.wDec) / (1 / (2 * dModel)) - 1) < 0.03);
  assert.deepEqual(scope.wEnc, scope.wDec);
  assert.ok(scope.bDec.every((value) => value !== 0 && Math.abs(value) < 0.05));
});

Deno.test("initializeParameters() gives the same for the same seed, another for another", () => {
  for (const { initialization } of Object.values(presets)) {
    assert.deepEqual(begin(initialization, 6, 2), begin(initialization, 6, 2));
    assert.notDeepEqual(begin(initialization, 6, 2).wDec, begin(initialization, 6, 3).wDec);
  }
});

Deno.test("normalFrom() has mean 0 and variance 1", () => {
  const normal = normalFrom(seededRandom(6));
  const values = Float32Array.from({ length: 20_000 }, normal);
  assert.ok(Math.abs(values.reduce((sum, value) => sum + value, 0) / values.length) < 0.03);
  assert.ok(Math.abs(variance(values) - 1) < 0.04);
});
