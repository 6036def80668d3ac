import assert from "node:assert/strict";
import fc from "fast-check";
import { SummaryAccumulator } from "../../lib/summary/accumulate.ts";
import { viewSummary } from "../../lib/summary/summary.ts";
import {
  accumulate,
  activeValues,
  anyImages,
  dSae,
  imagesPerLatent,
  referenceStatistics,
  source,
  tokensPerImage,
  toSparse,
} from "./synthetic_latents.ts";

const SUM_UNITS = 2 ** 46;

Deno.test("SummaryAccumulator.add() agrees with plain loops over dense latents", () => {
  fc.assert(
    fc.property(anyImages, fc.integer({ min: 1, max: 5 }), (images, batchSize) => {
      const accumulated = accumulate(images, { batchSize });
      const summary = viewSummary(accumulated, source);
      let nActive = 0;
      for (let latent = 0; latent < dSae; latent++) {
        const { sum, ...expected } = referenceStatistics(images, latent);
        const { quantile: _quantile, histogram, meanActive, ...found } = summary.latent(latent);
        assert.deepEqual(found, expected);
        const { sumHigh, sumLow } = accumulated;
        assert.equal(BigInt(sumHigh[latent]) * 2n ** 38n + BigInt(sumLow[latent]), sum);
        assert.ok(sumLow[latent] < 2 ** 38, "what is carried over must not stay, or it would outgrow its digits");
        assert.equal(meanActive, Number(sum) / SUM_UNITS / expected.nActive);
        assert.equal(histogram().reduce((total, { count }) => total + count, 0), expected.nActive);
        nActive += expected.nActive;
      }
      assert.equal(summary.nTokens, images.length * tokensPerImage);
      assert.equal(summary.nImages, images.length);
      assert.equal(summary.meanL0, nActive / summary.nTokens);
    }),
    { seed: 1, numRuns: 300 },
  );
});

Deno.test("LatentSummary.quantile() is within 1/128 of the value at its rank, over active and over all tokens", () => {
  const share = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 0.5, 1));
  fc.assert(
    fc.property(anyImages, share, (images, p) => {
      const summary = viewSummary(accumulate(images), source);
      for (let latent = 0; latent < dSae; latent++) {
        const active = activeValues(images, latent);
        const all = [...new Array<number>(summary.nTokens - active.length).fill(0), ...active];
        for (const [over, values] of [["active", active], ["all", all]] as const) {
          const found = summary.latent(latent).quantile(p, { over });
          if (values.length === 0) {
            assert.ok(Number.isNaN(found));
            continue;
          }
          const exact = values[Math.floor(p * (values.length - 1))];
          const tolerance = exact === 0 ? 0 : Math.max(exact, 2 ** -126) / 128;
          assert.ok(Math.abs(found - exact) <= tolerance, `${over} ${p}: ${found} is not ${exact}`);
        }
        if (active.length > 0) assert.equal(summary.latent(latent).quantile(1), active[active.length - 1]);
      }
    }),
    { seed: 2, numRuns: 300 },
  );
});

Deno.test("SummaryAccumulator.add() keeps the top images by hand", () => {
  const image = (imageIndex: number, ...values: number[]) => ({
    imageIndex,
    tokens: values.map((v) => [[0, v] as const]),
  });
  const accumulated = accumulate([image(9, 1, 3, 3), image(4, 0.5, 1, 2), image(7, 2, 1, 2), image(1, 2, -5, 1)]);
  const { topImages, nActive, nImagesActive } = viewSummary(accumulated, source).latent(0);
  assert.deepEqual(topImages, [
    { imageIndex: 9, value: 3, patchIndex: 1 },
    { imageIndex: 1, value: 2, patchIndex: 0 },
    { imageIndex: 4, value: 2, patchIndex: 2 },
  ]);
  assert.deepEqual([nActive, nImagesActive], [11, 4]);
});

Deno.test("SummaryAccumulator.add() counts patches from the first patch, and gives special tokens no patch", () => {
  const image = (imageIndex: number, token: number) => ({
    imageIndex,
    tokens: [0, 1, 2].map((t) => t === token ? [[0, 1] as const] : []),
  });
  const images = [image(0, 0), image(1, 1), image(2, 2)];
  const patches = (firstPatch: number) => {
    const accumulated = new SummaryAccumulator(dSae, { imagesPerLatent });
    accumulated.add(toSparse(images), { imageIndices: Uint32Array.of(0, 1, 2), tokensPerImage, firstPatch });
    return viewSummary(accumulated, source).latent(0).topImages.map(({ patchIndex }) => patchIndex);
  };
  assert.deepEqual(patches(0), [0, 1, 2]);
  assert.deepEqual(patches(-1), [-1, 0, 1]); // CLS first
  assert.deepEqual(patches(-2), [-1, -1, 0]); // CLS and a register
});

Deno.test("SummaryAccumulator.add() reads latents that are views, and leaves them as they are", () => {
  const images = [{ imageIndex: 5, tokens: [[[1, 2]], [], [[1, 3], [4, 1]]] as [number, number][][] }];
  const latents = toSparse(images);
  const pool = Float32Array.of(9, ...latents.values, 9);
  const viewed = { ...latents, values: pool.subarray(1, 1 + latents.values.length) };
  const accumulated = new SummaryAccumulator(dSae, { imagesPerLatent });
  accumulated.add(viewed, { imageIndices: Uint32Array.of(5), tokensPerImage, firstPatch: 0 });
  assert.deepEqual(
    viewSummary(accumulated, source).latent(1).histogram(),
    viewSummary(accumulate(images), source).latent(1).histogram(),
  );
  assert.deepEqual([...pool], [9, 2, 3, 1, 9]);
});

Deno.test("SummaryAccumulator.sum() loses nothing where adding float64 numbers does", () => {
  const large = 2 ** 40;
  const small = 2 ** -20;
  const nSmall = 30_000;
  const tokens = [[[0, large] as const], ...Array.from({ length: nSmall }, () => [[0, small] as const])];
  while (tokens.length % tokensPerImage !== 0) tokens.push([[0, small]]);
  const exact = large + (tokens.length - 1) * small;
  const images = Array.from({ length: tokens.length / tokensPerImage }, (_, i) => ({
    imageIndex: i,
    tokens: tokens.slice(i * tokensPerImage, (i + 1) * tokensPerImage),
  }));
  assert.equal(accumulate(images).sum(0), exact);
  const naive = tokens.flat().reduce((total, [, value]) => total + value, 0);
  assert.equal(naive, large, "adding one by one must lose the small numbers, or this shows nothing");
});

Deno.test("SummaryAccumulator does not grow with the number of images", () => {
  const values = Float32Array.from({ length: 64 }, (_, i) => 1.5 ** (i % 16) + i / 64);
  const accumulated = new SummaryAccumulator(dSae, { imagesPerLatent });
  const sizes = () => [
    ...Object.values(accumulated).filter(ArrayBuffer.isView).map(({ byteLength }) => byteLength),
    ...Array.from({ length: dSae }, (_, latent) => [...accumulated.sketch.bins(latent)].length),
  ];
  const addImages = (from: number, to: number) => {
    for (let first = from; first < to; first += 500) {
      const nTokens = 500 * tokensPerImage;
      accumulated.add({
        nTokens,
        dSae,
        offsets: Uint32Array.from({ length: nTokens + 1 }, (_, t) => 2 * t),
        indices: Uint32Array.from({ length: 2 * nTokens }, (_, i) => i % 2 === 0 ? 1 : 3 + (i >> 1) % 2),
        values: Float32Array.from({ length: 2 * nTokens }, (_, i) => values[(first + i * 7) % 64]),
      }, { imageIndices: Uint32Array.from({ length: 500 }, (_, i) => first + i), tokensPerImage, firstPatch: 0 });
    }
  };
  addImages(0, 1000);
  const before = sizes();
  assert.equal(before.length, 9 + dSae - 1, "every public array is measured, and every latent");
  addImages(1000, 50_000);
  assert.deepEqual(sizes(), before);
  assert.deepEqual([accumulated.nImages, accumulated.nTokens], [50_000, 150_000]);
});

Deno.test("SummaryAccumulator refuses batches that are not whole images, and sizes out of range", () => {
  const accumulated = new SummaryAccumulator(dSae, { imagesPerLatent });
  const latents = toSparse([{ imageIndex: 0, tokens: [[], [], []] }]);
  const images = { imageIndices: Uint32Array.of(0, 1), tokensPerImage: 2, firstPatch: 0 };
  assert.throws(() => accumulated.add(latents, images), {
    name: "RangeError",
    message: "Cannot summarize batch: latents must have 2 × 2 tokens, current number is 3",
  });
  for (const wrong of [0, 65_536, 2.5]) {
    assert.throws(() => new SummaryAccumulator(dSae, { imagesPerLatent: wrong }), {
      name: "RangeError",
      message: `Cannot summarize: imagesPerLatent must be an integer between 1 and 65535, current value is ${wrong}`,
    });
  }
});
