import assert from "node:assert/strict";
import fc from "fast-check";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import sharp from "sharp";
import { cutCurve, smoothCurve, thinCurve } from "../../lib/figures/curve.ts";
import { toPng } from "../../lib/figures/figure.ts";
import { paretoFront, plotParetoFront } from "../../lib/figures/pareto_plot.ts";
import { plotTraining, trainingFacts, type TrainingPlotOptions } from "../../lib/figures/training_plots.ts";
import { heldOutPoints, type TrainingField, type TrainingPoint } from "../../lib/figures/training_point.ts";
import { writeTrainingReport } from "../../lib/figures/training_report.ts";

/** All text of a figure, in order. */
function texts(svg: string): string[] {
  return [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text).filter((text) => text !== "");
}

function count(text: string, pattern: RegExp): number {
  return [...text.matchAll(pattern)].length;
}

/** A log whose error falls from 1 to 1 / n. */
function logOf(n: number, change: (i: number) => Partial<TrainingPoint> = () => ({})): TrainingPoint[] {
  return Array.from({ length: n }, (_, i) => ({
    step: i + 1,
    nTokens: 1000 * (i + 1),
    loss: 2 / (i + 1),
    normalizedMse: 1 / (i + 1),
    l0: 32,
    nDead: i % 7,
    learningRate: 3e-4,
    ...change(i),
  }));
}

Deno.test("cutCurve() cuts at NaN, infinity and, on a log axis, at 0", () => {
  const points = [1, NaN, 2, 3, Infinity, 0, 4].map((y, x) => ({ x, y }));
  const ys = (isLog: boolean) => cutCurve(points, { isLog }).pieces.map((piece) => piece.map(({ y }) => y));
  assert.deepEqual(ys(false), [[1], [2, 3], [0, 4]]);
  assert.deepEqual(ys(true), [[1], [2, 3], [4]]);
  assert.deepEqual(cutCurve(points, { isLog: false }).gaps, [1, 4]);
  assert.deepEqual(cutCurve(points, { isLog: true }).gaps, [1, 4, 5]);
  assert.deepEqual(cutCurve([], { isLog: true }), { pieces: [], gaps: [] });
});

Deno.test("thinCurve() keeps the first, lowest, highest and last point of each column, in order", () => {
  const points = [5, 9, 1, 4, 2, 7].map((y, i) => ({ x: i + 1, y })); // columns [0, 5) and [5, 10]
  assert.deepEqual(
    thinCurve(points, { lower: 0, upper: 10, nColumns: 2 }).map(({ y }) => y),
    [5, 9, 1, 4, 2, 7],
  );
  const flat = Array.from({ length: 100 }, (_, x) => ({ x, y: x === 61 ? 50 : 1 }));
  assert.deepEqual(
    thinCurve(flat, { lower: 0, upper: 100, nColumns: 2 }),
    [{ x: 0, y: 1 }, { x: 49, y: 1 }, { x: 50, y: 1 }, { x: 61, y: 50 }, { x: 99, y: 1 }],
  );
});

Deno.test("thinCurve() keeps the range of every column and at most four points of it", () => {
  const values = fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { minLength: 1, maxLength: 200 });
  fc.assert(fc.property(values, fc.integer({ min: 1, max: 9 }), (ys, nColumns) => {
    const points = ys.map((y, x) => ({ x, y }));
    const thinned = thinCurve(points, { lower: 0, upper: ys.length, nColumns });
    const inColumn = (list: typeof points, column: number) =>
      list.filter(({ x }) => Math.floor(x / ys.length * nColumns) === column).map(({ y }) => y);
    for (let column = 0; column < nColumns; column++) {
      const [all, kept] = [inColumn(points, column), inColumn(thinned, column)];
      assert.ok(kept.length <= 4);
      assert.equal(Math.min(...kept), Math.min(...all));
      assert.equal(Math.max(...kept), Math.max(...all));
    }
  }));
});

Deno.test("smoothCurve() is a running mean, geometric on a log axis, that follows a steep start", () => {
  const points = [100, 10, 1, 1, 1].map((y, x) => ({ x, y }));
  const smooth = (isLog: boolean, hasSteepStart: boolean) =>
    smoothCurve(points, { halfWidth: 1, isLog, hasSteepStart }).map(({ y }) => Number(y.toPrecision(9)));
  assert.deepEqual(smooth(false, true), [100, 37, 4, 1, 1]);
  assert.deepEqual(smooth(false, false), [55, 37, 4, 1, 1]);
  assert.deepEqual(smooth(true, true), [100, 10, Number((10 ** (1 / 3)).toPrecision(9)), 1, 1]);
});

Deno.test("plotTraining() draws a panel for each quantity that the log has", () => {
  const words = texts(plotTraining(logOf(50)).svg);
  assert.deepEqual(words.slice(0, 2), ["Training", "50 k tokens, normalized MSE 0.02, L0 32, 0 dead"]);
  assert.deepEqual(words.filter((word) => word.startsWith("↑")), [
    "↑ normalized MSE (log scale)",
    "↑ L0",
    "↑ dead latents",
    "↑ learning rate",
  ]);
  assert.equal(words.filter((word) => word === "tokens seen (thousands)").length, 2);

  const bare = logOf(50).map(({ step, nTokens, loss }) => ({ step, nTokens, loss }));
  const bareWords = texts(plotTraining(bare).svg);
  assert.deepEqual(bareWords.filter((word) => word.startsWith("↑")), ["↑ loss (log scale)"]);
  assert.equal(bareWords[1], "50 k tokens, loss 0.04");
});

Deno.test("plotTraining() shows dead latents as a share if dSae is given", () => {
  const words = texts(plotTraining(logOf(10), { dSae: 24, panels: ["nDead"] }).svg);
  assert.ok(words.includes("↑ dead latents of 24"));
  assert.ok(words.includes("20 %"), words.join());
  assert.ok(words.includes("10 k tokens, normalized MSE 0.1, L0 32, 8.33 % dead"));
});

Deno.test("plotTraining() takes the share of dead latents from each run's own dictionary", () => {
  const half = { name: "half", points: [{ step: 1, nTokens: 10, loss: 1, nDead: 6 }], dSae: 12 };
  const options = { panels: ["nDead"], dSae: 24 } as const;
  const first = [{ step: 1, nTokens: 10, loss: 1, nDead: 6 }];
  const words = texts(plotTraining(first, { ...options, runs: [half] }).svg);
  assert.ok(words.includes("↑ dead latents (share)"));
  assert.ok(words.includes("40 %"), words.join());
  assert.ok(!texts(plotTraining(first, options).svg).includes("40 %"));
});

Deno.test("plotTraining() puts panels below each other on a phone and in two columns on wider pages", async () => {
  const sizes: [number, number][] = [];
  for (const widthPx of [360, 640, 900]) {
    const figure = plotTraining(logOf(30), { widthPx });
    const { width, height } = await sharp(await toPng(figure, { scale: 1 })).metadata();
    assert.deepEqual([width, height], [figure.widthPx, figure.heightPx]);
    sizes.push([figure.widthPx, figure.heightPx]);
  }
  assert.deepEqual(sizes.map(([widthPx]) => widthPx), [360, 640, 900]);
  assert.ok(sizes[0][1] > sizes[1][1] * 1.5 && sizes[1][1] === sizes[2][1], String(sizes));
  assert.equal(plotTraining(logOf(30), { heightPx: 500 }).heightPx, 500);
});

Deno.test("plotTraining() keeps a spike of one step in a hundred thousand and stays small", () => {
  const spike = (i: number) => i === 54_321 ? { normalizedMse: 1000 } : { normalizedMse: 1 };
  const { svg } = plotTraining(logOf(100_000, spike), { panels: ["normalizedMse"] });
  const flat = plotTraining(logOf(100_000, () => ({ normalizedMse: 1 })), { panels: ["normalizedMse"] }).svg;
  assert.ok(texts(svg).includes("1,000"));
  assert.ok(!texts(flat).includes("1,000"));
  assert.ok(svg.length < 100_000, `${svg.length} characters`);
});

Deno.test("plotTraining() breaks the line where a value is not finite, and says so", () => {
  const broken = logOf(20, (i) => i === 10 ? { normalizedMse: NaN } : i === 15 ? { normalizedMse: Infinity } : {});
  const { svg } = plotTraining(broken, { panels: ["normalizedMse"] });
  assert.equal(count(svg, /aria-label="line"/g), 3);
  assert.ok(texts(svg).includes("× not a number, infinite, or 0 on a log axis"));
  assert.ok(!/NaN|Infinity/.test(svg));

  const whole = plotTraining(logOf(20), { panels: ["normalizedMse"] }).svg;
  assert.equal(count(whole, /aria-label="line"/g), 1);
  assert.ok(!texts(whole).some((text) => text.startsWith("×")));
});

Deno.test("plotTraining() joins over steps at which a quantity was not measured", () => {
  const sparse = logOf(20, (i) => i % 5 === 0 ? {} : { nDead: undefined });
  const { svg } = plotTraining(sparse, { panels: ["nDead"] });
  assert.equal(count(svg, /aria-label="line"/g), 1);
  assert.ok(!texts(svg).some((text) => text.startsWith("×")));
});

Deno.test("plotTraining() draws other runs in their own colors with a legend, and held-out values as dots", () => {
  const runs = ["a", "b"].map((name) => ({ name, points: logOf(10) }));
  const heldOut = logOf(3).map(({ step, nTokens, loss, normalizedMse }) => ({ step, nTokens, loss, normalizedMse }));
  const { svg } = plotTraining(logOf(10), { runs, heldOut, name: "R & D", panels: ["normalizedMse"] });
  const words = texts(svg);
  for (const name of ["R &amp; D", "a", "b", "held out"]) assert.ok(words.includes(name), name);
  const colors = [...svg.matchAll(/<g [^>]*aria-label="line"[^>]*>/g)].map(([tag]) => /stroke="(#\w+)"/.exec(tag)?.[1]);
  assert.equal(new Set(colors).size, 3);
  assert.equal(count(svg, /<circle/g), 3 + 1); // three values and the legend
});

Deno.test("plotTraining() draws held-out values that points of the log carry as dots, of every run", () => {
  const carrying = logOf(10, (i) => i % 5 === 4 ? { heldOut: { normalizedMse: 0.5, l0: 31 + i } } : {});
  const dots = (options: TrainingPlotOptions) => count(plotTraining(carrying, options).svg, /<circle/g) - 1;
  assert.equal(dots({ panels: ["normalizedMse"] }), 2);
  assert.equal(dots({ panels: ["l0"] }), 2);
  assert.equal(dots({ panels: ["loss", "nDead", "learningRate"] }), 0);
  assert.equal(dots({ panels: ["l0"], runs: [{ name: "b", points: carrying.slice(0, 5) }] }), 3);
  const [given] = logOf(1);
  assert.equal(dots({ panels: ["loss", "l0"], heldOut: [given] }), 1 + 3);
  assert.ok(!texts(plotTraining(carrying).svg).some((text) => text.startsWith("×")));
});

Deno.test("heldOutPoints() joins what points carry and what is given, by tokens", () => {
  const log = logOf(3, (i) => i === 1 ? { heldOut: { normalizedMse: 0.5, l0: 3, nDead: 7 } } : {});
  const given = logOf(1);
  assert.deepEqual(heldOutPoints(log, { heldOut: given }), [
    given[0],
    { step: 2, nTokens: 2000, normalizedMse: 0.5, l0: 3, nDead: 7 },
  ]);
  assert.deepEqual(heldOutPoints(logOf(2), {}), []);
});

Deno.test("plotTraining() says so if nothing was logged", () => {
  assert.ok(texts(plotTraining([]).svg).includes("Nothing logged yet"));
  assert.ok(texts(plotTraining(logOf(5), { panels: ["gradientNorm"] }).svg).includes("Nothing logged yet"));
});

Deno.test("plotTraining() refuses options out of range", () => {
  const run = { name: "a", points: logOf(2) };
  assert.throws(() => plotTraining(logOf(2), { runs: new Array(7).fill(run) }), {
    name: "RangeError",
    message: "Cannot draw training: runs must be at most 6, current number is 7",
  });
  assert.throws(() => plotTraining(logOf(2), { panels: ["step" as TrainingField] }), {
    name: "RangeError",
    message: "Cannot draw training: panels must be among loss, mse, normalizedMse, l0, l1, nDead, learningRate, " +
      'gradientNorm, tokensPerSecond, current value is "step"',
  });
  assert.throws(() => plotTraining(logOf(2), { dSae: 0 }), {
    name: "RangeError",
    message: "Cannot draw training: dSae must be a positive integer, current value is 0",
  });
  assert.throws(() => plotTraining(logOf(2), { heightPx: 200 }), {
    name: "RangeError",
    message: /^Cannot draw training: heightPx must leave 36 px for each of 2 rows of panels, current value is 200/,
  });
});

Deno.test("trainingFacts() names what the log line has", () => {
  assert.deepEqual(trainingFacts({ step: 1200, nTokens: 4_915_200, loss: 12.3456 }), [
    "step 1,200",
    "4.92 M tokens",
    "loss 12.3",
  ]);
  const [point] = logOf(1);
  assert.deepEqual(trainingFacts({ ...point, nDead: 3, tokensPerSecond: 51_234 }, { dSae: 12 }).slice(3), [
    "L0 32",
    "25 % dead",
    "51,200 tokens/s",
  ]);
});

Deno.test("paretoFront() returns the runs that none beats, by L0", () => {
  const runs = [[8, 0.5], [4, 0.6], [8, 0.4], [16, 0.4], [32, 0.1], [NaN, 0.01], [4, 0.6]].map((
    [l0, normalizedMse],
  ) => (
    { l0, normalizedMse }
  ));
  assert.deepEqual(paretoFront(runs).map((run) => runs.indexOf(run)), [1, 6, 2, 4]);
  assert.deepEqual(paretoFront([]), []);
});

Deno.test("paretoFront() agrees with comparing every pair", () => {
  const value = fc.oneof(fc.integer({ min: 0, max: 4 }), fc.constantFrom(NaN, Infinity, 0.5));
  fc.assert(fc.property(fc.array(fc.record({ l0: value, normalizedMse: value }), { maxLength: 30 }), (runs) => {
    const copy = runs.slice();
    const valid = runs.filter((run) => !Number.isNaN(run.l0) && !Number.isNaN(run.normalizedMse));
    const naive = valid.filter((run) =>
      !valid.some((other) =>
        other.l0 <= run.l0 && other.normalizedMse <= run.normalizedMse &&
        (other.l0 < run.l0 || other.normalizedMse < run.normalizedMse)
      )
    );
    const front = paretoFront(runs);
    assert.deepEqual(new Set(front), new Set(naive));
    assert.equal(front.length, naive.length);
    for (let i = 1; i < front.length; i++) assert.ok(front[i - 1].l0 <= front[i].l0);
    assert.deepEqual(runs, copy);
  }));
});

Deno.test("plotParetoFront() names the runs and counts those that no other beats", () => {
  const runs = [
    { name: "TopK 8", l0: 8, normalizedMse: 0.4 },
    { name: "TopK 32", l0: 32, normalizedMse: 0.2 },
    { name: "ReLU", l0: 40, normalizedMse: 0.3 },
    { name: "broken", l0: 16, normalizedMse: NaN },
  ];
  const all = texts(plotParetoFront(runs).svg);
  assert.equal(all[1], "2 of 3 runs are on the Pareto front");
  for (const name of ["TopK 8", "TopK 32", "ReLU"]) assert.ok(all.includes(name));
  assert.ok(!all.includes("broken"));
  assert.equal(all.at(-1), "1 run without an L0 and a normalized MSE above 0 is not shown.");

  const front = texts(plotParetoFront(runs, { labels: "front" }).svg);
  assert.ok(front.includes("TopK 8") && !front.includes("ReLU"));
  assert.ok(texts(plotParetoFront([runs[3]]).svg).includes("No run has both an L0 and a normalized MSE above 0"));
  assert.throws(() => plotParetoFront(runs, { labels: "some" as "all" }), {
    name: "RangeError",
    message: 'Cannot draw Pareto front: labels must be "all", "front" or "none", current value is "some"',
  });
});

Deno.test("writeTrainingReport() writes one page that needs nothing else", async () => {
  const directory = await fs.mkdtemp(path.join(tmpdir(), "sparsight-report-"));
  try {
    const file = path.join(directory, "report.html");
    await writeTrainingReport(file, {
      points: logOf(30),
      runs: [{ name: "b <2>", points: logOf(20) }],
      facts: { Model: "A & B", Images: 12 },
      densities: [0, 0.5, 0.25, 0.01],
    });
    const page = await fs.readFile(file, "utf8");
    assert.ok(page.startsWith("<!doctype html>"));
    for (
      const text of [
        "<dd>A &amp; B</dd>",
        "<dd>1 of 4 (25 %)</dd>",
        "<td>b &lt;2&gt;</td>",
        "1 of 2 runs is on the Pareto front",
      ]
    ) {
      assert.ok(page.includes(text), text);
    }
    assert.match(page, /1 of 4 latents was never active and is not shown\./);
    assert.equal(count(page, /<svg /g), 8); // four figures at two widths
    assert.ok(!/<script|<link rel="stylesheet"|src=|url\(/.test(page));
    assert.deepEqual(await fs.readdir(directory), ["report.html"]);

    const heldOut = { normalizedMse: 0.0625, l0: 5, nDead: 2 };
    const measured = { points: logOf(30, (i) => i === 29 ? { heldOut } : {}), dSae: 8 };
    await writeTrainingReport(path.join(directory, "measured.html"), {
      ...measured,
      runs: [{ ...measured, name: "b" }],
    });
    const other = await fs.readFile(path.join(directory, "measured.html"), "utf8");
    assert.ok(other.includes('<td class="number">0.0625</td>'));
    assert.ok(other.includes("Held out: latents that are active on none of those tokens."));
    assert.ok(!page.includes("Held out"));
    await fs.rm(path.join(directory, "measured.html"));

    const refused = writeTrainingReport(file, { points: logOf(3), densities: [0.5, 1.5] });
    await assert.rejects(refused, {
      name: "RangeError",
      message: "Cannot write training report: densities must be between 0 and 1, current value is 1.5",
    });
    assert.equal(await fs.readFile(file, "utf8"), page, "what was there must stay");
  } finally {
    await fs.rm(directory, { recursive: true });
  }
});
