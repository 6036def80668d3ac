import assert from "node:assert/strict";
import { choosePrefixes, prefixProbabilities } from "../../lib/train/prefixes.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { readFixture, relativeDifference } from "./traces.ts";

const sampled = { kind: "sampled", count: 10, minimum: 1, power: 0.5 } as const;

Deno.test("prefixProbabilities() are saev's", async () => {
  const fixture = await readFixture("prefix_dist");
  assert.deepEqual(Array.from(fixture.get("lengths")!), Array.from({ length: 127 }, (_, i) => i + 1));
  const probabilities = prefixProbabilities(128, sampled);
  assert.ok(relativeDifference(probabilities, fixture.get("prob")!) < 1e-6);
});

Deno.test("choosePrefixes() draws ascending lengths without repetition, the whole last", () => {
  const random = seededRandom(3);
  const counts = new Float64Array(8);
  for (let draw = 0; draw < 3000; draw++) {
    const prefixes = [...choosePrefixes({ ...sampled, count: 2 }, { dSae: 8, random })];
    assert.deepEqual([prefixes.length, prefixes[1]], [2, 8]);
    counts[prefixes[0]]++;
  }
  // One length a draw comes with its probability; 3000 draws deviate by 27 at most, one standard deviation.
  prefixProbabilities(8, sampled).forEach((probability, i) => {
    assert.ok(Math.abs(counts[i + 1] - 3000 * probability) < 110, `length ${i + 1}: ${counts[i + 1]}`);
  });
  const ten = choosePrefixes(sampled, { dSae: 128, random });
  assert.equal(new Set(ten).size, 10);
  assert.deepEqual(ten, ten.slice().sort());
  // Six lengths have a probability: count cannot be reached, and nothing else is made up.
  assert.deepEqual([...choosePrefixes(sampled, { dSae: 8, random })], [2, 3, 4, 5, 6, 7, 8]);
});

Deno.test("choosePrefixes() adds up shares, and is the whole dictionary without prefixes", () => {
  const options = { dSae: 10, random: seededRandom(0) };
  assert.deepEqual([...choosePrefixes({ kind: "shares", shares: [0.25, 0.25, 0.5] }, options)], [2, 4, 10]);
  assert.deepEqual([...choosePrefixes({ kind: "shares", shares: [0.01, 0.99] }, options)], [10]);
  assert.deepEqual([...choosePrefixes(undefined, options)], [10]);
});
