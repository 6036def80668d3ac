import assert from "node:assert/strict";
import { checkSaeFits, createSae } from "../../lib/sae/sae.ts";
import { randomWeights } from "../support/reference.ts";

const weights = randomWeights({ dModel: 5, dSae: 7 }, { rule: { kind: "topK", k: 2, relu: true } });

Deno.test("createSae() keeps the weights and where they belong", () => {
  const provenance = { layer: 2, tokens: "cls" } as const;
  assert.deepEqual(createSae(weights, provenance), { ...weights, provenance });
  assert.deepEqual(createSae(weights).provenance, {});
});

Deno.test("createSae() refuses parts that do not agree with each other", () => {
  assert.throws(() => createSae({ ...weights, wDec: new Float32Array(34) }), {
    name: "RangeError",
    message: "Cannot load SAE: wDec must hold 35 numbers for dModel 5 and dSae 7, current length is 34",
  });
  for (const k of [0, 8, 1.5, NaN]) {
    assert.throws(() => createSae({ ...weights, rule: { kind: "topK", k, relu: true } }), {
      name: "RangeError",
      message: `Cannot load SAE: k must be an integer between 1 and 7, current value is ${k}`,
    });
  }
});

Deno.test("checkSaeFits() names both widths", () => {
  checkSaeFits(weights, 5, { what: "out/shards" });
  assert.throws(() => checkSaeFits(weights, 768, { what: "out/shards" }), {
    name: "RangeError",
    message: "Cannot use this SAE on out/shards: its dModel must be 768, current value is 5; choose an SAE that was " +
      "trained on this model",
  });
});
