import assert from "node:assert/strict";
import { countTicks, formatShare, formatValue, logTicks } from "../../lib/figures/format.ts";
import { toPng } from "../../lib/figures/figure.ts";
import { placeLabels, stairRows } from "../../lib/figures/labels.ts";
import { plotActivationHistogram, plotPercentiles } from "../../lib/figures/latent_plots.ts";
import { plotDensityAgainstMean, plotDensityHistogram } from "../../lib/figures/summary_plots.ts";
import sharp from "sharp";
import { latentOf, randomSummary } from "./support.ts";

const summary = randomSummary({ dSae: 40 });
const dead = latentOf(3, [], { nTokens: 100 });

/** All text of a figure, in order. */
function texts(svg: string): string[] {
  return [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text).filter((text) => text !== "");
}

function count(svg: string, pattern: RegExp): number {
  return [...svg.matchAll(pattern)].length;
}

/** The elements of a Plot mark, by the name that Plot gives its group. */
function marks(svg: string, name: string): string {
  return [...svg.matchAll(new RegExp(`<g[^>]*aria-label="${name}"[^>]*>([^]*?)</g>`, "g"))].map(([, inner]) => inner)
    .join("");
}

Deno.test("formatValue() and formatShare() keep three digits", () => {
  const cases: [number, string][] = [
    [0, "0"],
    [4.5678, "4.57"],
    [0.012345, "0.0123"],
    [12345.6, "12,300"],
    [0.00004567, "4.6×10⁻⁵"],
    [NaN, "–"],
  ];
  for (const [value, text] of cases) assert.equal(formatValue(value), text);
  assert.equal(formatShare(0.1234), "12.3 %");
  assert.equal(formatShare(0.99987), "99.987 %");
  assert.equal(formatShare(1), "100 %");
});

Deno.test("logTicks() and countTicks() give round marks inside the range", () => {
  assert.deepEqual(logTicks(0.15, 12), [0.2, 0.5, 1, 2, 5, 10]);
  assert.deepEqual(logTicks(1e-5, 1), [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]);
  assert.deepEqual(logTicks(3.1, 3.9), [3.2, 3.4, 3.6, 3.8]);
  assert.deepEqual(countTicks(2), [0, 1, 2]);
  assert.deepEqual(countTicks(23), [0, 5, 10, 15, 20]);
  assert.deepEqual(countTicks(230, 2), [0, 100, 200]);
});

Deno.test("stairRows() puts a label higher if it reaches over a line on its right", () => {
  const labels = [{ x: 0, widthPx: 50 }, { x: 30, widthPx: 50 }, { x: 200, widthPx: 50 }, { x: 210, widthPx: 50 }];
  assert.deepEqual(stairRows(labels), [1, 0, 1, 0]);
  assert.deepEqual(stairRows([]), []);
});

Deno.test("placeLabels() keeps labels apart and inside", () => {
  const labels = Array.from({ length: 6 }, (_, i) => ({ x: 40 + 3 * i, y: 50 + 2 * i, widthPx: 30 }));
  const places = placeLabels(labels, { rightPx: 300, bottomPx: 200 });
  for (const [i, a] of places.entries()) {
    assert.ok(a.x >= 0 && a.x + 30 <= 300 && a.y >= 0 && a.y <= 200);
    for (const b of places.slice(i + 1)) assert.ok(Math.abs(a.x - b.x) >= 30 || Math.abs(a.y - b.y) >= 15);
  }
  assert.ok(places.some(({ far }) => far));
});

Deno.test("plotActivationHistogram() draws a bar for each bin and a labeled line for each percentile", () => {
  const values = Array.from({ length: 100 }, (_, i) => (i + 1) / 10);
  const { svg, widthPx, heightPx } = plotActivationHistogram(latentOf(12, values, { nTokens: 1000 }), { bins: 10 });
  assert.deepEqual([widthPx, heightPx], [640, 360]);
  assert.ok(svg.startsWith('<svg xmlns="http://www.w3.org/2000/svg" width="640" height="360"'));
  assert.equal(count(marks(svg, "rect"), /<rect/g), 10);
  const words = texts(svg);
  assert.equal(words[0], "Latent 12: activations");
  assert.equal(words[1], "Active on 100 tokens (10 %), zero on the rest");
  for (const label of ["p50: 5.1", "p90: 9.1", "p95: 9.6", "p99 to p99.9: 10"]) {
    assert.ok(words.some((word) => word.startsWith(label)), `${label} is missing in ${words}`);
  }
});

Deno.test("plotActivationHistogram() drops the values from labels that would take the room of the bars", () => {
  const { svg } = plotActivationHistogram(summary.latent(4), { widthPx: 320, heightPx: 220 });
  assert.ok(texts(svg).includes("p50"));
});

Deno.test("plotActivationHistogram() shows a latent that took a single value", () => {
  const { svg } = plotActivationHistogram(latentOf(2, [3], { nTokens: 50 }));
  assert.equal(count(marks(svg, "rect"), /<rect/g), 8);
  assert.ok(texts(svg).includes("p50 to p99.9: 3"));
  assert.ok(!svg.includes("NaN"));
  assert.ok(!plotPercentiles(latentOf(2, [3], { nTokens: 50 })).svg.includes("NaN"));
});

Deno.test("plotActivationHistogram() says so if the latent was never active", () => {
  assert.ok(texts(plotActivationHistogram(dead).svg).includes("Never active"));
  assert.ok(texts(plotPercentiles(dead).svg).includes("Never active"));
});

Deno.test("plotPercentiles() marks percentiles up to the last that can be ranked", () => {
  const latent = latentOf(5, Array.from({ length: 200 }, (_, i) => 1 + i), { nTokens: 10_000 });
  const { svg } = plotPercentiles(latent);
  assert.equal(count(marks(svg, "dot"), /<circle/g), 4);
  assert.ok(texts(svg).includes("p99: 199") || texts(svg).includes("p99: 198"));
  assert.ok(texts(svg).includes("percentile of active tokens"));
  assert.ok(!texts(svg).some((word) => word.startsWith("p99.9:")));
});

Deno.test("plotPercentiles() over all tokens leaves out percentiles that are zero", () => {
  const latent = latentOf(5, Array.from({ length: 200 }, (_, i) => 1 + i), { nTokens: 10_000 });
  const { svg } = plotPercentiles(latent, { over: "all", percentiles: [0.5, 0.9, 0.99, 0.999] });
  assert.equal(count(marks(svg, "dot"), /<circle/g), 2);
  assert.ok(texts(svg).includes("Over all tokens; it is 0 on 98 % of them"));
});

Deno.test("plots refuse percentiles and sizes out of range", () => {
  const latent = summary.latent(0);
  assert.throws(() => plotPercentiles(latent, { percentiles: [99] }), {
    name: "RangeError",
    message: "Cannot draw percentiles: percentiles must be between 0 and 1, current value is 99",
  });
  assert.throws(() => plotPercentiles(latent, { over: "none" as "all" }), {
    name: "RangeError",
    message: 'Cannot draw percentiles: over must be "active" or "all", current value is "none"',
  });
  assert.throws(() => plotActivationHistogram(latent, { bins: 0 }), RangeError);
  assert.throws(() => plotActivationHistogram(latent, { heightPx: 60 }), {
    name: "RangeError",
    message: "Cannot draw figure: size must be at least 160 x 148 px, current size is 640 x 60",
  });
});

Deno.test("plotDensityAgainstMean() has a dot for each alive latent and counts the dead", () => {
  const { svg } = plotDensityAgainstMean(summary, { highlight: [0, 1] });
  const dots = marks(svg, "dot");
  assert.equal(count(dots, /<circle/g), 34);
  assert.equal(count(dots, /<title>Latent \d+\n/g), 34);
  assert.equal(count(dots, /<a /g), 0);
  assert.ok(texts(svg).includes("6 of 40 latents were never active and are not shown."));
  assert.equal(count(marks(svg, "label"), />0<\/text>/g), 2, "the label and its halo");
});

Deno.test("plotDensityAgainstMean() links dots and escapes names", () => {
  const { svg } = plotDensityAgainstMean(summary, {
    highlight: new Map([[1, "<b>cats & dogs</b>"]]),
    href: (latent) => latent < 10 ? `x.html?latent=${latent}&a="` : undefined,
    title: "a < b",
  });
  assert.equal(count(svg, /<a /g), 9);
  assert.ok(svg.includes('href="x.html?latent=4&amp;a=&quot;"'));
  assert.ok(svg.includes("&lt;b&gt;cats &amp; dogs&lt;/b&gt;"));
  assert.ok(texts(svg).includes("a &lt; b"));
});

Deno.test("plots stay valid XML whatever the names", async () => {
  const name = 'a\u0000b\u001b[1m\ud800 ]]> <!-- <x y="1">&nbsp;';
  const figure = plotDensityAgainstMean(summary, { highlight: new Map([[1, name]]), title: name, caption: name });
  assert.equal((await sharp(await toPng(figure)).metadata()).width, 1280);
});

Deno.test("plotDensityAgainstMean() refuses to highlight a latent that does not exist", () => {
  assert.throws(() => plotDensityAgainstMean(summary, { highlight: [40] }), {
    name: "RangeError",
    message: "Cannot highlight latent: latent must be between 0 and 39, current value is 40",
  });
});

Deno.test("plotDensityHistogram() counts every alive latent once", async () => {
  const densities = [0.001, 0.0011, 0.1, 0];
  const few = {
    ...summary,
    dSae: 4,
    latent: (i: number) => latentOf(i, new Array(Math.round(densities[i] * 10_000)).fill(1), { nTokens: 10_000 }),
  };
  const figure = plotDensityHistogram(few, { bins: 5 });
  assert.equal(count(marks(figure.svg, "rect"), /<rect/g), 2);
  assert.ok(texts(figure.svg).includes("1 of 4 latents was never active and is not shown."));
  const { width, height } = await sharp(await toPng(figure)).metadata();
  assert.deepEqual([width, height], [1280, 720]);
});

Deno.test("plots say so if no latent was ever active", () => {
  const none = { ...summary, dSae: 2, latent: (i: number) => latentOf(i, [], { nTokens: 5 }) };
  for (const plot of [plotDensityAgainstMean, plotDensityHistogram]) {
    assert.ok(texts(plot(none).svg).includes("No latent was ever active"));
  }
});
