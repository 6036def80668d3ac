import assert from "node:assert/strict";
import { deadLatents, viewSummary } from "../../lib/summary/summary.ts";
import { SummaryAccumulator } from "../../lib/summary/accumulate.ts";
import { accumulate, dSae, imagesPerLatent, source } from "./synthetic_latents.ts";

// Latents 0 and 2 are active, 1 only below zero.
const images = [{ imageIndex: 3, tokens: [[[0, 1], [1, -1]], [[0, 4]], [[2, 2]]] as [number, number][][] }];

Deno.test("viewSummary() gives a dead latent no mean, no quantile and no images", () => {
  for (const dead of [1, dSae - 1]) {
    const { quantile, histogram, ...rest } = viewSummary(accumulate(images), source).latent(dead);
    assert.deepEqual(rest, {
      latent: dead,
      nActive: 0,
      nImagesActive: 0,
      density: 0,
      meanActive: NaN,
      maxActivation: 0,
      activeTokensPerImage: NaN,
      topImages: [],
    });
    assert.ok(Number.isNaN(quantile(0.5)));
    assert.equal(quantile(0.5, { over: "all" }), 0);
    assert.deepEqual(histogram(), []);
  }
});

Deno.test("viewSummary() of nothing has no numbers", () => {
  const summary = viewSummary(new SummaryAccumulator(dSae, { imagesPerLatent }), source);
  assert.ok(Number.isNaN(summary.meanL0));
  assert.ok(Number.isNaN(summary.latent(0).density));
  assert.ok(Number.isNaN(summary.latent(0).quantile(0.5, { over: "all" })));
});

Deno.test("LatentSummary.histogram() holds every value in its bin", () => {
  const bins = viewSummary(accumulate(images), source).latent(0).histogram();
  assert.deepEqual(bins, [{ lower: 1, upper: 65 / 64, count: 1 }, { lower: 4, upper: 65 / 16, count: 1 }]);
});

Deno.test("viewSummary() refuses latents that there are not, and shares that are none", () => {
  const summary = viewSummary(accumulate(images), source);
  for (const latent of [-1, dSae, 1.5, NaN]) {
    assert.throws(() => summary.latent(latent), {
      name: "RangeError",
      message: `Cannot look at latent ${latent}: latent must be an integer between 0 and ${dSae - 1}`,
    });
  }
  for (const p of [-0.1, 1.1, NaN]) {
    assert.throws(() => summary.latent(0).quantile(p), {
      name: "RangeError",
      message: `Cannot take quantile: p must be between 0 and 1, current value is ${p}`,
    });
  }
});

Deno.test("deadLatents() lists latents that were never above zero, given enough tokens", () => {
  const summary = viewSummary(accumulate(images), source);
  assert.deepEqual(deadLatents(summary, { minTokens: 3 }), [1, 3, 4, 5, 6]);
  assert.throws(() => deadLatents(summary, { minTokens: 4 }), {
    name: "RangeError",
    message: "Cannot tell dead latents: the summary must cover at least 4 tokens, current number is 3",
  });
});
