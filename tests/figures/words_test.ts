import assert from "node:assert/strict";
import { plotDensityHistogram } from "../../lib/figures/summary_plots.ts";
import { textWidthPx, wrapText } from "../../lib/figures/words.ts";

Deno.test("wrapText() breaks lines between words, keeps line breaks, and a number with its %", () => {
  // Ten letters of 10 px are 62 px.
  const wrap = (text: string, roomPx = 62) => wrapText(text, { roomPx, fontSizePx: 10 });
  assert.deepEqual(wrap("one two three"), ["one two", "three"]);
  assert.deepEqual(wrap("1234 67890"), ["1234 67890"]);
  assert.deepEqual(wrap("1234 678901"), ["1234", "678901"]);
  assert.deepEqual(wrap("a long-drawn-out word"), ["a", "long-drawn-out", "word"]);
  assert.deepEqual(wrap("a b\nc"), ["a b", "c"]);
  assert.deepEqual(wrap("less than 0.305 % of"), ["less than", "0.305 % of"]);
  assert.deepEqual(wrap("less by 12 % of"), ["less by", "12 % of"]);
  assert.deepEqual(wrap(""), []);
});

Deno.test("a figure's title, subtitle and caption stay inside at any width, and above and below the plot", () => {
  const summary = { dSae: 1536, latent: (i: number) => ({ density: (i + 1) / 2e5, nActive: i % 9 }) };
  for (const widthPx of [240, 360, 640]) {
    const { svg } = plotDensityHistogram(summary, { widthPx });
    const lines = [...svg.matchAll(/<text x="16" y="([\d.]+)" font-size="([\d.]+)"[^>]*>([^<]+)</g)];
    for (const [, , sizePx, text] of lines) assert.ok(textWidthPx(text, Number(sizePx)) <= widthPx - 32, text);
    const plotTop = Number(/translate\(0,([\d.]+)\)/.exec(svg)![1]);
    const ys = lines.map(([, y]) => Number(y));
    assert.deepEqual(ys, ys.toSorted((a, b) => a - b));
    assert.equal(ys.filter((y) => y < plotTop).length, lines.filter(([, , sizePx]) => sizePx !== "11.5").length);
    assert.ok(ys.at(-1)! < 360, String(ys));
    if (widthPx === 640) assert.equal(lines.length, 3);
  }
});
