/**
 * Plots of one latent: how often it takes which value, and how its strongest activations stand out from the rest.
 *
 * @module
 */
import * as Plot from "@observablehq/plot";
import type { HistogramBin, LatentSummary } from "../summary/summary.ts";
import type { Figure } from "./figure.ts";
import { countTicks, formatCount, formatPercentile, formatShare, formatValue, logTicks } from "./format.ts";
import { drawFigure, drawMessage, type FigureOptions, margins, palette, xAxis, yAxis } from "./frame.ts";
import { labelMark, stairRows } from "./labels.ts";
import { textWidthPx } from "./words.ts";

/** Options of {@linkcode plotActivationHistogram}. */
export interface ActivationHistogramOptions extends FigureOptions {
  /** Percentiles of the active tokens to mark, as shares in [0, 1]. @default {[0.5, 0.9, 0.95, 0.99, 0.999]} */
  percentiles?: readonly number[];
  /** How many bars at most. @default {48} */
  bins?: number;
}

/**
 * Histogram of a latent's active tokens over a logarithmic axis of activation, with percentiles marked. Silent tokens
 * have no place on that axis; the subtitle counts them.
 *
 * @throws {RangeError} If a percentile is outside [0, 1] or `bins` is not a positive integer.
 */
export function plotActivationHistogram(latent: LatentSummary, options: ActivationHistogramOptions = {}): Figure {
  const { percentiles = [0.5, 0.9, 0.95, 0.99, 0.999], bins = 48 } = options;
  const { widthPx = 640, heightPx = 360 } = options;
  const {
    title = `Latent ${latent.latent}: activations`,
    subtitle = describeActivity(latent),
  } = options;
  checkPercentiles(percentiles, "draw activation histogram");
  if (!Number.isInteger(bins) || bins < 1) {
    throw new RangeError(`Cannot draw activation histogram: bins must be a positive integer, current value is ${bins}`);
  }
  if (latent.nActive === 0) return drawMessage("Never active", { ...options, title, subtitle });

  const bars = coarsen(latent.histogram(), Math.min(bins, Math.max(8, Math.ceil(Math.sqrt(latent.nActive)))));
  const lower = bars[0].lower;
  const upper = bars[bars.length - 1].upper;
  const tallest = bars.reduce((most, bar) => Math.max(most, bar.count), 0);

  // Labels stand above the bars, on as many rows as it takes to keep them apart.
  const arrange = (withValues: boolean) => {
    const labels = namePercentiles(latent, percentiles, withValues);
    const marginRight = Math.max(margins.marginRight, 12 + textWidthPx(labels.at(-1)?.text ?? "", 11.5));
    const plotWidth = widthPx - margins.marginLeft - marginRight;
    const rows = stairRows(labels.map(({ value, text }) => ({
      x: plotWidth * Math.log(value / lower) / Math.log(upper / lower),
      widthPx: textWidthPx(text, 11.5),
    })));
    return { labels, rows, marginRight, nRows: Math.max(0, ...rows) + 1 };
  };
  // Values may take at most a fifth of the height from the bars.
  const full = arrange(true);
  const { labels, rows, marginRight, nRows } = full.nRows * 15 > heightPx / 5 ? arrange(false) : full;
  const marginTop = 14 + 15 * nRows;

  return drawFigure({
    ...margins,
    marginTop,
    marginRight,
    x: { type: "log", domain: [lower, upper] },
    y: { domain: [0, tallest] },
    marks: [
      xAxis({ ticks: logTicks(lower, upper), tickFormat: formatValue, label: "activation (log scale)" }),
      yAxis({ ticks: countTicks(tallest, heightPx < 280 ? 2 : 5), tickFormat: formatCount, label: "tokens" }),
      Plot.rectY(bars, { x1: "lower", x2: "upper", y: "count", fill: palette.data, insetLeft: 0.5, insetRight: 0.5 }),
      Plot.ruleY([0], { stroke: palette.muted }),
      ...labels.flatMap(({ value, text }, i) => [
        Plot.ruleX([value], { stroke: palette.accent, strokeWidth: 1.25, insetTop: -14 - 15 * rows[i] }),
        Plot.text([text], {
          x: [value],
          frameAnchor: "top",
          textAnchor: "start",
          fontSize: 11.5,
          dx: 4,
          dy: -8 - 15 * rows[i],
          lineAnchor: "middle",
          fill: palette.ink,
        }),
      ]),
    ],
  }, { ...options, title, subtitle });
}

/** Options of {@linkcode plotPercentiles}. */
export interface PercentilesOptions extends FigureOptions {
  /** Percentiles to mark with their values, as shares in [0, 1). @default {[0.5, 0.9, 0.95, 0.99, 0.999]} */
  percentiles?: readonly number[];
  /** Rank among the tokens on which the latent is active, or among all tokens. @default {"active"} */
  over?: "active" | "all";
}

/**
 * Activation against percentile. The percentile axis counts nines (90, 99, 99.9, …), so that the strongest few
 * activations, which say what a latent means, get as much room as all the others.
 *
 * @throws {RangeError} If a percentile is outside [0, 1] or `over` is unknown.
 */
export function plotPercentiles(latent: LatentSummary, options: PercentilesOptions = {}): Figure {
  const { percentiles = [0.5, 0.9, 0.95, 0.99, 0.999], over = "active" } = options;
  checkPercentiles(percentiles, "draw percentiles");
  if (over !== "active" && over !== "all") {
    throw new RangeError(`Cannot draw percentiles: over must be "active" or "all", current value is "${over}"`);
  }
  const {
    title = `Latent ${latent.latent}: percentiles`,
    subtitle = over === "active"
      ? `Over its ${formatCount(latent.nActive)} active tokens`
      : `Over all tokens; it is 0 on ${formatShare(1 - latent.density)} of them`,
  } = options;
  if (latent.nActive === 0) return drawMessage("Never active", { ...options, title, subtitle });

  // Beyond one token in n there is nothing to rank.
  const nTokens = over === "active" ? latent.nActive : Math.round(latent.nActive / latent.density);
  const last = Math.max(1, Math.log10(nTokens));
  const first = over === "active" ? 0 : Math.max(0, -Math.log10(latent.density));
  const steps = 120;
  const curve = Array.from({ length: steps + 1 }, (_, i) => first + (last - first) * i / steps)
    .map((nines) => ({ nines, value: latent.quantile(1 - 10 ** -nines, { over }) }))
    .filter(({ value }) => value > 0);
  const points = percentiles
    .map((p) => ({ x: -Math.log10(1 - p), y: latent.quantile(p, { over }), name: formatPercentile(p) }))
    .filter(({ x, y }) => y > 0 && x <= last)
    .map((point) => ({ ...point, text: `${point.name}: ${formatValue(point.y)}` }));
  const lower = (curve[0]?.value ?? latent.maxActivation) / 1.15;
  const upper = latent.maxActivation * 1.15;
  const start = Math.floor(first + 1e-9);
  const ticks = [...(start === 0 ? [0, Math.log10(2)] : []), ...Array.from({ length: 12 }, (_, i) => i + 1)]
    .filter((nines) => nines >= start && nines <= last);

  return drawFigure({
    ...margins,
    x: { domain: [start, last] },
    y: { type: "log", domain: [lower, upper] },
    marks: [
      xAxis({ ticks, tickFormat: formatNines, label: `percentile of ${over} tokens` }),
      yAxis({ ticks: logTicks(lower, upper), tickFormat: formatValue, label: "activation (log scale)" }),
      Plot.line(curve, { x: "nines", y: "value", stroke: palette.data, strokeWidth: 2.5 }),
      Plot.dot(points, { x: "x", y: "y", r: 4, fill: palette.accent, stroke: palette.paper, strokeWidth: 1.25 }),
      labelMark(points, { avoid: curve.map(({ nines, value }) => ({ x: nines, y: value })) }),
    ],
  }, { ...options, title, subtitle });
}

/** Two nines are the 99th percentile, three the 99.9th. */
function formatNines(nines: number): string {
  return String(Number((100 * (1 - 10 ** -nines)).toFixed(Math.max(0, Math.ceil(nines) - 2))));
}

/** A line for each distinct value: percentiles that fall on the same value share one. */
function namePercentiles(
  latent: LatentSummary,
  percentiles: readonly number[],
  withValues: boolean,
): { value: number; text: string }[] {
  const byValue = new Map<number, number[]>();
  for (const p of [...percentiles].sort((a, b) => a - b)) {
    const value = latent.quantile(p);
    byValue.set(value, [...byValue.get(value) ?? [], p]);
  }
  return [...byValue].map(([value, ps]) => {
    const names = ps.length === 1
      ? formatPercentile(ps[0])
      : `${formatPercentile(ps[0])} to ${formatPercentile(ps.at(-1)!)}`;
    return { value, text: withValues ? `${names}: ${formatValue(value)}` : names };
  });
}

/**
 * Sum fine bins into `count` bars of equal width on the log axis, which spans at least a factor of two; a bin across an
 * edge is split by its share.
 */
function coarsen(bins: readonly HistogramBin[], count: number): HistogramBin[] {
  const first = bins[0].lower;
  const last = bins[bins.length - 1].upper;
  const widen = Math.max(1, Math.sqrt(2 * first / last));
  const lower = first / widen;
  const upper = last * widen;
  const width = Math.log(upper / lower) / count;
  const counts = new Float64Array(count);
  for (const bin of bins) {
    const from = Math.log(bin.lower / lower) / width;
    const to = Math.log(bin.upper / lower) / width;
    for (let i = Math.max(0, Math.floor(from)); i < Math.min(count, to); i++) {
      const share = (Math.min(to, i + 1) - Math.max(from, i)) / (to - from);
      counts[i] += bin.count * Math.max(0, share);
    }
  }
  return Array.from(counts, (count, i) => ({
    lower: lower * Math.exp(i * width),
    upper: lower * Math.exp((i + 1) * width),
    count,
  }));
}

function describeActivity({ nActive, density }: LatentSummary): string {
  return `Active on ${formatCount(nActive)} tokens (${formatShare(density)}), zero on the rest`;
}

function checkPercentiles(percentiles: readonly number[], what: string): void {
  for (const p of percentiles) {
    if (!(p >= 0 && p <= 1)) {
      throw new RangeError(`Cannot ${what}: percentiles must be between 0 and 1, current value is ${p}`);
    }
  }
}
