import assert from "node:assert/strict";
import type { SaeWeights } from "../../lib/compute/contract.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { measureReconstruction, type Reconstruction } from "../../lib/sae/metrics/reconstruction.ts";
import { randomFloats, randomWeights, referenceDecode, referenceEncode, seededRandom } from "../support/reference.ts";

async function measure(weights: SaeWeights, batches: readonly Float32Array[]): Promise<Reconstruction> {
  const backend = await createCpuBackend({ threads: 1 });
  const loaded = await backend.load(weights);
  async function* stream() {
    yield* batches;
  }
  try {
    return await measureReconstruction(loaded, stream());
  } finally {
    await loaded.dispose();
    await backend.close();
  }
}

// Width 2 with a latent for each direction, up, down, left and right: every input comes back as it was.
const lossless: SaeWeights = {
  dModel: 2,
  dSae: 4,
  wEnc: Float32Array.of(1, -1, 0, 0, 0, 0, 1, -1),
  bEnc: new Float32Array(4),
  wDec: Float32Array.of(1, 0, -1, 0, 0, 1, 0, -1),
  bDec: new Float32Array(2),
  subtractBDec: false,
  rule: { kind: "relu" },
};

// Mean (2, -1); squared distances from it 5, 5, 1, 1.
const tokens = Float32Array.of(4, 0, 0, -2, 2, 0, 2, -2);

Deno.test("measureReconstruction() is 1 for a perfect reconstruction", async () => {
  const perfect = { nTokens: 4, explainedVariance: 1, normalizedMse: 0, mse: 0, meanL0: 5 / 4 };
  assert.deepEqual(await measure(lossless, [tokens]), perfect);
});

Deno.test("measureReconstruction() is 0 for the mean", async () => {
  const mean = { ...lossless, wDec: new Float32Array(8), bDec: Float32Array.of(2, -1) };
  const { explainedVariance, normalizedMse, mse } = await measure(mean, [tokens]);
  assert.deepEqual([explainedVariance, normalizedMse, mse], [0, 1, 12 / 8]);
});

Deno.test("measureReconstruction() is below 0 for what is worse than the mean", async () => {
  // Only the first coordinate comes back, doubled: errors 4, 0, 2, 2 and 0, 2, 0, 2, so their squares add up to 32.
  const doubled = { ...lossless, wDec: Float32Array.of(2, 0, -2, 0, 0, 0, 0, 0) };
  const { explainedVariance, mse } = await measure(doubled, [tokens]);
  assert.deepEqual([explainedVariance, mse], [1 - 32 / 12, 32 / 8]);
});

Deno.test("measureReconstruction() sums over tokens, so batches of unequal size make no difference", async () => {
  const mean = { ...lossless, wDec: new Float32Array(8), bDec: Float32Array.of(2, -1) };
  const whole = await measure(mean, [tokens]);
  for (const cut of [2, 4, 6]) {
    assert.deepEqual(await measure(mean, [tokens.subarray(0, cut), tokens.subarray(cut)]), whole);
  }
  assert.deepEqual(await measure(mean, [new Float32Array(0), tokens]), whole);
});

Deno.test("measureReconstruction() counts only latents above zero, and agrees with plain float64 loops", async () => {
  const weights = randomWeights({ dModel: 6, dSae: 11 }, { rule: { kind: "topK", k: 9, relu: false }, seed: 3 });
  const x = randomFloats(6 * 37, seededRandom(4), { scale: 2 });
  const latents = referenceEncode(weights, x);
  const reconstruction = referenceDecode(weights, latents);
  let error = 0;
  let spread = 0;
  for (let d = 0; d < 6; d++) {
    const column = Array.from({ length: 37 }, (_, token) => x[token * 6 + d]);
    const mean = column.reduce((total, value) => total + value, 0) / 37;
    spread += column.reduce((total, value) => total + (value - mean) ** 2, 0);
    error += column.reduce((total, value, token) => total + (value - reconstruction[token * 6 + d]) ** 2, 0);
  }
  const nActive = latents.values.filter((value) => value > 0).length;
  assert.ok(nActive < latents.values.length, "some kept latents must be negative");
  const found = await measure(weights, [x.subarray(0, 6 * 30), x.subarray(6 * 30)]);
  assert.equal(found.meanL0, nActive / 37);
  assert.ok(Math.abs(found.normalizedMse - error / spread) < 1e-5 * (error / spread));
  assert.ok(Math.abs(found.mse - error / (37 * 6)) < 1e-5 * found.mse);
  assert.equal(found.explainedVariance, 1 - found.normalizedMse);
});

Deno.test("measureReconstruction() needs tokens", async () => {
  await assert.rejects(measure(lossless, []), {
    name: "RangeError",
    message: "Cannot measure an SAE: there must be tokens, there are none",
  });
});
