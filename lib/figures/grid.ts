/**
 * A latent's strongest images as one picture: rows of square cells, each an image with its heat map on top. All cells
 * share one color scale, so a pale cell is a weak one.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import sharp from "sharp";
import type { RgbImage } from "../images/decode.ts";
import type { Colormap } from "./colormap.ts";
import { escapeXml } from "./dom.ts";
import { fontFamily, palette } from "./frame.ts";
import { enlargeHeat, heatmapRgba, largest } from "./heatmap.ts";

/** One image of a grid. */
export interface GridCell {
  /** The crop that the patch grid lies on, drawn as a square. */
  readonly image: RgbImage;
  /** Shape [nPatches], row-major: activation on each patch; without it the image is plain. */
  readonly heat?: ArrayLike<number>;
  /** A short line below the image, such as the activation or the name. */
  readonly caption?: string;
}

/** Options of {@linkcode imageGrid}. */
export interface ImageGridOptions {
  /** Patches in a row; needed if a cell has a heat map. By default as many as make the patch grid square. */
  gridWidth?: number;
  /** Cells in a row. @default {6} */
  columns?: number;
  /** Side of an image in pixels. @default {96} */
  cellPx?: number;
  /** Space between cells, and around all of them, in pixels. @default {8} */
  gapPx?: number;
  /** Alpha of the strongest heat color, in [0, 1]. @default {0.9} */
  opacity?: number;
  /** Colors from weak to strong. @default {"plasma"} */
  colormap?: Colormap;
  /** Blend the heat map between patches instead of drawing blocks. @default {false} */
  smooth?: boolean;
  /** Value of the strongest color. By default the largest over all cells. */
  upper?: number;
  /** Draw the plain image to the left of each image with its heat map. @default {false} */
  pairs?: boolean;
  /** A line above the grid. */
  title?: string;
}

const CAPTION_PX = 18;
const TITLE_PX = 30;

/**
 * Draw the grid. The input images are left as they are.
 *
 * @returns RGB pixels on white; {@linkcode toPng} and {@linkcode saveFigure} take it.
 * @throws {RangeError} If there are no cells, an option is out of range, or a heat map does not fit its grid.
 */
export async function imageGrid(cells: readonly GridCell[], options: ImageGridOptions = {}): Promise<RgbImage> {
  const { columns = 6, cellPx = 96, gapPx = 8, pairs = false, title = "" } = options;
  if (cells.length === 0) {
    throw new RangeError("Cannot draw grid: there must be at least one cell, current number is 0");
  }
  for (const [name, value, least] of [["columns", columns, 1], ["cellPx", cellPx, 8], ["gapPx", gapPx, 0]] as const) {
    if (!Number.isInteger(value) || value < least) {
      throw new RangeError(
        `Cannot draw grid: ${name} must be an integer of at least ${least}, current value is ${value}`,
      );
    }
  }
  const upper = options.upper ?? cells.reduce((most, { heat }) => Math.max(most, heat ? largest(heat) : 0), 0);
  const nColumns = Math.min(columns, cells.length);
  const nRows = Math.ceil(cells.length / nColumns);
  const captionPx = cells.some(({ caption }) => caption) ? CAPTION_PX : 0;
  const topPx = title ? TITLE_PX : 0;
  const pairPx = pairs ? 2 * cellPx + 2 : cellPx;
  const width = nColumns * (pairPx + gapPx) + gapPx;
  const height = topPx + nRows * (cellPx + captionPx + gapPx) + gapPx;
  const canvas: RgbImage = { width, height, data: new Uint8Array(3 * width * height).fill(255) };

  let words = title ? text(title, gapPx, 20, `font-size="14" font-weight="600" fill="${palette.ink}"`) : "";
  for (const [i, cell] of cells.entries()) {
    const left = gapPx + (i % nColumns) * (pairPx + gapPx);
    const top = topPx + gapPx + Math.floor(i / nColumns) * (cellPx + captionPx + gapPx);
    const plain = await resizeTo(cell.image, cellPx);
    const shown = cell.heat ? blendHeat(plain, cell.heat, cellPx, { ...options, upper }) : plain;
    if (pairs) paste(canvas, plain, cellPx, left, top);
    paste(canvas, shown, cellPx, left + pairPx - cellPx, top);
    if (cell.caption) {
      const fits = shorten(cell.caption, Math.floor(pairPx / 6.6));
      words += text(fits, left, top + cellPx + 13, `font-size="11" fill="${palette.muted}"`);
    }
  }
  if (words === "") return canvas;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `font-family="${fontFamily}">${words}</svg>`;
  const data = await sharp(canvas.data, { raw: { width, height, channels: 3 } })
    .composite([{ input: Buffer.from(svg) }]).removeAlpha().raw().toBuffer();
  return { width, height, data: new Uint8Array(data) };
}

/** RGB bytes of the image as a square of `sizePx`, in new memory only if the size differs. */
export async function resizeTo(image: RgbImage, sizePx: number): Promise<Uint8Array> {
  const { width, height, data } = image;
  if (width === sizePx && height === sizePx) return data;
  return new Uint8Array(
    await sharp(data, { raw: { width, height, channels: 3 } }).resize(sizePx, sizePx, { fit: "fill" }).raw()
      .toBuffer(),
  );
}

function blendHeat(rgb: Uint8Array, heat: ArrayLike<number>, sizePx: number, options: ImageGridOptions): Uint8Array {
  const { gridWidth = Math.sqrt(heat.length), smooth, upper, colormap, opacity } = options;
  const gridHeight = heat.length / gridWidth;
  if (!Number.isInteger(gridWidth) || !Number.isInteger(gridHeight)) {
    throw new RangeError(
      `Cannot draw grid: gridWidth must divide the ${heat.length} values of a heat map, current value is ${gridWidth}`,
    );
  }
  const values = enlargeHeat(heat, { gridWidth, gridHeight, sizePx, smooth });
  const rgba = heatmapRgba(values, { gridWidth: sizePx, gridHeight: sizePx, upper, colormap, opacity });
  const blended = new Uint8Array(rgb.length);
  for (let i = 0; i < values.length; i++) {
    const alpha = rgba[4 * i + 3] / 255;
    for (let c = 0; c < 3; c++) {
      blended[3 * i + c] = Math.round(rgba[4 * i + c] * alpha + rgb[3 * i + c] * (1 - alpha));
    }
  }
  return blended;
}

/** Copy a square of RGB bytes into a larger image. */
export function paste(canvas: RgbImage, rgb: Uint8Array, sizePx: number, left: number, top: number): void {
  for (let y = 0; y < sizePx; y++) {
    canvas.data.set(rgb.subarray(3 * y * sizePx, 3 * (y + 1) * sizePx), 3 * ((top + y) * canvas.width + left));
  }
}

function shorten(text: string, nLetters: number): string {
  return text.length <= nLetters ? text : `${text.slice(0, Math.max(1, nLetters - 1)).trimEnd()}…`;
}

function text(words: string, x: number, y: number, attributes: string): string {
  return `<text x="${x}" y="${y}" ${attributes}>${escapeXml(words)}</text>`;
}
