import assert from "node:assert/strict";
import { countIdleTokens, deadLatents, markFired, raiseIdleBiases } from "../../lib/train/dead.ts";
import type { DeadRule } from "../../lib/train/recipe.ts";

// Latent 0 fires at 2, 1 not at all, 2 at −3, 3 at 0.0005 and 0.
const entries = {
  offsets: Uint32Array.of(0, 1, 1, 2, 4),
  tokens: Uint32Array.of(0, 1, 0, 2),
  pre: Float32Array.of(2, -3, 0.0005, 0),
  values: Float32Array.of(2, -3, 0.0005, 0),
};

function count(rule: DeadRule): number[] {
  const fired = new Uint8Array(4);
  markFired(fired, entries, rule);
  const idle = Float64Array.of(10, 20, 30, 40);
  countIdleTokens(idle, fired, { nTokens: 3, rule });
  return [...idle];
}

Deno.test("countIdleTokens() counts tokens since a latent was anything but zero", () => {
  assert.deepEqual(count({ afterTokens: 5 }), [0, 23, 0, 0]);
});

Deno.test("countIdleTokens() counts as CLIP-Scope does: above a floor, the batch itself among the tokens", () => {
  assert.deepEqual(count({ afterTokens: 5, above: 1e-3, countsFiringBatch: true }), [3, 23, 33, 43]);
});

Deno.test("markFired() adds to what has fired before", () => {
  const fired = Uint8Array.of(0, 1, 0, 0);
  markFired(fired, entries, { afterTokens: 5, above: 0 });
  assert.deepEqual([...fired], [1, 1, 0, 1]);
});

Deno.test("deadLatents() are those that have been idle for as long as the rule says, or longer", () => {
  assert.deepEqual([...deadLatents(Float64Array.of(4, 5, 0, 6), { afterTokens: 5 })], [1, 3]);
});

Deno.test("raiseIdleBiases() raises those that have been idle for as long as the rule says, and no other", () => {
  const bEnc = Float32Array.of(0.5, 0.5, -1, 0);
  const biasRise = { afterTokens: 5, learningRates: 8 };
  raiseIdleBiases(bEnc, Float64Array.of(4, 5, 0, 6), { biasRise, learningRate: 0.03125 });
  assert.deepEqual([...bEnc], [0.5, 0.75, -1, 0.25]);
});
