/**
 * The legend of a training plot. Observable Plot's own is HTML beside the drawing, which a figure of one SVG has no
 * place for.
 *
 * @module
 */
import { palette } from "./frame.ts";
import type { PanelRun } from "./training_panels.ts";
import { textWidthPx } from "./words.ts";

const SWATCH_PX = 22;
const LETTER_PX = 12;
const LINE_PX = 20;

interface LegendEntry {
  readonly text: string;
  /** Of the line; a held-out dot if there is none. */
  readonly color?: string;
  readonly x: number;
  readonly row: number;
}

/** A legend that knows how much room it takes. */
export interface Legend {
  /** Height in pixels, the gap below included; 0 if there is nothing to tell apart. */
  readonly heightPx: number;
  /** Its elements, from the top edge of what is drawn. */
  draw(document: Document): Element[];
}

/** Places names behind strokes of their colors, and a dot if there are held-out values, in as many rows as it takes. */
export function arrangeLegend(
  runs: readonly Pick<PanelRun, "name" | "color" | "heldOut">[],
  options: { leftPx: number; roomPx: number },
): Legend {
  const { leftPx, roomPx } = options;
  const entries: { text: string; color?: string }[] = runs.length > 1
    ? runs.map(({ name, color }) => ({ text: name, color }))
    : [];
  if (runs.some(({ heldOut }) => heldOut.length > 0)) entries.push({ text: "held out" });
  let x = 0;
  let row = 0;
  const placed = entries.map(({ text, color }): LegendEntry => {
    const mostLetters = Math.max(1, Math.floor((roomPx - SWATCH_PX) / textWidthPx("m", LETTER_PX)));
    const shown = text.length > mostLetters ? `${text.slice(0, mostLetters - 1)}…` : text;
    const width = SWATCH_PX + textWidthPx(shown, LETTER_PX);
    if (x > 0 && x + width > roomPx) {
      x = 0;
      row++;
    }
    const entry = { text: shown, color, x: leftPx + x, row };
    x += width + 12;
    return entry;
  });
  return {
    heightPx: placed.length === 0 ? 0 : (row + 1) * LINE_PX + 6,
    draw: (document) => placed.flatMap((entry) => drawEntry(document, entry)),
  };
}

function drawEntry(document: Document, { text, color, x, row }: LegendEntry): Element[] {
  const y = row * LINE_PX + LINE_PX / 2;
  const swatch = color === undefined
    ? createSvg(document, "circle", {
      cx: x + 8,
      cy: y,
      r: 3.5,
      fill: palette.paper,
      stroke: palette.muted,
      "stroke-width": 1.75,
    })
    : createSvg(document, "line", { x1: x, x2: x + 16, y1: y, y2: y, stroke: color, "stroke-width": 3 });
  const name = createSvg(document, "text", {
    x: x + SWATCH_PX,
    y: y + 4,
    fill: palette.ink,
    "font-size": LETTER_PX,
    "text-anchor": "start",
  });
  name.textContent = text;
  return [swatch, name];
}

/** An SVG element with attributes. */
export function createSvg(document: Document, name: string, attributes: Record<string, string | number>): Element {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}
