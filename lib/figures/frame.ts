/**
 * The look that all plots share: one type family, quiet axes, title and caption around an Observable Plot drawing.
 * Colors are the author's choice from a color-blind-safe pair, steel blue for data and vermilion for what is pointed at.
 *
 * @module
 */
import * as Plot from "@observablehq/plot";
import { escapeXml, figureDocument, serializeSvg } from "./dom.ts";
import type { Figure } from "./figure.ts";
import { wrapText } from "./words.ts";

/** Colors of all figures. */
export const palette = {
  ink: "#1f2933",
  muted: "#616e7c",
  rule: "#e4e7eb",
  data: "#7b9cc0",
  accent: "#c2410c",
  paper: "#ffffff",
} as const;

/** Every name has the same letters as a web font, a system font, and on a bare Linux machine. */
export const fontFamily = "Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif";

/** Size and words of a figure. Words that are too long for its width take further lines. */
export interface FigureOptions {
  /** Width in pixels. @default {640} */
  widthPx?: number;
  /** Height in pixels, words included. @default {360} */
  heightPx?: number;
  /** First line; an empty string leaves it out. By default it says what is shown. */
  title?: string;
  /** Second line; an empty string leaves it out. By default it gives the numbers that the plot rests on. */
  subtitle?: string;
  /** Small print below; line breaks are kept. By default none, or what the axes cannot show. */
  caption?: string;
}

const EDGE_PX = 16;

/** How lines are set; the first one takes `firstPx`, each further one `linePx`. */
const titleLines = { fontSizePx: 16, firstPx: 24, linePx: 21 } as const;
const subtitleLines = { fontSizePx: 12.5, firstPx: 20, linePx: 17 } as const;
const captionLines = { fontSizePx: 11.5, firstPx: 16, linePx: 16 } as const;

interface FrameLine {
  readonly text: string;
  /** Baseline, from the top of the figure, or of the caption. */
  readonly y: number;
}

/** The words of a figure in lines, and the room they take. */
interface FrameWords {
  readonly title: readonly FrameLine[];
  readonly subtitle: readonly FrameLine[];
  readonly caption: readonly FrameLine[];
  readonly topPx: number;
  readonly bottomPx: number;
}

function setWords({ widthPx = 640, title = "", subtitle = "", caption = "" }: FigureOptions): FrameWords {
  const roomPx = widthPx - 2 * EDGE_PX;
  const set = (text: string, { fontSizePx, linePx }: { fontSizePx: number; linePx: number }, firstY: number) =>
    wrapText(text, { roomPx, fontSizePx }).map((text, i) => ({ text, y: firstY + i * linePx }));
  const heightPx = ({ length }: readonly FrameLine[], { firstPx, linePx }: { firstPx: number; linePx: number }) =>
    length === 0 ? 0 : firstPx + (length - 1) * linePx;
  const lines = set(title, titleLines, EDGE_PX + 13);
  const titlePx = heightPx(lines, titleLines);
  const below = set(subtitle, subtitleLines, EDGE_PX + 13 + Math.max(0, titlePx - 2));
  const small = set(caption, captionLines, 14);
  return {
    title: lines,
    subtitle: below,
    caption: small,
    topPx: EDGE_PX + titlePx + heightPx(below, subtitleLines),
    bottomPx: heightPx(small, captionLines) + (small.length > 0 ? 18 : 8),
  };
}

/** Height that words and edges take of a figure, in pixels. */
export function frameHeightPx(options: FigureOptions): number {
  const { topPx, bottomPx } = setWords(options);
  return topPx + bottomPx;
}

/**
 * Draw Plot options inside the frame.
 *
 * @param plotOptions Marks, scales and margins; its width and height are set here.
 * @throws {RangeError} If there is no room left for the plot.
 */
export function drawFigure(plotOptions: Plot.PlotOptions, options: FigureOptions): Figure {
  const { widthPx = 640, heightPx = 360, title = "" } = options;
  const words = setWords(options);
  const { topPx, bottomPx } = words;
  const height = heightPx - topPx - bottomPx;
  if (!(widthPx >= 160) || !(height >= 80)) {
    throw new RangeError(
      `Cannot draw figure: size must be at least 160 x ${
        80 + topPx + bottomPx
      } px, current size is ${widthPx} x ${heightPx}`,
    );
  }
  const drawing = Plot.plot({ ...plotOptions, width: widthPx, height, document: figureDocument() });
  const marks = Array.from(drawing.childNodes).map(serializeSvg).join("").replaceAll("currentColor", palette.muted);
  const line = ({ text, y }: FrameLine, sizePx: number, color: string, weight = 400) =>
    `<text x="${EDGE_PX}" y="${y}" font-size="${sizePx}" font-weight="${weight}" fill="${color}">${
      escapeXml(text)
    }</text>`;
  const svg = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${widthPx}" height="${heightPx}" ` +
    `viewBox="0 0 ${widthPx} ${heightPx}" role="img" aria-label="${escapeXml(title)}" font-family="${fontFamily}">`,
    `<rect width="${widthPx}" height="${heightPx}" fill="${palette.paper}"/>`,
    ...words.title.map((own) => line(own, titleLines.fontSizePx, palette.ink, 600)),
    ...words.subtitle.map((own) => line(own, subtitleLines.fontSizePx, palette.muted)),
    `<g transform="translate(0,${topPx})" font-size="12" fill="${palette.muted}" text-anchor="middle" ` +
    `font-variant="tabular-nums">${marks}</g>`,
    ...words.caption.map(({ text, y }) =>
      line({ text, y: topPx + height + y }, captionLines.fontSizePx, palette.muted)
    ),
    "</svg>",
  ].join("");
  return { svg, widthPx, heightPx };
}

/** Room around the marks, in pixels: the y label stands above the axis, in line with the title. */
export const margins = { marginTop: 26, marginRight: 28, marginBottom: 46, marginLeft: 64 } as const;

/** What an axis shows. */
export interface AxisOptions {
  /** Where the marks are, in data values. */
  ticks: readonly number[];
  /** What is written at a mark. */
  tickFormat: (value: number) => string;
  /** Name of the axis. */
  label: string;
}

/** A horizontal axis without tick strokes, its label in the middle. Every tick gets its label, also on log scales. */
export function xAxis({ ticks, tickFormat, label }: AxisOptions): Plot.Markish {
  return Plot.axisX(ticks, { ...quiet, text: tickFormat, label, labelAnchor: "center", labelOffset: 40 });
}

/** A vertical axis with thin grid lines, its label on top in line with the title. */
export function yAxis({ ticks, tickFormat, label }: AxisOptions): Plot.Markish[] {
  return [
    Plot.gridY(ticks, { stroke: palette.rule, strokeOpacity: 1 }),
    // The arrow tells the label from a subtitle's last line.
    Plot.axisY(ticks, {
      ...quiet,
      text: tickFormat,
      label,
      labelArrow: "up",
      labelOffset: margins.marginLeft - EDGE_PX,
    }),
  ];
}

const quiet = { tickSize: 0, labelArrow: "none" } as const;

/** A figure that only says why there is nothing to draw. */
export function drawMessage(message: string, options: FigureOptions): Figure {
  return drawFigure({
    axis: null,
    marks: [Plot.text([message], { frameAnchor: "middle", fontSize: 14, fill: palette.muted })],
  }, options);
}
