/**
 * What the documentation of the rule promises: which other kinds of SAE are JumpReLU under another name.
 */
import assert from "node:assert/strict";
import { jumpReluFloors, type SaeWeights } from "../../lib/compute/contract.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { jumpRelu, relu, withSae } from "../support/backend_case.ts";
import { randomIntegers, randomWeights, referencePreActivations, seededRandom } from "../support/reference.ts";

const [nTokens, dModel, dSae] = [33, 5, 17];
const x = randomIntegers(nTokens * dModel, seededRandom(7), { limit: 3 });

/** Latents as rows of `[token, latent, value]`. */
async function encode(weights: SaeWeights): Promise<[token: number, latent: number, value: number][]> {
  const backend = await createCpuBackend({ threads: 1 });
  const rows: [number, number, number][] = [];
  await withSae(backend, weights, async (sae) => {
    const { offsets, indices, values } = await sae.encode(x);
    for (let token = 0; token < nTokens; token++) {
      for (let i = offsets[token]; i < offsets[token + 1]; i++) rows.push([token, indices[i], values[i]]);
    }
  });
  await backend.close();
  return rows;
}

Deno.test("jumpRelu is a gated SAE whose gate is folded into the encoder and the thresholds", async () => {
  const base = randomWeights({ dModel, dSae }, { rule: relu, subtractBDec: true, integers: true });
  const bGate = randomIntegers(dSae, seededRandom(8), { limit: 4 });
  const bMag = randomIntegers(dSae, seededRandom(9), { limit: 9 });
  // exp(rMag): powers of two, so that every number is exact.
  const scales = Array.from({ length: dSae }, (_, latent) => [0.5, 1, 2, 4][latent % 4]);

  const products = referencePreActivations({ ...base, bEnc: new Float32Array(dSae) }, x);
  const gated: [number, number, number][] = [];
  let onTheGate = 0;
  products.forEach((z, i) => {
    const latent = i % dSae;
    const magnitude = Math.max(z * scales[latent] + bMag[latent], 0);
    if (z + bGate[latent] > 0 && magnitude > 0) gated.push([Math.floor(i / dSae), latent, magnitude]);
    if (z + bGate[latent] === 0 && magnitude > 0) onTheGate++;
  });
  assert.ok(onTheGate > 0, "some pre-activation must equal its threshold");

  const threshold = Array.from(bMag, (bias, latent) => bias - bGate[latent] * scales[latent]);
  assert.ok(Math.min(...threshold) < 0, "some threshold must be negative");
  const folded: SaeWeights = {
    ...base,
    wEnc: base.wEnc.map((weight, i) => weight * scales[i % dSae]),
    bEnc: bMag,
    rule: jumpRelu(threshold),
  };
  assert.deepEqual(await encode(folded), gated);
});

Deno.test("jumpRelu with one threshold is BatchTopK at inference, and a ReLU where that is not above zero", async () => {
  const base = randomWeights({ dModel, dSae }, { rule: relu, integers: true });
  const positive = await encode(base);
  for (const threshold of [4, 0, -4]) {
    const rows = await encode({ ...base, rule: jumpRelu(Array(dSae).fill(threshold)) });
    assert.deepEqual(rows, positive.filter(([, , value]) => value > threshold));
    assert.equal(rows.length < positive.length, threshold > 0);
  }
});

Deno.test("jumpReluFloors() raises negative thresholds to +0 in a new array", () => {
  const threshold = Float32Array.of(-1, -0, 0, 0.5, Infinity, -Infinity);
  const floors = jumpReluFloors({ threshold });
  assert.deepEqual([...floors], [0, 0, 0, 0.5, Infinity, 0]);
  assert.ok(floors.every((floor) => !Object.is(floor, -0)));
  assert.ok(Object.is(threshold[1], -0), "the input must be left as it was");
});
