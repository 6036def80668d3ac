/**
 * Encoded bytes to plain 8-bit RGB, with sharp (libvips), and small WebP files with libwebp. Everything that depends on
 * the file format ends here: transparency, orientation, gray, CMYK, 16 bit, color profiles, animation.
 *
 * @module
 */

import { decodePlainWebp, isPlainWebp } from "./decode_webp.ts";
import type Sharp from "sharp";
import type { ImageSource } from "./source.ts";

let loadedSharp: Promise<{ default: typeof Sharp }> | undefined;

/** Red, green and blue, each from 0 to 255. */
export type RgbColor = readonly [red: number, green: number, blue: number];

/** A decoded image: 8-bit sRGB, row-major, three bytes a pixel. */
export interface RgbImage {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Shape `[height, width, 3]`. */
  readonly data: Uint8Array;
}

/** Options for {@linkcode decodeImage}. */
export interface DecodeImageOptions {
  /**
   * Name for error messages.
   *
   * @default {"unnamed"}
   */
  name?: string;
  /**
   * What shows through transparent pixels.
   *
   * @default {[255, 255, 255]}
   */
  background?: RgbColor;
}

/**
 * Decodes an image. Transparent pixels are composited on the background, the EXIF orientation is applied, an embedded
 * color profile is converted to sRGB, and of an animation the first frame is taken.
 *
 * Images are decoded on sharp's own threads: several calls at once use several cores.
 *
 * @throws {Error} If the bytes are not an image that sharp reads, or end too early.
 */
export async function decodeImage(bytes: Uint8Array, options: DecodeImageOptions = {}): Promise<RgbImage> {
  const { name = "unnamed", background = [255, 255, 255] } = options;
  const small = isPlainWebp(bytes) ? await decodePlainWebp(bytes) : undefined;
  // Where that fails, sharp says why.
  if (small !== undefined) return { ...small, data: compositeOn(background, small.data) };
  // Imported on first use: whoever brings decoded pixels (a browser, say) needs no sharp. Another `import()` would be
  // another turn of the event loop, which a run of a model can get in before.
  const { default: sharp } = await (loadedSharp ??= import("sharp"));
  try {
    const { data, info } = await sharp(bytes, { failOn: "truncated", autoOrient: true })
      .toColorspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    const { width, height, channels } = info;
    const plain = new Uint8Array(data.buffer, data.byteOffset, data.length);
    return { width, height, data: channels === 4 ? compositeOn(background, plain) : plain };
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : String(cause)).trim().replaceAll("\n", "; ");
    throw new Error(`Cannot decode image "${name}": ${reason}`, { cause });
  }
}

/** RGBA to RGB, rounded to the nearest level as Pillow does; libvips' own `flatten` rounds down. */
function compositeOn(background: RgbColor, rgba: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    const alpha = rgba[from + 3];
    for (let channel = 0; channel < 3; channel++) {
      const sum = rgba[from + channel] * alpha + background[channel] * (255 - alpha) + 128;
      rgb[to + channel] = (sum + (sum >> 8)) >> 8; // sum / 255 in whole numbers
    }
  }
  return rgb;
}

/**
 * Reads and decodes one image of a source.
 *
 * @throws {RangeError} If there is no image at that index.
 * @throws {Error} If it cannot be decoded; the message has its name.
 */
export async function readImage(
  source: ImageSource,
  imageIndex: number,
  options: Omit<DecodeImageOptions, "name"> = {},
): Promise<RgbImage> {
  const { name } = source.info(imageIndex);
  return await decodeImage(await source.read(imageIndex), { ...options, name });
}
