/**
 * Plots of all latents at once: which are rare and strong, which are common and weak, and how many are of use.
 *
 * @module
 */
import * as Plot from "@observablehq/plot";
import type { LatentSummary, Summary } from "../summary/summary.ts";
import type { Figure } from "./figure.ts";
import { countTicks, formatCount, formatPowerOfTen, formatShare, formatValue, logTicks } from "./format.ts";
import {
  type AxisOptions,
  drawFigure,
  drawMessage,
  type FigureOptions,
  margins,
  palette,
  xAxis,
  yAxis,
} from "./frame.ts";
import { labelMark } from "./labels.ts";

/** Options of {@linkcode plotDensityAgainstMean}. */
export interface DensityAgainstMeanOptions extends FigureOptions {
  /** Latents to draw in the accent color with their numbers, or with names of your own. @default {[]} */
  highlight?: readonly number[] | ReadonlyMap<number, string>;
  /** Address that a latent's dot links to, `undefined` for none; by default dots are no links. */
  href?: (latent: number) => string | undefined;
}

/**
 * A dot for each latent that was ever active: how often (density) against how strongly (mean over active tokens), both
 * on log scales. Each dot has a title to hover over.
 *
 * @throws {RangeError} If a highlighted latent does not exist.
 */
export function plotDensityAgainstMean(summary: Summary, options: DensityAgainstMeanOptions = {}): Figure {
  const { highlight = [], href } = options;
  const names = new Map(highlight instanceof Map ? highlight : [...highlight].map((l) => [l as number, String(l)]));
  for (const latent of names.keys()) {
    if (!Number.isInteger(latent) || latent < 0 || latent >= summary.dSae) {
      throw new RangeError(
        `Cannot highlight latent: latent must be between 0 and ${summary.dSae - 1}, current value is ${latent}`,
      );
    }
  }
  const alive = aliveLatents(summary);
  const {
    title = "Every latent: how often and how strongly",
    subtitle = `${formatCount(summary.nTokens)} tokens of ${formatCount(summary.nImages)} images`,
    caption = describeDead(summary, alive.length),
  } = options;
  const words = { ...options, title, subtitle, caption, heightPx: options.heightPx ?? 420 };
  if (alive.length === 0) return drawMessage("No latent was ever active", words);

  const xDomain = paddedLogDomain(alive.map(({ density }) => density), 1);
  const yDomain = paddedLogDomain(alive.map(({ meanActive }) => meanActive));
  const marked = alive.filter(({ latent }) => names.has(latent));
  const dot = {
    x: "density",
    y: "meanActive",
    title: (l: LatentSummary) =>
      `Latent ${l.latent}\ndensity ${formatShare(l.density)}\nmean active ${formatValue(l.meanActive)}`,
    ...(href && { href: (l: LatentSummary) => href(l.latent) }),
  };
  const r = alive.length > 5000 ? 1.6 : alive.length > 800 ? 2.2 : 3;
  return drawFigure({
    ...margins,
    x: { type: "log", domain: xDomain },
    y: { type: "log", domain: yDomain },
    marks: [
      Plot.gridX(logTicks(...xDomain), { stroke: palette.rule, strokeOpacity: 1 }),
      xAxis(densityAxis(xDomain)),
      yAxis({ ticks: logTicks(...yDomain), tickFormat: formatValue, label: "mean activation where active" }),
      Plot.dot(alive.filter(({ latent }) => !names.has(latent)), { ...dot, r, fill: palette.data, fillOpacity: 0.6 }),
      Plot.dot(marked, { ...dot, r: 4.5, fill: palette.accent, stroke: palette.paper, strokeWidth: 1.25 }),
      labelMark(marked.map((l) => ({ x: l.density, y: l.meanActive, text: names.get(l.latent)! }))),
    ],
  }, words);
}

/** Options of {@linkcode plotDensityHistogram}. */
export interface DensityHistogramOptions extends FigureOptions {
  /** How many bars at most. @default {40} */
  bins?: number;
}

/** How often latents are active: a summary, or as much of one. */
export interface LatentDensities {
  readonly dSae: number;
  latent(latent: number): { readonly nActive: number; readonly density: number };
}

/** Histogram over latents of log₁₀ density. Latents that were never active have no logarithm; the caption counts them. */
export function plotDensityHistogram(summary: LatentDensities, options: DensityHistogramOptions = {}): Figure {
  const { bins = 40 } = options;
  if (!Number.isInteger(bins) || bins < 1) {
    throw new RangeError(`Cannot draw density histogram: bins must be a positive integer, current value is ${bins}`);
  }
  const densities = aliveLatents(summary).map(({ density }) => density).sort((a, b) => a - b);
  const {
    title = "How often latents are active",
    subtitle = densities.length > 0
      ? `Half of the ${formatCount(densities.length)} alive latents are active on less than ${
        formatShare(densities[densities.length >> 1])
      } of tokens`
      : "",
    caption = describeDead(summary, densities.length),
  } = options;
  const words = { ...options, title, subtitle, caption };
  if (densities.length === 0) return drawMessage("No latent was ever active", words);

  const [lower, upper] = paddedLogDomain(densities, 1).map(Math.log10);
  const width = (upper - lower) / bins;
  const bars = Array.from({ length: bins }, (_, i) => ({
    lower: 10 ** (lower + i * width),
    upper: 10 ** (lower + (i + 1) * width),
    count: 0,
  }));
  for (const density of densities) {
    bars[Math.min(bins - 1, Math.max(0, Math.floor((Math.log10(density) - lower) / width)))].count++;
  }
  const ticks = countTicks(bars.reduce((most, { count }) => Math.max(most, count), 0));
  const domain: [number, number] = [10 ** lower, 10 ** upper];
  return drawFigure({
    ...margins,
    x: { type: "log", domain },
    marks: [
      xAxis(densityAxis(domain)),
      yAxis({ ticks, tickFormat: formatCount, label: "latents" }),
      Plot.rectY(bars.filter(({ count }) => count > 0), {
        x1: "lower",
        x2: "upper",
        y: "count",
        fill: palette.data,
        insetLeft: 0.5,
        insetRight: 0.5,
      }),
      Plot.ruleY([0], { stroke: palette.muted }),
    ],
  }, words);
}

function aliveLatents<Latent extends { nActive: number }>(
  summary: { dSae: number; latent(latent: number): Latent },
): Latent[] {
  const alive: Latent[] = [];
  for (let latent = 0; latent < summary.dSae; latent++) {
    const one = summary.latent(latent);
    if (one.nActive > 0) alive.push(one);
  }
  return alive;
}

function describeDead(summary: { dSae: number }, nAlive: number): string {
  const nDead = summary.dSae - nAlive;
  const [were, are] = nDead === 1 ? ["was", "is"] : ["were", "are"];
  return `${formatCount(nDead)} of ${formatCount(summary.dSae)} latents ${were} never active and ${are} not shown.`;
}

/** From a little below the smallest to a little above the largest value, but never above `limit`. */
function paddedLogDomain(values: readonly number[], limit = Infinity): [number, number] {
  let lower = Infinity;
  let upper = 0;
  for (const value of values) {
    lower = Math.min(lower, value);
    upper = Math.max(upper, value);
  }
  const padding = Math.max((upper / lower) ** 0.04, 1.15);
  return [lower / padding, Math.min(limit, upper * padding)];
}

/** Powers of ten if all ticks are, else plain numbers: the two do not mix well. */
function densityAxis(domain: [number, number]): AxisOptions {
  const ticks = logTicks(...domain);
  const exponents = ticks.map((tick) => Math.log10(tick));
  const areDecades = exponents.every((exponent) => Math.abs(exponent - Math.round(exponent)) < 1e-9);
  const tickFormat = (tick: number) =>
    tick === 1 || !areDecades ? formatValue(tick) : formatPowerOfTen(Math.round(Math.log10(tick)));
  return { ticks, tickFormat, label: "density (share of tokens on which it is active)" };
}
