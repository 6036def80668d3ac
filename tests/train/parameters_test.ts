import assert from "node:assert/strict";
import {
  initializeFromData,
  measureScale,
  normalizeRow,
  type Parameters,
  toWeights,
} from "../../lib/train/parameters.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { randomFloats, referencePreActivations } from "../support/reference.ts";

Deno.test("measureScale() gives the mean and the distance from it, over tokens and dimensions", () => {
  // Around (1, 10): (±3, ±4) and (±3, ∓4).
  const { mean, scale } = measureScale(Float32Array.of(4, 14, -2, 6, 4, 6, -2, 14), 2);
  assert.deepEqual([...mean], [1, 10]);
  assert.equal(scale, Math.sqrt((9 + 16) / 2));
});

Deno.test("measureScale() keeps its digits far from zero", () => {
  const { mean, scale } = measureScale(Float32Array.of(2 ** 20 + 1, 2 ** 20 - 1), 1);
  assert.deepEqual([mean[0], scale], [2 ** 20, 1]);
});

Deno.test("normalizeRow() makes one row of length 1, and leaves a row of zeros", () => {
  const matrix = Float32Array.of(3, 4, 6, 8, 0, 0);
  normalizeRow(matrix, 1, 2);
  normalizeRow(matrix, 2, 2);
  assert.deepEqual(matrix, Float32Array.of(3, 4, 0.6, 0.8, 0, 0));
});

Deno.test("initializeFromData() begins with directions of length 1 that point at data", () => {
  const dModel = 4;
  // Points along the four axes, seen from the mean.
  const mean = Float32Array.of(1, 2, 3, 4);
  const x = Float32Array.from({ length: 40 * dModel }, (_, i) => {
    const [token, d] = [Math.floor(i / dModel), i % dModel];
    return mean[d] + (token % dModel === d ? 5 : 0);
  });
  const before = x.slice();
  const start = initializeFromData(x, mean, { dModel, dSae: 4, dataShare: 1, random: seededRandom(1) });
  assert.deepEqual(x, before);
  assert.deepEqual(start.bDec, mean);
  assert.deepEqual(start.wEnc, start.wDec);
  assert.deepEqual(start.bEnc, new Float32Array(4));
  // What one direction explains is never drawn again, so that the four rows are the four axes.
  const rows = Array.from(
    { length: 4 },
    (_, latent) => [...start.wDec.subarray(4 * latent, 4 * latent + 4)].indexOf(1),
  );
  assert.deepEqual(rows.sort(), [0, 1, 2, 3]);
  const blended = initializeFromData(x, mean, { dModel, dSae: 9, dataShare: 0.8, random: seededRandom(1) });
  for (let latent = 0; latent < 9; latent++) {
    const row = [...blended.wDec.subarray(4 * latent, 4 * latent + 4)];
    assert.ok(Math.abs(Math.hypot(...row) - 1) < 1e-6);
    assert.ok(Math.max(...row) > 0.9 && Math.max(...row) < 1, String(row));
  }
});

Deno.test("toWeights() sees activations as they are, and means what the model of scaled ones meant", () => {
  const [dModel, dSae, nTokens, scale] = [5, 7, 6, 3.5];
  const random = seededRandom(9);
  const parameters: Parameters = {
    wEnc: randomFloats(dSae * dModel, random),
    bEnc: randomFloats(dSae, random),
    wDec: randomFloats(dSae * dModel, random),
    bDec: randomFloats(dModel, random),
  };
  const before = structuredClone(parameters);
  const rule = { kind: "topK", k: 2, relu: true } as const;
  const weights = toWeights(parameters, { dModel, dSae, scale, rule });
  assert.deepEqual(parameters, before);
  assert.deepEqual([weights.dModel, weights.dSae, weights.subtractBDec, weights.rule], [dModel, dSae, true, rule]);
  const x = randomFloats(nTokens * dModel, random, { scale: 10 });
  const pre = referencePreActivations(weights, x);
  for (let token = 0; token < nTokens; token++) {
    for (let latent = 0; latent < dSae; latent++) {
      let h = parameters.bEnc[latent];
      for (let d = 0; d < dModel; d++) {
        h += (x[token * dModel + d] / scale - parameters.bDec[d]) * parameters.wEnc[latent * dModel + d];
      }
      const found = pre[token * dSae + latent];
      assert.ok(Math.abs(found - scale * h) < 1e-5, `${found} is not ${scale * h}`);
    }
  }
  // The decoder's directions stay, so that a latent as large as before times the scale gives a reconstruction that is.
  assert.deepEqual(weights.wDec, parameters.wDec);
  assert.deepEqual(weights.bDec, parameters.bDec.map((value) => value * scale));
});
