/**
 * A finished figure: SVG text with its size. It can be shown in a notebook as it is, turned into PNG bytes, or saved.
 * Pictures made of pixels (image grids) go the same way.
 *
 * @module
 */
import { extname } from "node:path";
import sharp from "sharp";
import type { RgbImage } from "../images/decode.ts";
import { replaceFile } from "../runtime/files.ts";

/** A drawing that scales. */
export interface Figure {
  /** A complete SVG document. */
  readonly svg: string;
  /** Width in pixels at its natural size. */
  readonly widthPx: number;
  /** Height in pixels at its natural size. */
  readonly heightPx: number;
}

/** Options of {@linkcode toPng}. */
export interface ToPngOptions {
  /**
   * Pixels of the PNG for each pixel of a {@linkcode Figure}: 2 is sharp on most screens, 4 suits print. Images of
   * pixels are never scaled.
   *
   * @default {2}
   */
  scale?: number;
}

/**
 * PNG bytes of a figure or an image.
 *
 * @throws {RangeError} If `scale` is not in (0, 16].
 */
export async function toPng(figure: Figure | RgbImage, options: ToPngOptions = {}): Promise<Uint8Array> {
  const { scale = 2 } = options;
  if (!(scale > 0 && scale <= 16)) {
    throw new RangeError(`Cannot make a PNG: scale must be above 0 and at most 16, current value is ${scale}`);
  }
  if ("svg" in figure) {
    // 72 dpi is one pixel for each unit of the SVG.
    return new Uint8Array(await sharp(new TextEncoder().encode(figure.svg), { density: 72 * scale }).png().toBuffer());
  }
  const { width, height, data } = figure;
  return new Uint8Array(await sharp(data, { raw: { width, height, channels: 3 } }).png().toBuffer());
}

/** Options of {@linkcode saveFigure}. */
export type SaveFigureOptions = ToPngOptions;

/**
 * Write a figure to `path`, as SVG or PNG by the ending. The file appears in one step: a reader never sees half of it.
 *
 * @throws {RangeError} If the path ends with neither `.svg` nor `.png`.
 * @throws {TypeError} If an image of pixels is to be saved as `.svg`.
 */
export async function saveFigure(
  figure: Figure | RgbImage,
  path: string,
  options: SaveFigureOptions = {},
): Promise<void> {
  const ending = extname(path).toLowerCase();
  if (ending !== ".svg" && ending !== ".png") {
    throw new RangeError(
      `Cannot save figure "${path}": file name must end with .svg or .png, current ending is "${ending}"`,
    );
  }
  if (ending === ".svg" && !("svg" in figure)) {
    throw new TypeError(
      `Cannot save figure "${path}": an image of pixels must be saved as .png, current ending is ".svg"`,
    );
  }
  const content = ending === ".svg" ? (figure as Figure).svg : await toPng(figure, options);
  await replaceFile(path, content);
}
