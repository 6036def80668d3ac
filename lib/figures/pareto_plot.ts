/**
 * The trade that every SAE makes, sparse or faithful, over many trained ones: which of them no other beats at both.
 *
 * @module
 */
import * as Plot from "@observablehq/plot";
import type { Figure } from "./figure.ts";
import { formatCount, formatValue, logTicks } from "./format.ts";
import { drawFigure, drawMessage, type FigureOptions, margins, palette, xAxis, yAxis } from "./frame.ts";
import { labelMark } from "./labels.ts";

/** Where a trained SAE ended up. */
export interface ParetoRun {
  /** Written beside its dot. */
  readonly name: string;
  /** Mean number of active latents a token; smaller is better. */
  readonly l0: number;
  /** Share of the variance that is not explained; smaller is better. */
  readonly normalizedMse: number;
}

/**
 * The runs that no other run beats: none has both an L0 and a normalized MSE that are as small or smaller, one of them
 * smaller. Equal runs are all kept; runs with a value that is not a number are never on the front.
 *
 * @returns The same objects, by L0, then in the order given.
 */
export function paretoFront<Run extends Pick<ParetoRun, "l0" | "normalizedMse">>(runs: readonly Run[]): Run[] {
  const sorted = runs.filter(({ l0, normalizedMse }) => !Number.isNaN(l0) && !Number.isNaN(normalizedMse))
    .sort((a, b) => a.l0 === b.l0 ? compare(a.normalizedMse, b.normalizedMse) : compare(a.l0, b.l0));
  const front: Run[] = [];
  for (const run of sorted) {
    const last = front.at(-1);
    const isEqual = last?.l0 === run.l0 && last.normalizedMse === run.normalizedMse;
    if (last === undefined || run.normalizedMse < last.normalizedMse || isEqual) front.push(run);
  }
  return front;
}

/** Not a difference: infinity minus itself is not a number. */
function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Options of {@linkcode plotParetoFront}. */
export interface ParetoPlotOptions extends FigureOptions {
  /** Runs to name. By default all if there is room (11 at 360 pixels, 20 at 640), else those on the front. */
  labels?: "all" | "front" | "none";
}

const PX_PER_LABEL = 32;

/**
 * A dot for each run at its L0 and normalized MSE, both on log scales. The front is in the accent color, with a line
 * along what it attains; runs that another one beats at both are paler.
 *
 * @throws {RangeError} If `labels` is unknown.
 */
export function plotParetoFront(runs: readonly ParetoRun[], options: ParetoPlotOptions = {}): Figure {
  const shown = runs.filter(({ l0, normalizedMse }) => [l0, normalizedMse].every((v) => v > 0 && Number.isFinite(v)));
  const front = paretoFront(shown);
  const beaten = shown.filter((run) => !front.includes(run));
  const { widthPx = 640, heightPx = 420 } = options;
  const { labels = shown.length * PX_PER_LABEL > widthPx ? "front" : "all" } = options;
  if (labels !== "all" && labels !== "front" && labels !== "none") {
    throw new RangeError(
      `Cannot draw Pareto front: labels must be "all", "front" or "none", current value is "${labels}"`,
    );
  }
  const {
    title = "Sparse or faithful",
    subtitle = `${formatCount(front.length)} of ${formatCount(shown.length)} runs ${
      front.length === 1 ? "is" : "are"
    } on the Pareto front`,
    caption = describeHidden(runs.length - shown.length),
  } = options;
  const words = { ...options, title, subtitle, caption, heightPx };
  if (shown.length === 0) return drawMessage("No run has both an L0 and a normalized MSE above 0", words);

  const xDomain = paddedDomain(shown.map(({ l0 }) => l0));
  const yDomain = paddedDomain(shown.map(({ normalizedMse }) => normalizedMse));
  // A step line: what lies between two runs of the front has not been shown to be possible.
  const steps = front.flatMap(({ l0, normalizedMse }, i) =>
    i === 0 ? [{ x: l0, y: normalizedMse }] : [{ x: l0, y: front[i - 1].normalizedMse }, { x: l0, y: normalizedMse }]
  );
  const edge = [
    { x: front[0].l0, y: yDomain[1] },
    ...steps,
    { x: xDomain[1], y: front[front.length - 1].normalizedMse },
  ];
  const dot = {
    x: "l0",
    y: "normalizedMse",
    title: (run: ParetoRun) =>
      `${run.name}\nL0 ${formatValue(run.l0)}\nnormalized MSE ${formatValue(run.normalizedMse)}`,
  };
  // Names of runs keep off the name of the y axis, which stands above the frame.
  const axisName = [1.04, 1.08].map((share) => yDomain[0] * (yDomain[1] / yDomain[0]) ** share)
    .flatMap((y) => alongLine([{ x: xDomain[0], y }, { x: xDomain[0] * (xDomain[1] / xDomain[0]) ** 0.4, y }]));
  const named = labels === "none" ? [] : labels === "front" ? front : [...front, ...beaten];
  const hidden = labels === "front" ? beaten : [];
  return drawFigure({
    ...margins,
    x: { type: "log", domain: xDomain },
    y: { type: "log", domain: yDomain },
    marks: [
      Plot.gridX(logTicks(...xDomain), { stroke: palette.rule, strokeOpacity: 1 }),
      xAxis({
        ticks: logTicks(...xDomain),
        tickFormat: formatValue,
        label: "L0 (mean active latents a token, log scale)",
      }),
      yAxis({ ticks: logTicks(...yDomain), tickFormat: formatValue, label: "normalized MSE (log scale)" }),
      Plot.line(edge, { x: "x", y: "y", stroke: palette.accent, strokeWidth: 1.5, strokeOpacity: 0.55 }),
      Plot.dot(beaten, { ...dot, r: 4, fill: palette.data, fillOpacity: 0.55 }),
      Plot.dot(front, { ...dot, r: 5, fill: palette.accent, stroke: palette.paper, strokeWidth: 1.25 }),
      labelMark(named.map(({ l0, normalizedMse, name }) => ({ x: l0, y: normalizedMse, text: name })), {
        avoid: [
          ...alongLine(edge),
          ...axisName,
          ...hidden.map(({ l0, normalizedMse }) => ({ x: l0, y: normalizedMse })),
        ],
      }),
    ],
  }, words);
}

function describeHidden(nHidden: number): string {
  if (nHidden === 0) return "";
  return nHidden === 1
    ? "1 run without an L0 and a normalized MSE above 0 is not shown."
    : `${formatCount(nHidden)} runs without an L0 and a normalized MSE above 0 are not shown.`;
}

/** Points along a line on log scales, close enough together that no label fits between them. */
function alongLine(points: readonly { x: number; y: number }[]): { x: number; y: number }[] {
  const nParts = 40;
  return points.slice(1).flatMap((end, i) =>
    Array.from({ length: nParts }, (_, part) => {
      const share = part / nParts;
      return {
        x: points[i].x ** (1 - share) * end.x ** share,
        y: points[i].y ** (1 - share) * end.y ** share,
      };
    })
  );
}

function paddedDomain(values: readonly number[]): [number, number] {
  const lower = values.reduce((least, value) => Math.min(least, value), Infinity);
  const upper = values.reduce((most, value) => Math.max(most, value), 0);
  const padding = Math.max((upper / lower) ** 0.08, 1.15);
  return [lower / padding, upper * padding];
}
