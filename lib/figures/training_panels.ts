/**
 * One panel of a training plot: a quantity over tokens seen, for one or more runs. The values as measured are drawn
 * pale, their running mean in full color, held-out values as dots, and a cross where a value cannot be drawn.
 *
 * @module
 */
import * as Plot from "@observablehq/plot";
import { type CurvePoint, cutCurve, smoothCurve, thinCurve } from "./curve.ts";
import { figureDocument } from "./dom.ts";
import { countTicks, formatCount, formatShare, formatValue, logTicks } from "./format.ts";
import { margins, palette, xAxis, yAxis } from "./frame.ts";
import type { HeldOutPoint, TrainingField, TrainingPoint } from "./training_point.ts";

/** A curve with its color and the dots that belong to it. */
export interface PanelRun {
  readonly name: string;
  readonly points: readonly TrainingPoint[];
  readonly heldOut: readonly HeldOutPoint[];
  readonly color: string;
  /** Latents of its dictionary, to show dead ones as a share. */
  readonly dSae?: number;
}

/** What a panel is drawn with. */
export interface PanelOptions {
  readonly field: TrainingField;
  readonly widthPx: number;
  readonly heightPx: number;
  /** Tokens at the right edge. */
  readonly mostTokens: number;
  /** Whether the x axis is written below this panel. */
  readonly hasAxis: boolean;
}

/** Room above a panel for the name of its y axis, and below it with and without an x axis, in pixels. */
export const panelRoom = { top: margins.marginTop, axis: margins.marginBottom, gap: 14 } as const;

const MARGIN_RIGHT = 20;
const PX_PER_TICK = 52;

/** How a quantity is shown; `auto` is logarithmic where the largest value is over 20 times the smallest. */
const looks: Readonly<Record<TrainingField, { name: string; axis: "log" | "linear" | "auto"; isSmoothed: boolean }>> = {
  loss: { name: "loss", axis: "auto", isSmoothed: true },
  mse: { name: "mean squared error", axis: "log", isSmoothed: true },
  normalizedMse: { name: "normalized MSE", axis: "log", isSmoothed: true },
  l0: { name: "L0", axis: "auto", isSmoothed: true },
  l1: { name: "L1", axis: "auto", isSmoothed: true },
  nDead: { name: "dead latents", axis: "linear", isSmoothed: false },
  learningRate: { name: "learning rate", axis: "linear", isSmoothed: false },
  gradientNorm: { name: "gradient norm", axis: "auto", isSmoothed: true },
  tokensPerSecond: { name: "tokens per second", axis: "linear", isSmoothed: true },
};

/** Quantities that a panel can show. */
export const trainingFields = Object.keys(looks) as readonly TrainingField[];

/** Whether a value of a quantity has a place in its panel. */
export function isDrawable(field: TrainingField, value: number): boolean {
  return Number.isFinite(value) && (looks[field].axis !== "log" || value > 0);
}

/** A panel, as an SVG element of the figure document. The last run is drawn on top. */
export function drawPanel(runs: readonly PanelRun[], options: PanelOptions): Element {
  const { field, widthPx, heightPx, mostTokens, hasAxis } = options;
  const isShare = field === "nDead" && runs.every(({ dSae }) => dSae !== undefined);
  const curveOf = (points: readonly HeldOutPoint[], dSae = 1): CurvePoint[] =>
    points.filter((point) => point[field] !== undefined && Number.isFinite(point.nTokens))
      .map((point) => ({ x: point.nTokens, y: point[field]! / (isShare ? dSae : 1) }));
  const curves = runs.map(({ points, heldOut, color, dSae }) => (
    { line: curveOf(points, dSae), dots: curveOf(heldOut, dSae), color }
  ));
  const range = finiteRange(curves.flatMap(({ line, dots }) => [line, dots]), looks[field].axis === "log");
  const isLog = looks[field].axis === "log" ||
    looks[field].axis === "auto" && range[0] > 0 && range[1] > 20 * range[0];
  const domain = isLog ? paddedLog(range) : paddedLinear(range, isShare ? 0.01 : 1);

  const nColumns = widthPx - margins.marginLeft - MARGIN_RIGHT;
  const plotPx = heightPx - panelRoom.top - (hasAxis ? panelRoom.axis : panelRoom.gap);
  const unit = tokenUnit(mostTokens);
  const xTicks = linearTicks(mostTokens / unit.tokens, Math.floor(nColumns / PX_PER_TICK)).map((t) => t * unit.tokens);
  const sizes = new Set(runs.map(({ dSae }) => dSae));
  const name = !isShare
    ? looks[field].name
    : sizes.size === 1
    ? `${looks[field].name} of ${formatCount(runs[0].dSae!)}`
    : `${looks[field].name} (share)`;
  const most = Math.max(2, Math.floor(plotPx / 24));
  const marks: Plot.Markish[] = [
    yAxis({
      ticks: isLog ? fewLogTicks(domain, most) : symmetricTicks(domain, most),
      tickFormat: isShare ? formatShare : formatValue,
      label: isLog ? `${name} (log scale)` : name,
    }),
  ].flat();
  if (hasAxis) {
    marks.push(xAxis({
      ticks: xTicks,
      tickFormat: (tick) => formatValue(tick / unit.tokens),
      label: unit.name === "" ? "tokens seen" : `tokens seen (${unit.name})`,
    }));
  }
  const dots: Plot.Markish[] = [];
  const gaps = new Map<string, { x: number; color: string }>();
  for (const { line, dots: heldOut, color } of curves) {
    const cut = cutCurve(line, { isLog });
    const heldOutCut = cutCurve(heldOut, { isLog });
    const thin = (points: readonly CurvePoint[]) => thinCurve(points, { lower: 0, upper: mostTokens, nColumns });
    const halfWidth = Math.floor(line.length / 80);
    const isSmoothed = looks[field].isSmoothed && halfWidth >= 2;
    const style = { x: "x", y: "y", stroke: color, strokeLinecap: "round" as const, strokeLinejoin: "round" as const };
    for (const [i, piece] of cut.pieces.entries()) {
      const faded = isSmoothed
        ? { strokeWidth: 1, strokeOpacity: curves.length > 1 ? 0.3 : 0.5 }
        : { strokeWidth: 1.75 };
      marks.push(Plot.line(thin(piece), { ...style, ...faded }));
      if (isSmoothed) {
        marks.push(
          Plot.line(thin(smoothCurve(piece, { halfWidth, isLog, hasSteepStart: i === 0 })), {
            ...style,
            strokeWidth: 2,
          }),
        );
      }
    }
    dots.push(Plot.dot(heldOutCut.pieces.flat(), {
      x: "x",
      y: "y",
      r: 3.5,
      fill: palette.paper,
      stroke: color,
      strokeWidth: 1.75,
    }));
    for (const x of [...cut.gaps, ...heldOutCut.gaps]) {
      const place = `${color} ${Math.floor(x / mostTokens * nColumns / 8)}`; // crosses side by side, not a smear
      if (!gaps.has(place)) gaps.set(place, { x, color });
    }
  }
  return Plot.plot({
    ...margins,
    marginRight: MARGIN_RIGHT,
    marginBottom: hasAxis ? panelRoom.axis : panelRoom.gap,
    width: widthPx,
    height: heightPx,
    document: figureDocument(),
    x: { domain: [0, mostTokens], axis: null }, // or Plot adds an axis where none is drawn by hand
    y: { type: isLog ? "log" : "linear", domain },
    marks: [
      Plot.gridX(xTicks, { stroke: palette.rule, strokeOpacity: 1 }),
      ...marks,
      ...dots,
      Plot.dot([...gaps.values()], {
        x: "x",
        frameAnchor: "bottom",
        dy: -5,
        r: 3.5,
        symbol: "times",
        stroke: curves.length > 1 ? "color" : palette.accent,
        strokeWidth: 1.75,
      }),
    ],
    color: { type: "identity" },
  });
}

/** Smallest and largest value that can be drawn; [1, 1] if there is none. */
function finiteRange(curves: readonly CurvePoint[][], isLog: boolean): [number, number] {
  let lower = Infinity;
  let upper = -Infinity;
  for (const curve of curves) {
    for (const { y } of curve) {
      if (!Number.isFinite(y) || isLog && y <= 0) continue;
      lower = Math.min(lower, y);
      upper = Math.max(upper, y);
    }
  }
  return lower <= upper ? [lower, upper] : [1, 1];
}

function paddedLog([lower, upper]: [number, number]): [number, number] {
  const padding = Math.max((upper / lower) ** 0.05, 1.1);
  return [lower / padding, upper * padding];
}

/** From 0, or from the smallest value if that is negative; `least` high if all is 0. */
function paddedLinear([lower, upper]: [number, number], least: number): [number, number] {
  if (lower === 0 && upper === 0) return [0, least];
  return [Math.min(0, lower * 1.08), Math.max(0, upper * 1.08)];
}

/** Round marks from 0 to `most`, which may be far below 1, at most about `nSteps` steps. */
function linearTicks(most: number, nSteps: number): number[] {
  if (!(most > 0)) return [0];
  const exponent = Math.floor(Math.log10(most)) - 2;
  const scaled = Number((most * 10 ** -exponent).toPrecision(12));
  return countTicks(scaled, Math.max(1, nSteps)).map((tick) => Number(`${tick}e${exponent}`));
}

function symmetricTicks([lower, upper]: [number, number], nSteps: number): number[] {
  const below = lower < 0 ? linearTicks(-lower, nSteps / 2).filter((tick) => tick > 0).map((tick) => -tick) : [];
  return [...below.reverse(), ...linearTicks(upper, lower < 0 ? nSteps / 2 : nSteps)];
}

/** Marks of a short logarithmic axis: decades if 1, 2, 5 are too many, and only some of those if they are. */
function fewLogTicks(domain: [number, number], most: number): number[] {
  const ticks = logTicks(...domain);
  if (ticks.length <= most) return ticks;
  const decades = ticks.filter((tick) => Math.abs(Math.log10(tick) - Math.round(Math.log10(tick))) < 1e-9);
  if (decades.length < 2) {
    const step = Math.ceil(ticks.length / most);
    return ticks.filter((_, i) => i % step === 0);
  }
  const step = Math.ceil(decades.length / most);
  return decades.filter((_, i) => i % step === 0);
}

/** The unit in which a number of tokens reads well. */
export function tokenUnit(nTokens: number): { tokens: number; name: string; letter: string } {
  if (nTokens >= 1e9) return { tokens: 1e9, name: "billions", letter: "G" };
  if (nTokens >= 1e6) return { tokens: 1e6, name: "millions", letter: "M" };
  if (nTokens >= 1e4) return { tokens: 1e3, name: "thousands", letter: "k" };
  return { tokens: 1, name: "", letter: "" };
}
