/**
 * Colors for heat maps as tables of 256 steps. They come from Observable Plot's color schemes, so plots and pictures
 * agree; plasma has the bytes of matplotlib, from which saev's heat maps differ by rounding alone.
 *
 * @module
 */
import * as Plot from "@observablehq/plot";

/** Names of the color tables: two of many hues, two of a single one. */
export const colormaps = ["plasma", "viridis", "reds", "blues"] as const;

/** Name of a color table. */
export type Colormap = typeof colormaps[number];

const tables = new Map<Colormap, Uint8Array>();

/**
 * Shape [256, 3], RGB bytes from the color of 0 to the color of the upper value. Shared: do not write to it.
 *
 * @throws {RangeError} If there is no such colormap.
 */
export function colormapTable(colormap: Colormap): Uint8Array {
  if (!colormaps.includes(colormap)) {
    throw new RangeError(
      `Cannot find colormap: name must be one of ${colormaps.join(", ")}, current value is "${colormap}"`,
    );
  }
  let table = tables.get(colormap);
  if (table === undefined) {
    const scale = Plot.scale({ color: { type: "linear", scheme: colormap, domain: [0, 1] } });
    table = new Uint8Array(256 * 3);
    for (let i = 0; i < 256; i++) table.set(parseColor(scale.apply(i / 255)), 3 * i);
    tables.set(colormap, table);
  }
  return table;
}

/** Schemes give `#rrggbb` or `rgb(r, g, b)`. */
function parseColor(color: string): number[] {
  return color.startsWith("#")
    ? [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16))
    : color.match(/\d+/g)!.slice(0, 3).map(Number);
}
