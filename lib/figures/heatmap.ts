/**
 * A latent's activation on each patch as colors: the stronger, the further along the colormap and the less transparent.
 * The recipe is saev's, so that pictures look alike: color by `floor(256 v)`, alpha by `floor(255 v opacity)`, where
 * `v` is the value divided by the upper value.
 *
 * @module
 */
import { type Colormap, colormapTable } from "./colormap.ts";

/** Options of {@linkcode heatmapRgba}. */
export interface HeatmapOptions {
  /** Patches in a row. */
  gridWidth: number;
  /** Patches in a column. */
  gridHeight: number;
  /** Value of the strongest color; larger values get it too. By default the largest of the values. */
  upper?: number;
  /** Colors from weak to strong. @default {"plasma"} */
  colormap?: Colormap;
  /** Alpha of the strongest color, in [0, 1]. @default {0.9} */
  opacity?: number;
}

/**
 * Colors of one image's patches. Values at or below zero, and `NaN`, are invisible.
 *
 * @param values Shape [nPatches], row-major in the patch grid.
 * @returns Shape [gridHeight, gridWidth, 4], RGBA bytes, alpha not multiplied in.
 * @throws {RangeError} If the number of values does not fit the grid, or an option is out of range.
 */
export function heatmapRgba(values: ArrayLike<number>, options: HeatmapOptions): Uint8Array {
  const { gridWidth, gridHeight, upper = largest(values), colormap = "plasma", opacity = 0.9 } = options;
  if (values.length !== gridWidth * gridHeight) {
    throw new RangeError(
      `Cannot draw heat map: there must be ${gridWidth} x ${gridHeight} values, current number is ${values.length}`,
    );
  }
  if (!(opacity >= 0 && opacity <= 1)) {
    throw new RangeError(`Cannot draw heat map: opacity must be between 0 and 1, current value is ${opacity}`);
  }
  const table = colormapTable(colormap);
  const rgba = new Uint8Array(4 * values.length);
  for (let i = 0; i < values.length; i++) {
    const v = Math.min(1, values[i] / upper);
    // Also false where the value is NaN, or where nothing at all is active and `upper` is 0.
    if (!(v > 0)) continue;
    const step = Math.min(255, Math.floor(256 * v));
    rgba[4 * i] = table[3 * step];
    rgba[4 * i + 1] = table[3 * step + 1];
    rgba[4 * i + 2] = table[3 * step + 2];
    rgba[4 * i + 3] = Math.floor(255 * v * opacity);
  }
  return rgba;
}

/** The largest of the values that are above zero; 0 if there are none. */
export function largest(values: ArrayLike<number>): number {
  let upper = 0;
  for (let i = 0; i < values.length; i++) if (values[i] > upper) upper = values[i];
  return upper;
}

/** Size of {@linkcode enlargeHeat}'s input and output. */
export interface EnlargeHeatOptions {
  /** Patches in a row. */
  gridWidth: number;
  /** Patches in a column. */
  gridHeight: number;
  /** Width and height of the result in pixels. */
  sizePx: number;
  /** Blend between the middles of patches instead of drawing them as blocks. @default {false} */
  smooth?: boolean;
}

/**
 * Patch values spread over a square of pixels. Smoothing blends values rather than colors, so that a halfway pixel has
 * the color of the halfway value.
 *
 * @param values Shape [nPatches], row-major in the patch grid.
 * @returns Shape [sizePx, sizePx].
 */
export function enlargeHeat(values: ArrayLike<number>, options: EnlargeHeatOptions): Float32Array {
  const { gridWidth, gridHeight, sizePx, smooth = false } = options;
  const pixels = new Float32Array(sizePx * sizePx);
  const clampTo = (v: number, size: number) => Math.min(size - 1, Math.max(0, v));
  for (let y = 0; y < sizePx; y++) {
    for (let x = 0; x < sizePx; x++) {
      const column = (x + 0.5) * gridWidth / sizePx;
      const row = (y + 0.5) * gridHeight / sizePx;
      if (!smooth) {
        pixels[y * sizePx + x] = values[Math.floor(row) * gridWidth + Math.floor(column)];
        continue;
      }
      const left = clampTo(Math.floor(column - 0.5), gridWidth);
      const right = clampTo(Math.floor(column + 0.5), gridWidth);
      const top = clampTo(Math.floor(row - 0.5), gridHeight) * gridWidth;
      const bottom = clampTo(Math.floor(row + 0.5), gridHeight) * gridWidth;
      const across = column - 0.5 - Math.floor(column - 0.5);
      const down = row - 0.5 - Math.floor(row - 0.5);
      const above = Math.max(0, values[top + left]) * (1 - across) + Math.max(0, values[top + right]) * across;
      const below = Math.max(0, values[bottom + left]) * (1 - across) + Math.max(0, values[bottom + right]) * across;
      pixels[y * sizePx + x] = above * (1 - down) + below * down;
    }
  }
  return pixels;
}
