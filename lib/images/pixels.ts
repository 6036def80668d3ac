/**
 * Decoded images to the numbers a ViT takes, and to pictures that lie under its patch grid. Same arithmetic as the
 * image processors of Hugging Face transformers: Pillow's resize on bytes, then crop, then normalization.
 *
 * @module
 */

import type { RgbImage } from "./decode.ts";
import { resampleImage } from "./resample.ts";
import type { PixelTransform } from "./transform.ts";

/** A size in whole pixels. */
export interface PixelSize {
  /** Width, in pixels. */
  readonly widthPx: number;
  /** Height, in pixels. */
  readonly heightPx: number;
}

/** Where the crop lies in the resized image; a negative offset means padding. */
interface Geometry {
  readonly resized: PixelSize;
  readonly crop: PixelSize;
  readonly leftPx: number;
  readonly topPx: number;
}

/** Size of what the model gets from an image of a given size. */
export function outputSize(imageSize: PixelSize, transform: PixelTransform): PixelSize {
  return geometryOf(imageSize, transform).crop;
}

/**
 * Resizes, crops and normalizes one image.
 *
 * Where the image has the target size already, its bytes are used as they are.
 *
 * @returns Shape `[3, height, width]`, with the size of {@linkcode outputSize}. Padding is black before normalization.
 */
export function toPixelValues(image: RgbImage, transform: PixelTransform): Float32Array {
  const { data, width, height } = cropForDisplay(image, transform);
  const nPixels = width * height;
  const values = new Float32Array(3 * nPixels);
  for (let channel = 0; channel < 3; channel++) {
    const table = normalizationTable(channel, transform);
    const offset = channel * nPixels;
    for (let pixel = 0, at = channel; pixel < nPixels; pixel++, at += 3) values[offset + pixel] = table[data[at]];
  }
  return values;
}

/** Options for {@linkcode cropForDisplay}. */
export interface CropForDisplayOptions {
  /**
   * Pixels of the picture per pixel of the model's input. Above 1 the picture keeps detail that the model does not
   * get.
   *
   * @default {1}
   */
  scale?: number;
}

/**
 * What the model sees of an image, as a picture: the same resize and crop, `scale` times as large, not normalized.
 * Patch `(row, column)` covers `patchSize * scale` pixels from `(row * patchSize * scale, column * patchSize * scale)`.
 *
 * @returns A picture of {@linkcode outputSize} times `scale`. It may share its bytes with `image`.
 * @throws {RangeError} If `scale` is not above 0.
 */
export function cropForDisplay(
  image: RgbImage,
  transform: PixelTransform,
  options: CropForDisplayOptions = {},
): RgbImage {
  const { scale = 1 } = options;
  if (!(scale > 0 && Number.isFinite(scale))) {
    throw new RangeError(`Cannot crop image: scale must be above 0, current value is ${scale}`);
  }
  const { resized, crop, leftPx, topPx } = geometryOf({ widthPx: image.width, heightPx: image.height }, transform);
  const { resize } = transform;
  const large = resampleImage(image, {
    widthPx: scaled(resized.widthPx, scale),
    heightPx: scaled(resized.heightPx, scale),
    kernel: resize.mode === "none" ? "bicubic" : resize.kernel,
  });
  return cut(large, {
    crop: { widthPx: scaled(crop.widthPx, scale), heightPx: scaled(crop.heightPx, scale) },
    leftPx: Math.round(leftPx * scale),
    topPx: Math.round(topPx * scale),
  });
}

function scaled(lengthPx: number, scale: number): number {
  return Math.max(1, Math.round(lengthPx * scale));
}

function geometryOf(imageSize: PixelSize, transform: PixelTransform): Geometry {
  const resized = resizedSize(imageSize, transform);
  const crop = transform.crop ?? resized;
  return {
    resized,
    crop,
    leftPx: cropOffset(resized.widthPx, crop.widthPx),
    topPx: cropOffset(resized.heightPx, crop.heightPx),
  };
}

function resizedSize({ widthPx, heightPx }: PixelSize, { resize }: PixelTransform): PixelSize {
  switch (resize.mode) {
    case "none":
      return { widthPx, heightPx };
    case "squash":
      return { widthPx: resize.widthPx, heightPx: resize.heightPx };
    case "shortestEdge": {
      const { sizePx } = resize;
      return widthPx <= heightPx
        ? { widthPx: sizePx, heightPx: Math.trunc((sizePx * heightPx) / widthPx) }
        : { widthPx: Math.trunc((sizePx * widthPx) / heightPx), heightPx: sizePx };
    }
  }
}

/** Rounds down where the image is larger, and up (towards more padding in front) where it is smaller. */
function cropOffset(lengthPx: number, cropPx: number): number {
  return lengthPx >= cropPx ? Math.floor((lengthPx - cropPx) / 2) : -Math.ceil((cropPx - lengthPx) / 2);
}

function cut(image: RgbImage, { crop, leftPx, topPx }: Omit<Geometry, "resized">): RgbImage {
  const { widthPx, heightPx } = crop;
  if (image.width === widthPx && image.height === heightPx && leftPx === 0 && topPx === 0) return image;
  const data = new Uint8Array(widthPx * heightPx * 3); // black
  const fromX = Math.max(0, leftPx);
  const toX = Math.min(image.width, leftPx + widthPx);
  for (let y = Math.max(0, topPx); y < Math.min(image.height, topPx + heightPx); y++) {
    const row = image.data.subarray((y * image.width + fromX) * 3, (y * image.width + toX) * 3);
    data.set(row, ((y - topPx) * widthPx + fromX - leftPx) * 3);
  }
  return { width: widthPx, height: heightPx, data };
}

/** A byte has 256 values: what each becomes is worked out once per image, not once per pixel. */
function normalizationTable(channel: number, { rescale, mean, std }: PixelTransform): Float32Array {
  const table = new Float32Array(256);
  for (let byte = 0; byte < 256; byte++) table[byte] = (byte * rescale - mean[channel]) / std[channel];
  return table;
}
