/**
 * Assertions on latents and on numbers that two devices rounded differently.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { ImageMaxima, SaeWeights, SparseLatents } from "../../lib/compute/contract.ts";
import { referenceEncode, referencePreActivations } from "./reference.ts";

/** Largest difference allowed, relative to the largest reference number. */
const RELATIVE_TOLERANCE = 1e-5;

type Numbers = Float32Array | Uint32Array | Int32Array;

/**
 * Every number the same, to the last bit. Names the first that is not; `assert.deepEqual` would spend minutes on the
 * difference of two long arrays.
 */
export function assertSameNumbers(actual: Numbers, expected: Numbers, what: string): void {
  assert.equal(actual.constructor, expected.constructor, `${what}: not the same kind of array`);
  assert.equal(actual.length, expected.length, `${what}: length`);
  for (let i = 0; i < expected.length; i++) {
    if (!Object.is(actual[i], expected[i])) {
      assert.fail(`${what}: entry ${i} is ${actual[i]}, expected ${expected[i]}`);
    }
  }
}

/** The same latents with the same values, to the last bit. */
export function assertSameLatents(actual: SparseLatents, expected: SparseLatents): void {
  assertSameNumbers(actual.offsets, expected.offsets, "offsets");
  assertSameNumbers(actual.indices, expected.indices, "indices");
  assertSameNumbers(actual.values, expected.values, "values");
  assert.deepEqual([actual.nTokens, actual.dSae], [expected.nTokens, expected.dSae]);
}

/** The same maxima at the same tokens, to the last bit. */
export function assertSameMaxima(actual: ImageMaxima, expected: ImageMaxima): void {
  assertSameNumbers(actual.values, expected.values, "values");
  assertSameNumbers(actual.tokens, expected.tokens, "tokens");
  assert.deepEqual([actual.nImages, actual.dSae], [expected.nImages, expected.dSae]);
}

/** Values within tolerance; a latent may be missing or extra only where it lies on a boundary of the rule. */
export function assertCloseLatents(actual: SparseLatents, weights: SaeWeights, x: Float32Array): void {
  const { dSae, rule } = weights;
  const pre = referencePreActivations(weights, x);
  const expected = referenceEncode(weights, x);
  const tolerance = RELATIVE_TOLERANCE * largestMagnitude(pre);
  assert.deepEqual([actual.nTokens, actual.dSae], [expected.nTokens, dSae]);
  assert.equal(actual.offsets.length, expected.nTokens + 1);
  for (let t = 0; t < expected.nTokens; t++) {
    const row = pre.subarray(t * dSae, (t + 1) * dSae);
    const line = rule.kind === "topK" ? row.slice().sort()[dSae - rule.k] : 0;
    const kept = actual.indices.subarray(actual.offsets[t], actual.offsets[t + 1]);
    const wanted = new Set(expected.indices.subarray(expected.offsets[t], expected.offsets[t + 1]));
    kept.forEach((latent, i) => {
      assert.ok(i === 0 || kept[i - 1] < latent, `token ${t}: latents must ascend`);
      const value = actual.values[actual.offsets[t] + i];
      assert.ok(
        Math.abs(value - row[latent]) <= tolerance,
        `token ${t}, latent ${latent}: ${value} is not ${row[latent]}`,
      );
    });
    const disputed = [...kept].filter((latent) => !wanted.has(latent))
      .concat([...wanted].filter((latent) => !kept.includes(latent)));
    for (const latent of disputed) {
      const boundaries = [0, rule.kind === "jumpRelu" ? rule.threshold[latent] : line];
      const distance = Math.min(...boundaries.map((boundary) => Math.abs(row[latent] - boundary)));
      assert.ok(
        distance <= tolerance,
        `token ${t}, latent ${latent}: ${wanted.has(latent) ? "missing" : "should not be kept"}`,
      );
    }
    if (rule.kind === "topK" && !rule.relu) assert.equal(kept.length, wanted.size);
  }
}

/** Every number within tolerance of `expected`, relative to the largest of them. */
export function assertClose(actual: Float32Array, expected: Float32Array): void {
  assert.equal(actual.length, expected.length);
  const tolerance = RELATIVE_TOLERANCE * largestMagnitude(expected);
  expected.forEach((value, i) => {
    assert.ok(Math.abs(actual[i] - value) <= tolerance, `entry ${i}: ${actual[i]} is not ${value}`);
  });
}

function largestMagnitude(numbers: Float32Array | Float64Array): number {
  let largest = 0;
  for (const number of numbers) largest = Math.max(largest, Math.abs(number));
  return largest;
}
