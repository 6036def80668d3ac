import assert from "node:assert/strict";
import { normalizeRow, type Parameters, toWeights } from "../../lib/train/parameters.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { randomFloats, referencePreActivations } from "../support/reference.ts";

Deno.test("normalizeRow() makes one row of length 1, and leaves a row of zeros", () => {
  const matrix = Float32Array.of(3, 4, 6, 8, 0, 0);
  normalizeRow(matrix, 1, 2);
  normalizeRow(matrix, 2, 2);
  assert.deepEqual(matrix, Float32Array.of(3, 4, 0.6, 0.8, 0, 0));
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
  const weights = toWeights(parameters, { dModel, dSae, scale, rule, subtractBDec: true });
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
