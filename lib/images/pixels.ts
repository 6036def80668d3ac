/**
 * Decoded images to the numbers a ViT takes, and to pictures that lie under its patch grid. Same arithmetic as the
 * image processors of Hugging Face transformers: Pillow's resize on bytes, then crop, then normalization.
 *
 * @module
 */

import type { RgbImage } from "./decode.ts";
import { resampleImage } from "./resample.ts";
import { resampleFloats } from "./resample_floats.ts";
import type { ResampleKernel } from "./resample_weights.ts";
import type { CropRule, PixelTransform } from "./transform.ts";

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

/** Options for {@linkcode toPixelValues}. */
export interface ToPixelValuesOptions {
  /**
   * Where they are written, such as the place of the image in a batch.
   *
   * @default a new array
   */
  into?: Float32Array;
}

/**
 * Resizes, crops and normalizes one image.
 *
 * Where the image has the target size already, its bytes are used as they are.
 *
 * @returns Shape `[3, height, width]`, with the size of {@linkcode outputSize}. Padding is black before normalization.
 * @throws {RangeError} If `into` is not of that length.
 */
export function toPixelValues(
  image: RgbImage,
  transform: PixelTransform,
  options: ToPixelValuesOptions = {},
): Float32Array {
  const { widthPx, heightPx } = outputSize({ widthPx: image.width, heightPx: image.height }, transform);
  const { into = new Float32Array(3 * heightPx * widthPx) } = options;
  if (into.length !== 3 * heightPx * widthPx) {
    throw new RangeError(
      `Cannot make pixel values: the image must become ${into.length / 3} pixels, it becomes ${widthPx} x ${heightPx}`,
    );
  }
  const { resize } = transform;
  if (resize.mode !== "none" && resize.arithmetic === "floats") {
    writeFloatPixelValues(image, transform, { kernel: resize.kernel, values: into });
    return into;
  }
  const { data } = cropForDisplay(image, transform);
  const nPixels = widthPx * heightPx;
  for (let channel = 0; channel < 3; channel++) {
    const table = normalizationTable(channel, transform);
    const offset = channel * nPixels;
    for (let pixel = 0, at = channel; pixel < nPixels; pixel++, at += 3) into[offset + pixel] = table[data[at]];
  }
  return into;
}

/** The same where the resize does not round to whole levels. */
function writeFloatPixelValues(
  image: RgbImage,
  transform: PixelTransform,
  { kernel, values }: { kernel: ResampleKernel; values: Float32Array },
): void {
  const { resized, crop, leftPx, topPx } = geometryOf({ widthPx: image.width, heightPx: image.height }, transform);
  const { data } = resampleFloats(image, { ...resized, kernel });
  const { rescale, mean, std } = transform;
  let to = 0;
  for (let channel = 0; channel < 3; channel++) {
    for (let y = topPx; y < topPx + crop.heightPx; y++) {
      for (let x = leftPx; x < leftPx + crop.widthPx; x++, to++) {
        const isInside = x >= 0 && y >= 0 && x < resized.widthPx && y < resized.heightPx;
        const level = isInside ? data[(y * resized.widthPx + x) * 3 + channel] : 0; // black
        values[to] = (level * rescale - mean[channel]) / std[channel];
      }
    }
  }
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
  const [widthPx, heightPx] = [scaled(resized.widthPx, scale), scaled(resized.heightPx, scale)];
  const [width, height] = [scaled(crop.widthPx, scale), scaled(crop.heightPx, scale)];
  const [left, top] = [Math.round(leftPx * scale), Math.round(topPx * scale)];
  // Of the resized image only what the crop shows is made.
  const region = {
    left: Math.max(0, left),
    top: Math.max(0, top),
    right: Math.min(widthPx, left + width),
    bottom: Math.min(heightPx, top + height),
  };
  const kernel = resize.mode === "none" ? "bicubic" : resize.kernel;
  const shown = resampleImage(image, { widthPx, heightPx, kernel, region });
  return pad(shown, { width, height, left: region.left - left, top: region.top - top });
}

function scaled(lengthPx: number, scale: number): number {
  return Math.max(1, Math.round(lengthPx * scale));
}

function geometryOf(imageSize: PixelSize, transform: PixelTransform): Geometry {
  const resized = resizedSize(imageSize, transform);
  const { widthPx, heightPx, rounding = "down" }: CropRule = transform.crop ?? resized;
  return {
    resized,
    crop: { widthPx, heightPx },
    leftPx: cropOffset(resized.widthPx, widthPx, rounding),
    topPx: cropOffset(resized.heightPx, heightPx, rounding),
  };
}

/**
 * Patches across and down: of all ways to write `nPatches` as a product, the one whose aspect is closest to the
 * image's by difference; of two that are as close, the one with the smaller factor first.
 */
function patchGridOf({ widthPx, heightPx }: PixelSize, nPatches: number): { columns: number; rows: number } {
  const aspect = widthPx / heightPx;
  let columns = 1;
  for (let factor = 1; factor * factor <= nPatches; factor++) {
    if (nPatches % factor !== 0) continue;
    for (const candidate of [factor, nPatches / factor]) {
      if (distance(candidate) < distance(columns)) columns = candidate;
    }
  }
  return { columns, rows: nPatches / columns };

  function distance(across: number): number {
    return Math.abs(across / (nPatches / across) - aspect);
  }
}

function resizedSize({ widthPx, heightPx }: PixelSize, { resize }: PixelTransform): PixelSize {
  switch (resize.mode) {
    case "none":
      return { widthPx, heightPx };
    case "squash":
      return { widthPx: resize.widthPx, heightPx: resize.heightPx };
    case "patchGrid": {
      const { columns, rows } = patchGridOf({ widthPx, heightPx }, resize.nPatches);
      return { widthPx: columns * resize.patchPx, heightPx: rows * resize.patchPx };
    }
    case "shortestEdge": {
      const { sizePx } = resize;
      return widthPx <= heightPx
        ? { widthPx: sizePx, heightPx: Math.trunc((sizePx * heightPx) / widthPx) }
        : { widthPx: Math.trunc((sizePx * widthPx) / heightPx), heightPx: sizePx };
    }
  }
}

/** Padding in front (a negative offset) is rounded up by transformers and down by torchvision. */
function cropOffset(lengthPx: number, cropPx: number, rounding: "down" | "even"): number {
  const half = (lengthPx - cropPx) / 2;
  if (rounding === "down") return Math.floor(half);
  if (half < 0) return -Math.floor(-half);
  return half % 2 === 1.5 ? Math.ceil(half) : Math.floor(half);
}

/** Puts an image on black, `left` and `top` pixels from the corner; as it is where it fills all. */
function pad(
  image: RgbImage,
  { width, height, left, top }: { width: number; height: number; left: number; top: number },
): RgbImage {
  if (image.width === width && image.height === height) return image;
  const data = new Uint8Array(width * height * 3); // black
  const rowLength = image.width * 3;
  for (let y = 0; y < image.height; y++) {
    data.set(image.data.subarray(y * rowLength, (y + 1) * rowLength), ((top + y) * width + left) * 3);
  }
  return { width, height, data };
}

/** A byte has 256 values: what each becomes is worked out once per image, not once per pixel. */
function normalizationTable(channel: number, { rescale, mean, std }: PixelTransform): Float32Array {
  const table = new Float32Array(256);
  for (let byte = 0; byte < 256; byte++) table[byte] = (byte * rescale - mean[channel]) / std[channel];
  return table;
}
