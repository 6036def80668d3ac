/**
 * Resizes an 8-bit image as Pillow does, to the bit: models were trained on pixels that Pillow made, and other
 * libraries (libvips among them) differ by a few levels because they shrink in steps or with coarser weights.
 * Based on Pillow's `Resample.c`: separable, anti-aliased (the kernel widens as the image shrinks), weights in fixed
 * point with 22 bits, rounded to 8 bits after each of the two passes.
 * https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters
 *
 * @module
 */

import type { RgbImage } from "./decode.ts";
import {
  assertNewSize,
  nearestSources,
  type ResampleKernel,
  type ResampleWeights,
  resampleWeights,
} from "./resample_weights.ts";

export type { ResampleKernel };

/** Options for {@linkcode resampleImage}. */
export interface ResampleImageOptions {
  /** New width, in pixels. */
  widthPx: number;
  /** New height, in pixels. */
  heightPx: number;
  /**
   * How pixels are weighed.
   *
   * @default {"bicubic"}
   */
  kernel?: ResampleKernel;
  /**
   * What of the new image is wanted; the rest is not computed.
   *
   * @default all of it
   */
  region?: Region;
}

/** A rectangle of an image, in pixels; its ends are not part of it. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** 32 bits less 8 for the pixel and 2 for what negative lobes may add. */
const PRECISION_BITS = 32 - 8 - 2;

/**
 * Resizes an image. An image that has the size already is returned as it is if all of it is wanted.
 *
 * @throws {RangeError} If the new size is not at least 1 × 1 whole pixels.
 */
export function resampleImage(image: RgbImage, options: ResampleImageOptions): RgbImage {
  const { widthPx, heightPx, kernel = "bicubic" } = options;
  const region = options.region ?? { left: 0, top: 0, right: widthPx, bottom: heightPx };
  assertNewSize(widthPx, heightPx);
  const isWhole = region.right - region.left === widthPx && region.bottom - region.top === heightPx;
  if (image.width === widthPx && image.height === heightPx) return isWhole ? image : copyRegion(image, region);
  if (kernel === "nearest") {
    const resampled = resampleNearest(image, widthPx, heightPx);
    return isWhole ? resampled : copyRegion(resampled, region);
  }
  const isTaller = image.height !== heightPx;
  const columns = isTaller ? fixedWeights(image.height, heightPx, kernel) : undefined;
  // The rows that the wanted ones are made of.
  const first = columns ? columns.starts[region.top] : region.top;
  const end = columns ? columns.starts[region.bottom - 1] + columns.counts[region.bottom - 1] : region.bottom;
  const { left, right } = region;
  const across = image.width === widthPx
    ? copyRegion(image, { left, right, top: first, bottom: end })
    : resampleRows(image, {
      weights: fixedWeights(image.width, widthPx, kernel),
      left,
      right,
      top: first,
      bottom: end,
    });
  return columns ? resampleColumns(across, { weights: columns, region, first }) : across;
}

function copyRegion(image: RgbImage, { left, top, right, bottom }: Region): RgbImage {
  const [width, height] = [right - left, bottom - top];
  // Whole rows need no copy.
  if (width === image.width) return { width, height, data: image.data.subarray(top * width * 3, bottom * width * 3) };
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * image.width + left) * 3;
    data.set(image.data.subarray(start, start + width * 3), y * width * 3);
  }
  return { width, height, data };
}

/** Weights in fixed point. */
interface FixedWeights extends Omit<ResampleWeights, "values"> {
  readonly values: Int32Array;
}

function fixedWeights(nIn: number, nOut: number, kernel: Exclude<ResampleKernel, "nearest">): FixedWeights {
  const weights = resampleWeights(nIn, nOut, { kernel });
  const values = new Int32Array(weights.values.length);
  for (let i = 0; i < values.length; i++) {
    const weight = weights.values[i] * (1 << PRECISION_BITS);
    values[i] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
  }
  return { ...weights, values };
}

const HALF = 1 << (PRECISION_BITS - 1);

// Sums stay within 32 bits; `Math.imul` and `| 0` say so to the compiler, which else computes in floating point.

/** Makes the columns of a region out of the rows of the same region. */
function resampleRows({ width, data }: RgbImage, options: Region & { weights: FixedWeights }): RgbImage {
  const { weights: { starts, counts, values, stride }, left, top, right, bottom } = options;
  const result = new Uint8ClampedArray((right - left) * (bottom - top) * 3);
  let to = 0;
  for (let y = top; y < bottom; y++) {
    for (let out = left; out < right; out++, to += 3) {
      let r = HALF, g = HALF, b = HALF;
      let at = (y * width + starts[out]) * 3;
      const end = out * stride + counts[out];
      for (let k = out * stride; k < end; k++, at += 3) {
        const weight = values[k];
        r = (r + Math.imul(data[at], weight)) | 0;
        g = (g + Math.imul(data[at + 1], weight)) | 0;
        b = (b + Math.imul(data[at + 2], weight)) | 0;
      }
      result[to] = r >> PRECISION_BITS;
      result[to + 1] = g >> PRECISION_BITS;
      result[to + 2] = b >> PRECISION_BITS;
    }
  }
  return { width: right - left, height: bottom - top, data: new Uint8Array(result.buffer) };
}

/** Makes the rows of a region; `image` has its columns, and its rows begin with the `first` of the whole. */
function resampleColumns(
  { width, data }: RgbImage,
  { weights, region, first }: { weights: FixedWeights; region: Region; first: number },
): RgbImage {
  const { starts, counts, values, stride } = weights;
  const height = region.bottom - region.top;
  const rowLength = width * 3;
  const result = new Uint8ClampedArray(height * rowLength);
  const sums = new Int32Array(rowLength);
  for (let y = 0; y < height; y++) {
    const out = region.top + y;
    sums.fill(HALF);
    for (let k = 0; k < counts[out]; k++) {
      const weight = values[out * stride + k];
      const from = (starts[out] + k - first) * rowLength;
      for (let x = 0; x < rowLength; x++) sums[x] += Math.imul(data[from + x], weight);
    }
    for (let x = 0; x < rowLength; x++) result[y * rowLength + x] = sums[x] >> PRECISION_BITS;
  }
  return { width, height, data: new Uint8Array(result.buffer) };
}

function resampleNearest(image: RgbImage, widthPx: number, heightPx: number): RgbImage {
  const { width, height, data } = image;
  const columns = nearestSources(width, widthPx);
  const rows = nearestSources(height, heightPx);
  const result = new Uint8Array(widthPx * heightPx * 3);
  for (let y = 0, to = 0; y < heightPx; y++) {
    for (let x = 0; x < widthPx; x++, to += 3) {
      const from = (rows[y] * width + columns[x]) * 3;
      for (let channel = 0; channel < 3; channel++) result[to + channel] = data[from + channel];
    }
  }
  return { width: widthPx, height: heightPx, data: result };
}
