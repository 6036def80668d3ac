import assert from "node:assert/strict";
import { measureStatistics, normalizationFrom, sampleTokens } from "../../lib/sae/statistics.ts";

const stream = (...batches: number[][]) =>
  async function* () {
    for (const batch of batches) yield Float32Array.from(batch);
  };

// Means 3 and 4; distances from them 5, 0 and 5; norms 0, 5 and 10.
const threeTokens = stream([0, 0, 3, 4], [6, 8]);

Deno.test("measureStatistics() gives mean, unbiased deviation, saev's scalar and the mean norm", async () => {
  const { nTokens, mean, std, scalar, meanNorm } = await measureStatistics(threeTokens, { dModel: 2 });
  assert.equal(nTokens, 3);
  assert.deepEqual([...mean], [3, 4]);
  assert.deepEqual([...std], [3, 4]);
  assert.ok(Math.abs(scalar - 10 / 3 / Math.SQRT2) < 1e-12);
  assert.equal(meanNorm, 5);
});

Deno.test("measureStatistics() loses nothing to a large offset", async () => {
  const { std } = await measureStatistics(stream([1e6, 1e6 + 1, 1e6 + 2]), { dModel: 1 });
  assert.deepEqual([...std], [1]);
});

Deno.test("measureStatistics() stops after maxTokens, within a batch too", async () => {
  const { nTokens, mean } = await measureStatistics(threeTokens, { dModel: 2, maxTokens: 1 });
  assert.deepEqual([nTokens, ...mean], [1, 0, 0]);
});

Deno.test("normalizationFrom() makes means and scales, and never a scale of 0", async () => {
  const statistics = await measureStatistics(threeTokens, { dModel: 2 });
  const scalar = Math.fround(10 / 3 / Math.SQRT2);
  const cases = [
    ["mean", [3, 4], [1, 1]],
    ["meanStd", [3, 4], [3, 4]],
    ["meanScalar", [3, 4], [scalar, scalar]],
    ["averageNorm", [0, 0], [Math.fround(5 / Math.SQRT2), Math.fround(5 / Math.SQRT2)]],
  ] as const;
  for (const [kind, mean, scale] of cases) {
    const made = normalizationFrom(statistics, kind);
    assert.deepEqual([[...made.mean], [...made.scale]], [mean, scale], kind);
    assert.deepEqual(made.clamp, kind === "meanScalar" ? [-1e5, 1e5] : undefined);
  }
  const still = await measureStatistics(stream([0, 7], [0, 9]), { dModel: 2 });
  assert.deepEqual([...normalizationFrom(still, "meanStd").scale], [1, Math.fround(Math.SQRT2)]);
  const zeros = await measureStatistics(stream([0, 0]), { dModel: 2 });
  assert.deepEqual([...normalizationFrom(zeros, "averageNorm").scale], [1, 1]);
  assert.deepEqual([...normalizationFrom(zeros, "meanScalar").scale], [1, 1]);
});

Deno.test("sampleTokens() gives every token the same chance, and the same tokens each time", async () => {
  const values = Array.from({ length: 10_000 }, (_, i) => i);
  const draw = () => sampleTokens(stream(values.slice(0, 3000), values.slice(3000)), { dModel: 1, nTokens: 1000 });
  const sample = await draw();
  assert.equal(new Set(sample).size, 1000);
  assert.deepEqual(await draw(), sample);
  for (let tenth = 0; tenth < 10; tenth++) {
    const n = sample.filter((value) => Math.floor(value / 1000) === tenth).length;
    assert.ok(n > 60 && n < 140, `${n} of tenth ${tenth}`);
  }
  // Not in step with a grid of 16 × 16 patches.
  const column = sample.filter((value) => value % 16 === 3).length;
  assert.ok(column > 30 && column < 100, `${column}`);
});

Deno.test("sampleTokens() gives all tokens in order where there are few", async () => {
  const sample = await sampleTokens(threeTokens, { dModel: 2, nTokens: 7 });
  assert.deepEqual([...sample], [0, 0, 3, 4, 6, 8]);
});
