import assert from "node:assert/strict";
import fc from "fast-check";
import { randomOrder, seededRandom } from "../../lib/train/random.ts";

Deno.test("seededRandom() gives the same numbers in [0, 1) for the same seed, others for another", () => {
  const draw = (seed: number) => Array.from({ length: 1000 }, seededRandom(seed));
  assert.deepEqual(draw(7), draw(7));
  assert.notDeepEqual(draw(7), draw(8));
  assert.ok(draw(7).every((value) => value >= 0 && value < 1));
  // Its first numbers, so that a seed keeps its meaning from version to version.
  assert.deepEqual(draw(0).slice(0, 3).map((value) => value * 2 ** 32), [1144304738, 1416247, 958946056]);
});

Deno.test("seededRandom() is spread evenly", () => {
  const random = seededRandom(1);
  const counts = new Array<number>(10).fill(0);
  for (let i = 0; i < 100_000; i++) counts[Math.floor(random() * 10)]++;
  // 10 000 each, with a standard deviation of 95.
  for (const count of counts) assert.ok(Math.abs(count - 10_000) < 500, String(counts));
});

Deno.test("randomOrder() is a permutation", () => {
  fc.assert(
    fc.property(fc.nat(200), fc.nat(), (n, seed) => {
      const order = randomOrder(n, seededRandom(seed));
      assert.deepEqual([...order].sort((a, b) => a - b), Array.from({ length: n }, (_, i) => i));
    }),
    { seed: 1, numRuns: 200 },
  );
});

Deno.test("randomOrder() gives every permutation about as often", () => {
  const random = seededRandom(2);
  const counts = new Map<string, number>();
  for (let i = 0; i < 6000; i++) {
    const order = String(randomOrder(3, random));
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assert.equal(counts.size, 6);
  // 1000 each, with a standard deviation of 29.
  for (const count of counts.values()) assert.ok(Math.abs(count - 1000) < 150, String([...counts]));
});
