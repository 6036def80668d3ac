/**
 * Resizes an image without rounding: what torch's anti-aliased resize makes of a float tensor. A few processors (DINOv3's
 * in transformers) turn bytes into floats before they resize; whole levels are up to half a level off.
 *
 * @module
 */
import type { RgbImage } from "./decode.ts";
import type { ResampleImageOptions } from "./resample.ts";
import { assertNewSize, nearestSources, type ResampleWeights, resampleWeights } from "./resample_weights.ts";

/** An image whose levels are not whole numbers. */
export interface FloatImage {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Shape `[height, width, 3]`; levels from 0 to 255, or beyond where a kernel overshoots. */
  readonly data: Float32Array;
}

/**
 * Resizes an image: first across, then down, as {@linkcode resampleImage} does.
 *
 * @throws {RangeError} If the new size is not at least 1 × 1 whole pixels.
 */
export function resampleFloats(image: RgbImage, options: ResampleImageOptions): FloatImage {
  const { widthPx, heightPx, kernel = "bicubic" } = options;
  assertNewSize(widthPx, heightPx);
  const { width, height } = image;
  const weightsOf = (nIn: number, nOut: number) =>
    kernel === "nearest" ? pickingWeights(nIn, nOut) : resampleWeights(nIn, nOut, { kernel, single: true });
  let data = Float32Array.from(image.data);
  if (width !== widthPx) data = resampleRows(data, height, weightsOf(width, widthPx));
  if (height !== heightPx) data = resampleColumns(data, widthPx, weightsOf(height, heightPx));
  return { width: widthPx, height: heightPx, data };
}

/** One source pixel each, with all the weight. */
function pickingWeights(nIn: number, nOut: number): ResampleWeights {
  const one = new Int32Array(nOut).fill(1);
  return { starts: nearestSources(nIn, nOut), counts: one, values: Float64Array.from(one), stride: 1 };
}

function resampleRows(data: Float32Array, height: number, weights: ResampleWeights): Float32Array<ArrayBuffer> {
  const { starts, counts, values, stride } = weights;
  const nOut = starts.length;
  const width = data.length / height / 3;
  const result = new Float32Array(nOut * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let out = 0; out < nOut; out++, to += 3) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        let at = (y * width + starts[out]) * 3 + channel;
        for (let k = out * stride; k < out * stride + counts[out]; k++, at += 3) sum += data[at] * values[k];
        result[to + channel] = sum;
      }
    }
  }
  return result;
}

function resampleColumns(data: Float32Array, width: number, weights: ResampleWeights): Float32Array<ArrayBuffer> {
  const { starts, counts, values, stride } = weights;
  const nOut = starts.length;
  const rowLength = width * 3;
  const result = new Float32Array(nOut * rowLength);
  const sums = new Float64Array(rowLength);
  for (let out = 0; out < nOut; out++) {
    sums.fill(0);
    for (let k = 0; k < counts[out]; k++) {
      const weight = values[out * stride + k];
      const from = (starts[out] + k) * rowLength;
      for (let x = 0; x < rowLength; x++) sums[x] += data[from + x] * weight;
    }
    result.set(sums, out * rowLength);
  }
  return result;
}
