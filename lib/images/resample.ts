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
}

/** 32 bits less 8 for the pixel and 2 for what negative lobes may add. */
const PRECISION_BITS = 32 - 8 - 2;

/**
 * Resizes an image. An image that has the size already is returned as it is.
 *
 * @throws {RangeError} If the new size is not at least 1 × 1 whole pixels.
 */
export function resampleImage(image: RgbImage, options: ResampleImageOptions): RgbImage {
  const { widthPx, heightPx, kernel = "bicubic" } = options;
  assertNewSize(widthPx, heightPx);
  if (image.width === widthPx && image.height === heightPx) return image;
  if (kernel === "nearest") return resampleNearest(image, widthPx, heightPx);
  let { width, height, data } = image;
  if (width !== widthPx) {
    data = resampleRows(data, { width, height, weights: fixedWeights(width, widthPx, kernel) });
    width = widthPx;
  }
  if (height !== heightPx) {
    data = resampleColumns(data, { width, height, weights: fixedWeights(height, heightPx, kernel) });
    height = heightPx;
  }
  return { width, height, data };
}

/** Weights in fixed point. */
interface FixedWeights extends Omit<ResampleWeights, "values"> {
  readonly values: Int32Array;
}

function fixedWeights(nIn: number, nOut: number, kernel: Exclude<ResampleKernel, "nearest">): FixedWeights {
  const weights = resampleWeights(nIn, nOut, { kernel });
  const values = Int32Array.from(weights.values, (value) => {
    const weight = value * (1 << PRECISION_BITS);
    return Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
  });
  return { ...weights, values };
}

interface Pass {
  readonly width: number;
  readonly height: number;
  readonly weights: FixedWeights;
}

const HALF = 1 << (PRECISION_BITS - 1);

function resampleRows(data: Uint8Array, { width, height, weights }: Pass): Uint8Array {
  const { starts, counts, values, stride } = weights;
  const nOut = starts.length;
  const result = new Uint8ClampedArray(nOut * height * 3);
  for (let y = 0; y < height; y++) {
    for (let out = 0; out < nOut; out++) {
      let r = HALF, g = HALF, b = HALF;
      let at = (y * width + starts[out]) * 3;
      const first = out * stride;
      for (let k = first; k < first + counts[out]; k++, at += 3) {
        const weight = values[k];
        r += data[at] * weight;
        g += data[at + 1] * weight;
        b += data[at + 2] * weight;
      }
      const to = (y * nOut + out) * 3;
      result[to] = r >> PRECISION_BITS;
      result[to + 1] = g >> PRECISION_BITS;
      result[to + 2] = b >> PRECISION_BITS;
    }
  }
  return new Uint8Array(result.buffer);
}

function resampleColumns(data: Uint8Array, { width, weights }: Pass): Uint8Array {
  const { starts, counts, values, stride } = weights;
  const nOut = starts.length;
  const rowLength = width * 3;
  const result = new Uint8ClampedArray(nOut * rowLength);
  const sums = new Int32Array(rowLength);
  for (let out = 0; out < nOut; out++) {
    sums.fill(HALF);
    for (let k = 0; k < counts[out]; k++) {
      const weight = values[out * stride + k];
      const from = (starts[out] + k) * rowLength;
      for (let x = 0; x < rowLength; x++) sums[x] += data[from + x] * weight;
    }
    for (let x = 0; x < rowLength; x++) result[out * rowLength + x] = sums[x] >> PRECISION_BITS;
  }
  return new Uint8Array(result.buffer);
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
