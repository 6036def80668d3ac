/**
 * Plots of a training run: what each quantity of the log did while tokens went by, alone or beside other runs. The
 * panels share the axis of tokens, because steps mean nothing across batch sizes.
 *
 * @module
 */
import type * as Plot from "@observablehq/plot";
import type { Figure } from "./figure.ts";
import { formatCount, formatShare, formatValue } from "./format.ts";
import { drawFigure, drawMessage, type FigureOptions, frameHeightPx, palette } from "./frame.ts";
import { arrangeLegend, createSvg } from "./training_legend.ts";
import { type HeldOutPoint, heldOutPoints, type TrainingField, type TrainingPoint } from "./training_point.ts";
import { drawPanel, isDrawable, panelRoom, type PanelRun, tokenUnit, trainingFields } from "./training_panels.ts";
import { textWidthPx } from "./words.ts";

/** A log with a name. */
export interface TrainingRun {
  /** Written in the legend. */
  readonly name: string;
  /** The log, in the order of the steps. */
  readonly points: readonly TrainingPoint[];
  /** The same quantities on held-out tokens, drawn as dots, beside those that points carry. */
  readonly heldOut?: readonly TrainingPoint[];
  /** Latents of its dictionary. By default as many as the first run's. */
  readonly dSae?: number;
}

/** Options of {@linkcode plotTraining}. */
export interface TrainingPlotOptions extends Omit<FigureOptions, "heightPx"> {
  /** Height in pixels, words included; by default what the panels need. */
  heightPx?: number;
  /** The same quantities on held-out tokens, drawn as dots, beside those that points carry. @default {[]} */
  heldOut?: readonly TrainingPoint[];
  /** Latents of the dictionary; with it, dead latents are shown as a share. By default as a count. */
  dSae?: number;
  /** At most six other runs to compare with. @default {[]} */
  runs?: readonly TrainingRun[];
  /** Name of the first run where there are others. @default {"this run"} */
  name?: string;
  /**
   * Quantities, each in a panel of its own; those that no run has are left out. By default the error of the
   * reconstruction (normalized MSE; where no run has it MSE, else the loss), L0, dead latents and the learning rate.
   */
  panels?: readonly TrainingField[];
}

/** One for each run. Any two differ by 15 or more in CIELAB under every common color blindness (Machado et al. 2009). */
const runColors = [palette.data, palette.accent, "#0f766e", "#d99a0b", "#581c87", palette.ink, "#d6518f"] as const;

const PANEL_PX = 118;
const LEAST_PANEL_PX = 36;
const TWO_COLUMNS_PX = 560;
const EDGE_PX = 16;
const SUBTITLE_LETTER_PX = 12.5;

/**
 * Panels of error (logarithmic), L0, dead latents and learning rate over tokens seen; two columns from 560 pixels on.
 * Values as measured are pale, their running mean is in full color, held-out values are dots. Logs of any length are
 * thinned to the pixels, lowest and highest values kept. Values that are not finite leave a gap with a cross.
 *
 * @param points The log, in the order of the steps; fields may be missing from some points or from all.
 * @throws {RangeError} If there are more than six other runs, a panel is unknown, `dSae` is not a positive integer, or
 * the size leaves no room.
 */
export function plotTraining(points: readonly TrainingPoint[], options: TrainingPlotOptions = {}): Figure {
  const { widthPx = 640, heldOut, runs = [], name = "this run", dSae } = options;
  checkOptions(options);
  const all: PanelRun[] = [{ name, points, heldOut, dSae }, ...runs].map((run, i) => (
    {
      name: run.name,
      points: run.points,
      heldOut: heldOutPoints(run.points, run),
      color: runColors[i],
      dSae: run.dSae ?? dSae,
    }
  )).filter((run) => run.points.length + run.heldOut.length > 0);
  const has = (field: TrainingField) => all.some((run) => pointsOf(run).some((point) => point[field] !== undefined));
  const error = (["normalizedMse", "mse", "loss"] as const).find(has) ?? "loss";
  const fields = (options.panels ?? [error, "l0", "nDead", "learningRate"] as const).filter(has);

  const roomPx = widthPx - 2 * EDGE_PX;
  const last = points.at(-1);
  const isAllDrawn = fields.every((field) =>
    all.every((run) => pointsOf(run).every((point) => point[field] === undefined || isDrawable(field, point[field]!)))
  );
  const {
    title = "Training",
    subtitle = last ? joinWhatFits(trainingFacts(last, { dSae }).slice(1), roomPx) : "",
    caption = isAllDrawn ? "" : "× not a number, infinite, or 0 on a log axis",
  } = options;
  const words = { widthPx, title, subtitle, caption };
  const mostTokens = mostOf(all.flatMap(pointsOf).map(({ nTokens }) => nTokens));
  if (fields.length === 0 || mostTokens === 0) {
    return drawMessage("Nothing logged yet", { ...words, heightPx: options.heightPx ?? 200 });
  }

  const legend = arrangeLegend(all, { leftPx: EDGE_PX, roomPx });
  const nColumns = fields.length > 1 && widthPx >= TWO_COLUMNS_PX ? 2 : 1;
  const nRows = Math.ceil(fields.length / nColumns);
  const fixedPx = legend.heightPx + nRows * panelRoom.top + (nRows - 1) * panelRoom.gap + panelRoom.axis;

  // The frame is drawn by the function that all plots share; the panels are a mark in it.
  const panels: Plot.RenderFunction = (_index, _scales, _values, dimensions, context) => {
    const { document } = context as unknown as { document: Document };
    const plotPx = Math.floor((dimensions.height - fixedPx) / nRows);
    if (plotPx < LEAST_PANEL_PX) {
      throw new RangeError(
        `Cannot draw training: heightPx must leave ${LEAST_PANEL_PX} px for each of ${nRows} rows of panels, ` +
          `current value is ${options.heightPx}, which leaves ${plotPx} px`,
      );
    }
    const group = createSvg(document, "g", {});
    const panelWidthPx = Math.floor(widthPx / nColumns);
    for (const [i, field] of fields.entries()) {
      const hasAxis = i + nColumns >= fields.length;
      const heightPx = panelRoom.top + plotPx + (hasAxis ? panelRoom.axis : panelRoom.gap);
      const drawing = drawPanel([...all].reverse(), {
        field,
        mostTokens,
        hasAxis,
        widthPx: panelWidthPx,
        heightPx,
      });
      const x = (i % nColumns) * panelWidthPx;
      const y = legend.heightPx + Math.floor(i / nColumns) * (panelRoom.top + plotPx + panelRoom.gap);
      const panel = createSvg(document, "g", { transform: `translate(${x},${y})` });
      panel.append(...Array.from(drawing.childNodes));
      group.append(panel);
    }
    group.append(...legend.draw(document));
    return group as unknown as SVGElement;
  };
  return drawFigure({ axis: null, margin: 0, marks: [panels] }, {
    ...words,
    heightPx: options.heightPx ?? frameHeightPx(words) + fixedPx + nRows * PANEL_PX,
  });
}

/** What a log line says, in words, the most telling first: `["step 1,200", "4.92 M tokens", "normalized MSE 0.213"]`. */
export function trainingFacts(point: TrainingPoint, options: { dSae?: number } = {}): string[] {
  const { step, nTokens, loss, normalizedMse, mse, l0, nDead, tokensPerSecond } = point;
  const { tokens, letter } = tokenUnit(nTokens);
  const seen = letter === "" ? formatCount(nTokens) : `${formatValue(nTokens / tokens)} ${letter}`;
  const facts = [`step ${formatCount(step)}`, `${seen} tokens`];
  if (normalizedMse !== undefined) facts.push(`normalized MSE ${formatValue(normalizedMse)}`);
  else if (mse !== undefined) facts.push(`MSE ${formatValue(mse)}`);
  else facts.push(`loss ${formatValue(loss)}`);
  if (l0 !== undefined) facts.push(`L0 ${formatValue(l0)}`);
  if (nDead !== undefined) {
    facts.push(options.dSae === undefined ? `${formatCount(nDead)} dead` : `${formatShare(nDead / options.dSae)} dead`);
  }
  if (tokensPerSecond !== undefined) facts.push(`${formatValue(tokensPerSecond)} tokens/s`);
  return facts;
}

/** As many facts, from the first on, as fit on a line of the subtitle. */
function joinWhatFits(facts: readonly string[], roomPx: number): string {
  let line = facts[0];
  for (const fact of facts.slice(1)) {
    if (textWidthPx(`${line}, ${fact}`, SUBTITLE_LETTER_PX) > roomPx) break;
    line += `, ${fact}`;
  }
  return line;
}

function pointsOf(run: PanelRun): HeldOutPoint[] {
  return [...run.points, ...run.heldOut];
}

function mostOf(values: readonly number[]): number {
  return values.reduce((most, value) => Number.isFinite(value) ? Math.max(most, value) : most, 0);
}

function checkOptions({ runs = [], panels = [], dSae }: TrainingPlotOptions): void {
  if (runs.length > runColors.length - 1) {
    throw new RangeError(
      `Cannot draw training: runs must be at most ${runColors.length - 1}, current number is ${runs.length}`,
    );
  }
  for (const panel of panels) {
    if (!trainingFields.includes(panel)) {
      throw new RangeError(
        `Cannot draw training: panels must be among ${trainingFields.join(", ")}, current value is "${panel}"`,
      );
    }
  }
  if (dSae !== undefined && !(Number.isInteger(dSae) && dSae > 0)) {
    throw new RangeError(`Cannot draw training: dSae must be a positive integer, current value is ${dSae}`);
  }
}
