import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { readNpy } from "../../lib/tensors/npy.ts";
import type { SaeWeights } from "../../lib/compute/contract.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { metricFormulas } from "../../lib/sae/metrics/formulas.ts";
import {
  measureMetrics,
  type MeasureMetricsOptions,
  metricDefinitions,
  type Metrics,
  metricsTable,
  metricsToJson,
} from "../../lib/sae/metrics/metrics.ts";
import { randomFloats, randomWeights, referenceDecode, referenceEncode, seededRandom } from "../support/reference.ts";

const fixtures = new URL("../fixtures/", import.meta.url);
const pathOf = (name: string) => decodeURIComponent(new URL(name, fixtures).pathname);
const published = JSON.parse(await readFile(new URL("metrics/published.json", fixtures), "utf8"));

async function measure(
  sae: SaeWeights,
  batches: readonly Float32Array[],
  options: Omit<MeasureMetricsOptions, "backend"> = {},
): Promise<Metrics> {
  const backend = await createCpuBackend({ threads: 1 });
  async function* stream() {
    yield* batches;
  }
  try {
    return await measureMetrics(sae, stream(), { backend, threads: 1, ...options });
  } finally {
    await backend.close();
  }
}

function assertNear(actual: number, expected: number, what: string, tolerance = 1e-5): void {
  assert.ok(
    Math.abs(actual - expected) <= tolerance * Math.max(1e-9, Math.abs(expected)),
    `${what}: ${actual} is not ${expected}`,
  );
}

async function readFloats(name: string): Promise<Float32Array> {
  return readNpy(await readFile(new URL(name, fixtures))).data as Float32Array;
}

// Width 2, a latent for each direction: right, left, up, down. Left comes back half as long.
const halfLeft: SaeWeights = {
  dModel: 2,
  dSae: 4,
  wEnc: Float32Array.of(1, -1, 0, 0, 0, 0, 1, -1),
  bEnc: new Float32Array(4),
  wDec: Float32Array.of(1, 0, -0.5, 0, 0, 1, 0, -1),
  bDec: new Float32Array(2),
  subtractBDec: false,
  rule: { kind: "relu" },
};

// (4, 3) comes back as it is; (-2, 0) as (-1, 0): one error of 1, at the second token.
const twoTokens = Float32Array.of(4, 3, -2, 0);

Deno.test("measureMetrics() gives every convention what its formula says", async () => {
  const found = await measure(halfLeft, [twoTokens], { tokensPerImage: 2, deadWindowTokens: 2 });
  // Mean (1, 1.5): spreads 18 and 4.5 over dimensions. Token spreads about their own mean: 0.5 and 2.
  const expected: Partial<Metrics> = {
    nTokens: 2,
    nNonFinite: 0,
    mse: 1 / 4,
    mseSum: 1 / 2,
    mseOverNorm: 1 / 2 / 2 / 2 + 1e-9,
    safeMse: 1 / 4,
    mseOverSquares: 1 / 4 / 2,
    mseSaeLens: 1 / 2 / 2,
    normalizedMse: 1 / 22.5,
    explainedVariance: 1 - 1 / 22.5,
    r2: 1 - (1 / 18 + 0) / 2,
    // The mean error is -1/2 in the first dimension: half of its square sum is bias.
    explainedVarianceCentered: 1 - 0.5 / 22.5,
    // All four numbers: mean 5/4, squares 29; errors: mean -1/4, squares 1.
    explainedVarianceScalar: 1 - (1 - 4 / 16) / (29 - 4 * 25 / 16),
    explainedVariancePerToken: 1 - (1 / 2) / 2,
    explainedVarianceLegacy: 1 - (1 / 11.25) / 2,
    cosineSimilarity: 1,
    inputNorm: (5 + 2) / 2,
    outputNorm: (5 + 1) / 2,
    l2Ratio: (1 + 1 / 2) / 2,
    reconstructionBias: 26 / 27,
    l0: 3 / 2,
    l0NonZero: 3 / 2,
    l0Above: 3 / 2,
    l1: 9 / 2,
    l1Signed: 9 / 2,
    nDead: 1,
    nDeadWindow: 1,
    // By counter all latents count as dead: the batch itself is as long as the window.
    deadCounter: 1,
    nAlmostDead: 1,
    nDense: 3,
    dictionaryCoherence: 1,
    meanDecoderNorm: 3.5 / 4,
  };
  for (const [key, value] of Object.entries(expected)) {
    assertNear(found[key as "mse"], value as number, key, 1e-12);
  }
  assertNear(found.safeMseOverNorm, found.mseOverNorm, "safeMseOverNorm", 1e-8);
  assert.deepEqual([...found.positionMse!], [0, 1 / 2]);
  assert.deepEqual([...found.density], [0.5, 0.5, 0.5, 0]);
  assert.deepEqual(found.densityHistogram, [{ low: -0.5, high: 0, nLatents: 3 }]);
});

Deno.test("measureMetrics() tells negative latents from positive ones, and small ones from none", async () => {
  const rule = { kind: "topK", k: 2, relu: false } as const;
  const tiny = Math.fround(0.0005);
  // Of (tiny, -1): right and up are tiny and -1, left and down -tiny and 1. The two largest are 1 and tiny.
  // Of (0, 0) all are 0, which is never kept. With all four kept, two of them are negative.
  const found = await measure({ ...halfLeft, rule: { ...rule, k: 4 } }, [Float32Array.of(tiny, -1, 0, 0)]);
  assert.deepEqual([found.l0, found.l0NonZero, found.l0Above], [2 / 2, 4 / 2, 1 / 2]);
  assertNear(found.l1, (2 * tiny + 2) / 2, "l1");
  assertNear(found.l1Signed, 0, "l1Signed", 1);
  const two = await measure({ ...halfLeft, rule }, [Float32Array.of(tiny, -1, 0, 0)]);
  assert.deepEqual([two.l0, two.l0NonZero, two.l0Above], [1, 1, 0.5]);
});

Deno.test("measureMetrics() agrees with plain loops at odd sizes", async () => {
  const [dModel, dSae, nTokens] = [7, 23, 61];
  const weights = randomWeights({ dModel, dSae }, { rule: { kind: "topK", k: 9, relu: false }, seed: 5 });
  // Far from the origin: sums of squares that are not taken about a near point would lose the spread.
  const x = randomFloats(dModel * nTokens, seededRandom(6), { scale: 2 }).map((value, i) => value + 300 * (i % dModel));
  const found = await measure(weights, [x]);
  const latents = referenceEncode(weights, x);
  const reconstruction = referenceDecode(weights, latents);
  const tokens = Array.from({ length: nTokens }, (_, t) => ({
    x: [...x.subarray(t * dModel, (t + 1) * dModel)],
    error: Array.from({ length: dModel }, (_, d) => x[t * dModel + d] - reconstruction[t * dModel + d]),
    output: [...reconstruction.subarray(t * dModel, (t + 1) * dModel)],
    latents: [...latents.values.subarray(latents.offsets[t], latents.offsets[t + 1])],
  }));
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  const mean = (numbers: readonly number[]) => sum(numbers) / numbers.length;
  const squares = (numbers: readonly number[]) => sum(numbers.map((number) => number * number));
  const spread = (numbers: readonly number[]) => squares(numbers.map((number) => number - mean(numbers)));
  const dimensions = Array.from({ length: dModel }, (_, d) => ({
    x: tokens.map((token) => token.x[d]),
    error: tokens.map((token) => token.error[d]),
  }));
  const center = dimensions.map((dimension) => mean(dimension.x));
  const norm = (numbers: readonly number[]) => Math.sqrt(squares(numbers));
  const dot = (a: readonly number[], b: readonly number[]) => sum(a.map((value, i) => value * b[i]));
  const total = sum(tokens.map(({ error }) => squares(error)));
  const baseline = sum(dimensions.map((dimension) => spread(dimension.x)));
  const largest = Math.max(...x.map(Math.abs));
  const fromCenter = (token: readonly number[]) => squares(token.map((value, d) => value - center[d]));
  const counts = new Array<number>(dSae).fill(0);
  latents.indices.forEach((latent, i) => counts[latent] += Number(latents.values[i] > 0));
  const rows = Array.from({ length: dSae }, (_, i) => [...weights.wDec.subarray(i * dModel, (i + 1) * dModel)]);
  const cosines = rows.flatMap((a, i) => rows.slice(i + 1).map((b) => Math.abs(dot(a, b)) / (norm(a) * norm(b))));
  const expected: Omit<Record<(typeof metricDefinitions)[number]["key"], number>, never> = {
    mse: total / (nTokens * dModel),
    mseSum: total / nTokens,
    mseOverNorm: mean(tokens.flatMap(({ x, error }) => error.map((delta) => delta * delta / norm(x) + 1e-9))),
    safeMse: mean(
      tokens.flatMap(({ x, output }) =>
        x.map((value, d) => (output[d] / largest - value / largest) ** 2 * largest ** 2)
      ),
    ),
    safeMseOverNorm: mean(
      tokens.flatMap(({ x, error }) =>
        error.map((delta) => (delta / largest) ** 2 / (norm(x) / largest + 1e-12) * largest)
      ),
    ),
    mseOverSquares: mean(tokens.map(({ x, error }) => squares(error) / squares(x))),
    mseSaeLens: mean(tokens.map(({ error }) => squares(error) / nTokens)),
    normalizedMse: total / baseline,
    explainedVariance: 1 - total / baseline,
    r2: mean(dimensions.map(({ x, error }) => 1 - squares(error) / spread(x))),
    explainedVarianceCentered: 1 - sum(dimensions.map(({ error }) => spread(error))) / baseline,
    explainedVarianceScalar: 1 - spread(tokens.flatMap(({ error }) => error)) / spread([...x]),
    explainedVariancePerToken: mean(tokens.map(({ x, error }) => 1 - squares(error) / spread(x))),
    explainedVarianceLegacy: mean(tokens.map(({ x, error }) => 1 - squares(error) / fromCenter(x))),
    cosineSimilarity: mean(tokens.map(({ x, output }) => dot(x, output) / (norm(x) * norm(output)))),
    inputNorm: mean(tokens.map(({ x }) => norm(x))),
    outputNorm: mean(tokens.map(({ output }) => norm(output))),
    l2Ratio: mean(tokens.map(({ x, output }) => norm(output) / norm(x))),
    reconstructionBias: sum(tokens.map(({ output }) => squares(output))) /
      sum(tokens.map(({ x, output }) => dot(x, output))),
    l0: mean(tokens.map(({ latents }) => latents.filter((value) => value > 0).length)),
    l0NonZero: mean(tokens.map(({ latents }) => latents.length)),
    l0Above: mean(tokens.map(({ latents }) => latents.filter((value) => value > 1e-3).length)),
    l1: mean(tokens.map(({ latents }) => sum(latents.map(Math.abs)))),
    l1Signed: mean(tokens.map(({ latents }) => sum(latents))),
    nDead: counts.filter((count) => count === 0).length,
    nDeadWindow: counts.filter((count) => count === 0).length,
    deadCounter: 0,
    nAlmostDead: counts.filter((count) => count / nTokens < 1e-7).length,
    nDense: counts.filter((count) => count / nTokens > 1e-2).length,
    dictionaryCoherence: Math.max(...cosines),
    meanDecoderNorm: mean(rows.map(norm)),
  };
  for (const { key } of metricDefinitions) {
    // float32 in the encoder, on activations of thousands.
    assertNear(found[key], expected[key], key, key.startsWith("l1") || key.includes("xplained") ? 1e-4 : 1e-5);
  }
});

Deno.test("measureMetrics() is the same however the stream is cut, but for metrics of batches", async () => {
  const weights = randomWeights({ dModel: 5, dSae: 17 }, { rule: { kind: "topK", k: 3, relu: true }, seed: 8 });
  const x = randomFloats(5 * 40, seededRandom(9), { scale: 2 });
  const ofBatches = new Set(["mseSaeLens", "safeMseOverNorm", "explainedVarianceLegacy", "deadCounter"]);
  const whole = await measure(weights, [x], { tokensPerImage: 4, deadWindowTokens: 30 });
  for (const cuts of [[0, 5, 200], [0, 35, 100, 100, 195, 200]]) {
    const parts = cuts.slice(1).map((end, i) => x.subarray(cuts[i], end));
    const cut = await measure(weights, parts, { tokensPerImage: 4, deadWindowTokens: 30 });
    const same = (metrics: Metrics) =>
      Object.fromEntries(Object.entries(metrics).filter(([key]) => !ofBatches.has(key)));
    assert.deepEqual(same(cut), same(whole));
    assertNear(cut.safeMseOverNorm, whole.safeMseOverNorm, "safeMseOverNorm", 1e-9);
    assert.notEqual(cut.explainedVarianceLegacy, whole.explainedVarianceLegacy);
  }
});

Deno.test("measureMetrics() counts latents that were active, but not lately, as dead by a window", async () => {
  // Right, up, then eight times left.
  const x = Float32Array.of(1, 0, 0, 1, ...new Array(8).fill([-1, 0]).flat());
  const batches = [x.subarray(0, 4), x.subarray(4, 12), x.subarray(12)];
  const at = async (deadWindowTokens: number) => {
    const { nDead, nDeadWindow, deadCounter } = await measure(halfLeft, batches, { deadWindowTokens });
    return [nDead, nDeadWindow, deadCounter];
  };
  // Up was last active 8 tokens ago, right 9. CLIP-Scope counts from the beginning of their batch: 10 for both, and 4 for
  // left, whose batch is the last.
  assert.deepEqual(await at(11), [1, 1, 0]);
  assert.deepEqual(await at(10), [1, 1, 3 / 4]);
  assert.deepEqual(await at(9), [1, 2, 3 / 4]);
  assert.deepEqual(await at(8), [1, 3, 3 / 4]);
  assert.deepEqual(await at(4), [1, 3, 4 / 4]);
});

Deno.test("measureMetrics() leaves tokens that are not finite out, and counts them", async () => {
  const clean = await measure(halfLeft, [twoTokens], { tokensPerImage: 2 });
  const dirty = Float32Array.of(4, 3, -2, 0, NaN, 1, 1, -Infinity);
  const found = await measure(halfLeft, [dirty], { tokensPerImage: 2 });
  assert.deepEqual({ ...found, nNonFinite: 0 }, clean);
  assert.equal(found.nNonFinite, 2);
  await assert.rejects(measure(halfLeft, [Float32Array.of(NaN, 0)]), {
    name: "RangeError",
    message: "Cannot measure an SAE: there must be tokens of finite numbers, all 1 hold NaN or an infinity",
  });
});

Deno.test("measureMetrics() compares in the space that is asked for", async () => {
  // (x - mean) / scale is (4, 3) and (-2, 0): the errors are those of above, and in raw space `scale` times as large.
  const affine = { kind: "affine", mean: Float32Array.of(10, -20), scale: Float32Array.of(2, 8) } as const;
  const x = Float32Array.of(18, 4, 6, -20);
  const normalized = await measure({ ...halfLeft, normalization: affine }, [x], { space: "normalized" });
  const plain = await measure(halfLeft, [twoTokens]);
  assert.deepEqual(normalized, { ...plain, space: "normalized" });
  const raw = await measure({ ...halfLeft, normalization: affine }, [x]);
  assert.deepEqual([raw.space, raw.mseSum, raw.l1], ["raw", 4 / 2, 9 / 2]);
});

Deno.test("measureMetrics() gives CLIP-Scope's numbers, normalized by the batch and raw", async () => {
  const sae = await loadSae(pathOf("clip_scope/1200013184.pt"));
  const x = await readFloats("metrics/clip_scope_x.npy");
  const { batch_normalized: theirs, raw } = published.clip_scope;
  const batch = { ...sae, normalization: { kind: "batch", epsilon: 1e-6 } as const };
  const ours = await measure(batch, [x], { space: "normalized", tokensPerImage: 5 });
  const pairs: [number, number][] = [
    [ours.mse, theirs.mse],
    [ours.mseSum, theirs.sum_mse],
    [ours.mseOverNorm, theirs.variance_proportional_mse],
    [ours.explainedVariancePerToken, theirs.explained_variance],
    [ours.l0, theirs.L0],
  ];
  pairs.forEach(([our, their], i) => assertNear(our, their, `metric ${i}`, 1e-6));
  assert.equal(ours.deadCounter, theirs.dead_feature_prop);
  ours.positionMse!.forEach((value, i) => assertNear(value, theirs.position_mse[i], `position ${i}`, 1e-6));
  const without = await measure({ ...sae, normalization: { kind: "none" } }, [x]);
  assertNear(without.mseSum, raw.sum_mse, "raw sum_mse", 1e-6);
  assertNear(without.explainedVariancePerToken, raw.explained_variance, "raw explained_variance", 1e-6);
});

Deno.test("measureMetrics() gives saev's numbers", async () => {
  const sae = await loadSae(pathOf("saev/s5_HEAD_Relu.pt"));
  const ours = await measure(sae, [await readFloats("saev/x.npy")]);
  const { l0, l1, mse, mse_norm: mseNorm } = published.saev;
  assert.equal(ours.l0NonZero, l0);
  assertNear(ours.l1, l1, "l1", 1e-6);
  assertNear(ours.safeMse, mse, "mse", 1e-6);
  assertNear(ours.safeMseOverNorm, mseNorm, "mse, norm=True", 1e-6);
});

Deno.test("measureMetrics() compares a part of a large dictionary, or none, when it is told to", async () => {
  const sae = { ...halfLeft, wDec: Float32Array.of(1, 0, 3, 4, 0, 1, 3, 4.1) };
  // Rows 0 and 2 are at right angles; rows 1 and 3 are nearly the same.
  const half = await measure(sae, [twoTokens], { coherenceLatents: 2 });
  assert.deepEqual([half.dictionaryCoherence, half.coherenceLatents], [0, 2]);
  const all = await measure(sae, [twoTokens]);
  assert.ok(all.dictionaryCoherence > 0.9998 && all.dictionaryCoherence < 1);
  const none = await measure(sae, [twoTokens], { coherenceLatents: 0 });
  assert.deepEqual([none.dictionaryCoherence, none.coherenceLatents], [NaN, 0]);
});

Deno.test("measureMetrics() compares all blocks of rows of a dictionary of several", async () => {
  // 2,500 rows are three blocks. All are at random but for a pair, in the first block and the last, of opposite signs.
  const dSae = 2500;
  const wDec = randomFloats(dSae * 40, seededRandom(3));
  for (let d = 0; d < 40; d++) wDec[2400 * 40 + d] = -2 * wDec[7 * 40 + d];
  wDec.fill(0, 40 * 40, 41 * 40);
  const sae = randomWeights({ dModel: 40, dSae }, { rule: { kind: "relu" } });
  const { dictionaryCoherence } = await measure({ ...sae, wDec }, [randomFloats(40, seededRandom(4))]);
  assertNear(dictionaryCoherence, 1, "coherence", 1e-6);
  wDec[2400 * 40] += 10;
  const apart = await measure({ ...sae, wDec }, [randomFloats(40, seededRandom(4))]);
  assert.ok(apart.dictionaryCoherence < 0.95, String(apart.dictionaryCoherence));
});

Deno.test("measureMetrics() hands over batches, reports progress, and stops", async () => {
  const seen: unknown[] = [];
  await measure(halfLeft, [twoTokens, twoTokens.subarray(0, 2)], {
    onBatch: ({ x, latents, reconstruction }) => void seen.push([...x], latents.nTokens, [...reconstruction]),
    onProgress: (nTokens) => seen.push(nTokens),
  });
  assert.deepEqual(seen, [[4, 3, -2, 0], 2, [4, 3, -1, 0], 2, [4, 3], 1, [4, 3], 3]);
  const controller = new AbortController();
  const stopped = measure(halfLeft, [twoTokens, twoTokens], {
    signal: controller.signal,
    onProgress: () => controller.abort(new DOMException("enough", "AbortError")),
  });
  await assert.rejects(stopped, { name: "AbortError", message: "enough" });
});

Deno.test("measureMetrics() refuses what it cannot measure", async () => {
  const cases: [readonly Float32Array[], Omit<MeasureMetricsOptions, "backend">, string][] = [
    [[], {}, "Cannot measure an SAE: there must be tokens, there are none"],
    [
      [twoTokens],
      { space: "other" as "raw" },
      "Cannot measure an SAE: space must be one of raw, normalized, current value is other",
    ],
    [
      [twoTokens],
      { tokensPerImage: 0 },
      "Cannot measure an SAE: tokensPerImage must be an integer of 1 or more, current value is 0",
    ],
    [
      [twoTokens],
      { coherenceLatents: -1 },
      "Cannot measure an SAE: coherenceLatents must be an integer of 0 or more, current value is -1",
    ],
    [
      [twoTokens.subarray(1)],
      {},
      "Cannot encode batch: expected activations of shape [nTokens, 2], current length is 3",
    ],
  ];
  for (const [batches, options, message] of cases) {
    await assert.rejects(measure(halfLeft, batches, options), { name: "RangeError", message });
  }
});

Deno.test("metricDefinitions describes each metric once; metricsTable() and metricsToJson() give all of them", async () => {
  const metrics = await measure(halfLeft, [twoTokens], { coherenceLatents: 0 });
  assert.equal(new Set(metricDefinitions.map(({ key }) => key)).size, metricDefinitions.length);
  assert.deepEqual(metricDefinitions.map(({ key }) => key), metricFormulas.map(({ key }) => key));
  for (const { formula, source, name } of metricDefinitions) assert.ok(formula && source && name);
  const table = metricsTable(metrics);
  assert.equal(table.length, metricDefinitions.length);
  assert.deepEqual(table[1], {
    metric: "MSE, summed",
    value: 0.5,
    formula: "mean_t Σ_d δ²",
    source: "CLIP-Scope sum_mse (its README's MSE)",
  });
  const json = metricsToJson(metrics);
  assert.deepEqual([json.n_tokens, json.mse_sum, json.l0_non_zero, json.dictionary_coherence], [2, 0.5, 1.5, null]);
  assert.equal(JSON.parse(JSON.stringify(json)).position_mse, undefined);
  assert.equal(Object.keys(json).filter((key) => key !== key.toLowerCase()).length, 0);
});
