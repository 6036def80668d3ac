/**
 * Labels next to points that do not cover each other, as marks for Observable Plot. Plot draws every label where it is
 * told, which is unreadable where points crowd together.
 *
 * @module
 */
import type * as Plot from "@observablehq/plot";
import { palette } from "./frame.ts";
import { textWidthPx } from "./words.ts";

/** A point with words, in data values. */
export interface LabeledPoint {
  /** Value on the x axis. */
  readonly x: number;
  /** Value on the y axis. */
  readonly y: number;
  /** The label. */
  readonly text: string;
}

/** Labels that {@linkcode stairRows} or {@linkcode placeLabels} arrange, in pixels. */
export interface PixelLabel {
  /** Of the point. */
  readonly x: number;
  /** Of the point. */
  readonly y: number;
  /** Of the text. */
  readonly widthPx: number;
}

/** Where a label ended up. */
export interface PlacedLabel {
  /** Left edge in pixels. */
  readonly x: number;
  /** Middle of the line of text in pixels. */
  readonly y: number;
  /** Whether it is so far from its point that a line should join them. */
  readonly far: boolean;
}

const LINE_PX = 15;
const GAP_PX = 6;

/**
 * Rows for labels that start right of vertical lines, so that no line crosses the label of another: the further left,
 * the higher. Row 0 is the lowest.
 *
 * @param labels Sorted by `x`, ascending.
 */
export function stairRows(labels: readonly Pick<PixelLabel, "x" | "widthPx">[]): number[] {
  const rows: number[] = new Array(labels.length).fill(0);
  for (let i = labels.length - 2; i >= 0; i--) {
    for (let j = i + 1; j < labels.length && labels[j].x < labels[i].x + labels[i].widthPx + GAP_PX; j++) {
      rows[i] = Math.max(rows[i], rows[j] + 1);
    }
  }
  return rows;
}

/** Options of {@linkcode placeLabels}. */
export interface PlaceLabelsOptions {
  /** Left edge to stay inside; the upper edge is 0. @default {0} */
  leftPx?: number;
  /** Right edge to stay inside. */
  rightPx: number;
  /** Lower edge to stay inside. */
  bottomPx: number;
  /** Other points, in pixels, that labels should not cover. @default {[]} */
  avoid?: readonly { readonly x: number; readonly y: number }[];
}

/**
 * Positions for labels around their points, near ones first, that avoid each other, all the points, and the edges.
 *
 * @param labels Points in pixels.
 */
export function placeLabels(
  labels: readonly PixelLabel[],
  options: PlaceLabelsOptions,
): PlacedLabel[] {
  const { leftPx = 0, rightPx, bottomPx, avoid = [] } = options;
  const around = (radius: number) => ({ x, y }: { x: number; y: number }): Box => (
    { left: x - radius, right: x + radius, top: y - radius, bottom: y + radius }
  );
  const taken: Box[] = [...labels.map(around(5)), ...avoid.map(around(1))];
  return labels.map(({ x, y, widthPx }) => {
    let best: { x: number; y: number; far: boolean; box: Box } | undefined;
    for (const distance of [10, 22, 36, 52, 70]) {
      for (const [across, down] of DIRECTIONS) {
        const left = across > 0
          ? x + distance * across
          : across < 0
          ? x + distance * across - widthPx
          : x - widthPx / 2;
        const middle = y + distance * down;
        const box = { left, right: left + widthPx, top: middle - LINE_PX / 2, bottom: middle + LINE_PX / 2 };
        const inside = box.left >= leftPx && box.right <= rightPx && box.top >= 0 && box.bottom <= bottomPx;
        if (!inside) continue;
        const candidate = { x: left, y: middle, far: distance > 10, box };
        best ??= candidate;
        if (taken.every((other) => !overlaps(box, other))) {
          taken.push(box);
          return candidate;
        }
      }
    }
    // Nowhere is free: cover something rather than leave the point without its name.
    const { box, ...place } = best ?? { x: x + 10, y, far: false, box: taken[0] };
    taken.push(box);
    return place;
  }).map(({ x, y, far }) => ({ x, y, far }));
}

/** Right, upper left, lower right, left, up, down, then the other corners. */
const DIRECTIONS = [[1, 0], [-0.7, -1], [0.7, 1], [-1, 0], [0, -1.2], [0, 1.2], [0.7, -1], [-0.7, 1]] as const;

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

function overlaps(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** Options of {@linkcode labelMark}. */
export interface LabelMarkOptions {
  /** Height of the letters in pixels. @default {12} */
  fontSizePx?: number;
  /** Other points, in data values, that labels should not cover. @default {[]} */
  avoid?: readonly { readonly x: number; readonly y: number }[];
}

/** A Plot mark that writes a label beside each point, on a white halo, joined by a line where it had to move away. */
export function labelMark(points: readonly LabeledPoint[], options: LabelMarkOptions = {}): Plot.RenderFunction {
  const { fontSizePx = 12, avoid = [] } = options;
  return (_index, scales, _values, dimensions, context) => {
    const toPx = scales as unknown as { x: (value: number) => number; y: (value: number) => number };
    const { document } = context as unknown as { document: Document };
    const create = (name: string, attributes: Record<string, string | number>) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
      return element;
    };
    const labels = points.map(({ x, y, text }) => ({
      x: toPx.x(x),
      y: toPx.y(y),
      widthPx: textWidthPx(text, fontSizePx),
    }));
    const places = placeLabels(labels, {
      leftPx: dimensions.marginLeft,
      rightPx: dimensions.width,
      bottomPx: dimensions.height - dimensions.marginBottom,
      avoid: avoid.map(({ x, y }) => ({ x: toPx.x(x), y: toPx.y(y) })),
    });
    const group = create("g", { "aria-label": "label", "font-size": fontSizePx, "text-anchor": "start" });
    places.forEach((place, i) => {
      const { x, y, widthPx } = labels[i];
      if (place.far) {
        const end = Math.min(Math.max(x, place.x), place.x + widthPx);
        group.append(
          create("line", { x1: x, y1: y, x2: end, y2: place.y, stroke: palette.muted, "stroke-width": 0.75 }),
        );
      }
      // The halo is a copy below, as not every SVG reader knows paint-order. A label left of its point is anchored at
      // its end, where its exact width does not matter.
      const left = place.x + widthPx <= x;
      const at = {
        x: left ? place.x + widthPx : place.x,
        y: place.y + fontSizePx * 0.36,
        "text-anchor": left ? "end" : "start",
      };
      const halo = create("text", { ...at, stroke: palette.paper, "stroke-width": 3, "stroke-linejoin": "round" });
      const text = create("text", { ...at, fill: palette.ink });
      halo.textContent = text.textContent = points[i].text;
      group.append(halo, text);
    });
    return group as unknown as SVGElement;
  };
}
