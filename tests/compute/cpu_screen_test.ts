import assert from "node:assert/strict";
import fc from "fast-check";
import { measureReaches, setBoundingBias } from "../../lib/compute/cpu/bounds.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { findUnsure } from "../../lib/compute/cpu/keep.ts";
import { probeInt8 } from "../../lib/compute/cpu/int8_probe.ts";
import { measureSizes, quantizeEncoder, quantizeTokens } from "../../lib/compute/cpu/quantize.ts";
import type { ScreenPrecision } from "../../lib/compute/cpu/screen.ts";
import { selectLargest } from "../../lib/compute/cpu/select_largest.ts";
import { ZERO_POINT } from "../../lib/compute/cpu/screen_graph.ts";
import type { SparseLatents, TokenRule, TokenWeights } from "../../lib/compute/contract.ts";
import { randomFloats, randomWeights, seededRandom } from "../support/reference.ts";
import { referenceKept } from "../support/reference.ts";

/** A pre-activation in the order that the kernel sums in: 16 lanes, then pairs of them. */
function preActivation(weights: TokenWeights, x: Float32Array, latent: number): number {
  const { dModel, dSae, wEnc, bEnc, bDec, subtractBDec } = weights;
  const lanes = new Float32Array(16);
  for (let d = 0; d < dModel; d++) {
    const centered = subtractBDec ? Math.fround(x[d] - bDec[d]) : x[d];
    lanes[d % 16] += Math.fround(centered * wEnc[d * dSae + latent]);
  }
  const sums = [0, 1, 2, 3].map((i) =>
    Math.fround(Math.fround(lanes[i] + lanes[4 + i]) + Math.fround(lanes[8 + i] + lanes[12 + i]))
  );
  const dot = Math.fround(Math.fround(sums[0] + sums[1]) + Math.fround(sums[2] + sums[3]));
  return Math.fround(dot + bEnc[latent]);
}

/** Latents as the rule and that order say, with nothing ruled out beforehand. */
function plainEncode(weights: TokenWeights, x: Float32Array): Omit<SparseLatents, "nTokens" | "dSae"> {
  const { dModel, dSae, rule } = weights;
  const [offsets, indices, values] = [[0], [] as number[], [] as number[]];
  for (let start = 0; start < x.length; start += dModel) {
    const token = x.subarray(start, start + dModel);
    const pre = Float64Array.from({ length: dSae }, (_, latent) => preActivation(weights, token, latent));
    // The reference sorts, and NaN has no place in an order: like -Infinity it is never kept.
    const ordered = pre.map((value) => Number.isNaN(value) ? -Infinity : value);
    for (const latent of referenceKept(ordered, rule)) {
      if (ordered[latent] === -Infinity) continue;
      indices.push(latent);
      values.push(pre[latent]);
    }
    offsets.push(indices.length);
  }
  return {
    offsets: Uint32Array.from(offsets),
    indices: Uint32Array.from(indices),
    values: Float32Array.from(values),
  };
}

const { areExact } = await probeInt8(1);
if (!areExact) console.warn("SKIPPED: screens in 8 bits, whose products are not exact on this processor");
const precisions: ScreenPrecision[] = areExact ? ["float32", "int8"] : ["float32"];

const rules = (dSae: number, random: () => number): TokenRule[] => [
  { kind: "relu" },
  { kind: "topK", k: 1 + Math.floor(random() * Math.min(dSae, 12)), relu: true },
  { kind: "topK", k: 1 + Math.floor(random() * dSae), relu: false },
  { kind: "jumpRelu", threshold: randomFloats(dSae, random) },
];

/** What real dictionaries and residual streams have, and random numbers have not. */
const roughen: Record<string, (weights: TokenWeights, x: Float32Array, random: () => number) => void> = {
  nothing() {},
  "a dimension that is large in all tokens"({ dModel }, x) {
    for (let i = 0; i < x.length; i += dModel) x[i] = 300 + x[i];
  },
  "tokens of very different sizes"({ dModel }, x, random) {
    for (let start = 0; start < x.length; start += dModel) {
      const size = 10 ** (8 * random() - 4);
      for (let d = 0; d < dModel; d++) x[start + d] *= size;
    }
  },
  "latents that are equal, and latents of zeros"({ dModel, dSae, wEnc, bEnc }) {
    for (let latent = 0; latent < dSae; latent++) {
      bEnc[latent] = latent % 3 === 0 ? 0 : bEnc[latent % 5];
      for (let d = 0; d < dModel; d++) wEnc[d * dSae + latent] *= latent % 3 === 0 ? 0 : 1;
      for (let d = 0; d < dModel; d++) if (latent % 3) wEnc[d * dSae + latent] = wEnc[d * dSae + 3 * (latent % 2) + 1];
    }
  },
  "whole numbers, many of them equal"({ wEnc, bEnc, bDec }, x) {
    for (const array of [wEnc, bEnc, bDec, x]) array.forEach((value, i) => array[i] = Math.round(2 * value));
  },
  "large biases"({ bEnc }, _, random) {
    bEnc.forEach((_, i) => bEnc[i] = 1e4 * (random() - 0.5));
  },
  "activations that are not finite"(_, x, random) {
    for (const value of [NaN, Infinity, -Infinity]) x[Math.floor(random() * x.length)] = value;
  },
  "weights and biases that are not finite"({ wEnc, bEnc }, _, random) {
    for (const array of [wEnc, bEnc]) {
      for (const value of [NaN, Infinity, -Infinity]) array[Math.floor(random() * array.length)] = value;
    }
  },
};

for (const precision of precisions) {
  for (const [name, change] of Object.entries(roughen)) {
    Deno.test(`CPU encode() screened in ${precision} gives the bits of plain loops, with ${name}`, async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.nat(2 ** 30),
          fc.integer({ min: 4, max: 37 }),
          fc.integer({ min: 5, max: 260 }),
          fc.integer({ min: 5, max: 23 }),
          fc.nat(3),
          async (seed, dModel, dSae, nTokens, ruleNumber) => {
            const random = seededRandom(seed);
            const rule = rules(dSae, random)[ruleNumber];
            const weights = { ...randomWeights({ dModel, dSae }, { rule, seed }), rule } as TokenWeights;
            const x = randomFloats(nTokens * dModel, random);
            change(weights, x, random);
            const backend = await createCpuBackend({ threads: 1, screen: precision });
            const loaded = await backend.load(weights);
            const { offsets, indices, values } = await loaded.encode(x);
            await loaded.dispose();
            assert.deepEqual({ offsets, indices, values }, plainEncode(weights, x));
          },
        ),
        { numRuns: 40, seed: 1 },
      );
    });
  }
}

Deno.test("CPU encode() gives a token the same bits alone, in any batch, with any threads", async () => {
  const [dModel, dSae, nTokens] = [50, 301, 41];
  const weights = randomWeights({ dModel, dSae }, { rule: { kind: "topK", k: 7, relu: true } });
  const x = randomFloats(nTokens * dModel, seededRandom(5));
  const all = plainEncode(weights as TokenWeights, x);
  for (const precision of precisions) {
    for (const [threads, batch] of [[1, 1], [1, 6], [2, 41], [2, 13]]) {
      const backend = await createCpuBackend({ threads, screen: precision });
      const loaded = await backend.load(weights);
      const [indices, values] = [[] as number[], [] as number[]];
      for (let first = 0; first < nTokens; first += batch) {
        const part = await loaded.encode(x.subarray(first * dModel, (first + batch) * dModel));
        indices.push(...part.indices);
        values.push(...part.values);
      }
      await loaded.dispose();
      assert.deepEqual(Uint32Array.from(indices), all.indices);
      assert.deepEqual(Float32Array.from(values), all.values);
    }
  }
});

Deno.test("bounds of 8 bits are above every pre-activation, and not far above", () => {
  fc.assert(
    fc.property(
      fc.nat(2 ** 30),
      fc.integer({ min: 4, max: 70 }),
      fc.integer({ min: 1, max: 40 }),
      (seed, dModel, dSae) => {
        const random = seededRandom(seed);
        const nTokens = 9;
        const weights = randomWeights({ dModel, dSae }, { rule: { kind: "relu" }, seed }) as TokenWeights;
        const x = randomFloats(nTokens * dModel, random);
        for (let i = 0; i < x.length; i += dModel) x[i] = 40 * x[i];
        const rows = Float32Array.from(
          { length: dSae * dModel },
          (_, i) => weights.wEnc[(i % dModel) * dSae + Math.floor(i / dModel)],
        );
        const encoder = quantizeEncoder(rows, x, dModel);
        const sizes = measureSizes(x, encoder);
        const tokens = Uint32Array.from(sizes.keys()).sort((a, b) => sizes[a] - sizes[b]);
        const { steps, scale, margin } = quantizeTokens(x, encoder, {
          tokens,
          size: Math.max(...sizes),
          into: new Uint8Array(x.length),
        });
        const [raised, widths] = [new Float32Array(dSae), new Float32Array(dSae)];
        setBoundingBias({ raised, widths }, encoder, { margin, bias: weights.bEnc });
        tokens.forEach((token, i) => {
          for (let latent = 0; latent < dSae; latent++) {
            let product = 0;
            for (let d = 0; d < dModel; d++) {
              product += (steps[i * dModel + d] - ZERO_POINT) * encoder.columns[d * dSae + latent];
            }
            const bound = Math.fround(product * scale * encoder.scales[latent] + raised[latent]);
            const value = preActivation(weights, x.subarray(token * dModel, (token + 1) * dModel), latent);
            assert.ok(value <= bound, `value ${value} must not be above its bound ${bound}`);
            const lower = bound - 1.7 * widths[latent];
            assert.ok(value >= lower, `value ${value} must not be below ${lower}`);
          }
        });
      },
    ),
    { numRuns: 60, seed: 2 },
  );
});

Deno.test("measureSizes() finds the largest number of each token, and tokens that are not finite", () => {
  const x = Float32Array.of(1, -3, 0, 0, NaN, 1, 1, -Infinity);
  assert.deepEqual([...measureSizes(x, { factors: Float64Array.of(2, 1) })], [3, 0, Infinity, Infinity]);
});

Deno.test("measureReaches() gives lengths of rows, and 0 for rows that are not finite", () => {
  assert.deepEqual([...measureReaches(Float32Array.of(3, 4, NaN, 1, 0, 0), 2).reaches], [5, 0, 0]);
});

Deno.test("setBoundingBias() rounds up, and never lets a bias that is NaN be active", () => {
  const bias = Float32Array.of(0.1, NaN, Infinity, -Infinity);
  const reach = { reaches: Float64Array.of(2, 2, 2, 0) };
  const [raised, widths] = [new Float32Array(4), new Float32Array(4)];
  const floors = Float32Array.of(0.25, 0, 0, 0);
  setBoundingBias({ raised, widths }, reach, { bias, margin: 0.5, floors });
  assert.ok(raised[0] >= bias[0] - 0.25 + 1 && raised[0] < 0.8501);
  assert.ok(widths[0] >= 1.2 && widths[0] < 1.21);
  assert.deepEqual([...raised.subarray(1)], [-Infinity, Infinity, -Infinity]);
});

Deno.test("CPU encode() looks at all latents of a token where errors of 8 bits add up as they hardly ever do", async () => {
  if (!areExact) return;
  // 8 bits lose 0.49 of each of 15 numbers, and latent 0 points against all of them: it seems to be at 1000, above the
  // 950 of latent 1, and is at 897.
  const [dModel, dSae, nTokens] = [16, 16, 8];
  const x = Float32Array.from({ length: nTokens * dModel }, (_, i) => i % dModel === 0 ? 127 : 3.49);
  const length = 3.49 * 4;
  const wEnc = Float32Array.from({ length: dModel * dSae }, (_, i) => i % dSae === 0 && i > 0 ? -length : 0);
  const bEnc = Float32Array.from({ length: dSae }, (_, latent) => [1000 + 15 * 3 * length, 950][latent] ?? 0);
  const weights: TokenWeights = {
    ...{ dModel, dSae, wEnc, bEnc, wDec: wEnc, bDec: new Float32Array(dModel), subtractBDec: false },
    rule: { kind: "topK", k: 1, relu: true },
  };
  const loaded = await (await createCpuBackend({ threads: 1, screen: "int8" })).load(weights);
  const { indices, values } = await loaded.encode(x);
  await loaded.dispose();
  assert.deepEqual([...indices], new Array(nTokens).fill(1));
  assert.deepEqual([...values], new Array(nTokens).fill(950));
});

Deno.test("findUnsure() finds tokens whose k-th largest value is below what others may have", () => {
  const candidates = {
    starts: Uint32Array.of(0, 3, 6, 9),
    ends: Uint32Array.of(3, 6, 9, 12),
    thresholds: Float32Array.of(2, 2.5, -Infinity, 2),
    nEntries: 12,
    latents: Uint32Array.of(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2),
    values: Float32Array.of(1, 2, 3, 1, 2, 3, 1, 2, 3, NaN, 1, 3),
  };
  assert.deepEqual(findUnsure({ kind: "topK", k: 2, relu: true }, candidates), [1, 3]);
  assert.deepEqual(findUnsure({ kind: "relu" }, candidates), []);
});

Deno.test("selectLargest() is the number at that place in order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 40 }),
      fc.nat(),
      (numbers, place) => {
        const rank = 1 + place % numbers.length;
        assert.equal(selectLargest(Float32Array.from(numbers), rank), numbers.toSorted((a, b) => b - a)[rank - 1]);
      },
    ),
  );
});
