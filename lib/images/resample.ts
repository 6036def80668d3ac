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

/** How pixels are weighed; the names are Pillow's in lower case. */
export type ResampleKernel = "nearest" | "bilinear" | "bicubic" | "lanczos";

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

interface Kernel {
  /** Half its width, in source pixels when not shrinking. */
  readonly support: number;
  weight(distance: number): number;
}

const KERNELS: Record<Exclude<ResampleKernel, "nearest">, Kernel> = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: (x) => cubic(Math.abs(x)) },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** 32 bits less 8 for the pixel and 2 for what negative lobes may add. */
const PRECISION_BITS = 32 - 8 - 2;

/**
 * Resizes an image. An image that has the size already is returned as it is.
 *
 * @throws {RangeError} If the new size is not at least 1 × 1 whole pixels.
 */
export function resampleImage(image: RgbImage, options: ResampleImageOptions): RgbImage {
  const { widthPx, heightPx, kernel = "bicubic" } = options;
  if (!Number.isInteger(widthPx) || !Number.isInteger(heightPx) || widthPx < 1 || heightPx < 1) {
    throw new RangeError(
      `Cannot resize image: width and height must be integers of at least 1 px, current value is ${widthPx} x ${heightPx}`,
    );
  }
  if (image.width === widthPx && image.height === heightPx) return image;
  if (kernel === "nearest") return resampleNearest(image, widthPx, heightPx);
  let { width, height, data } = image;
  if (width !== widthPx) {
    data = resampleRows(data, { width, height, weights: weightsOf(width, widthPx, KERNELS[kernel]) });
    width = widthPx;
  }
  if (height !== heightPx) {
    data = resampleColumns(data, { width, height, weights: weightsOf(height, heightPx, KERNELS[kernel]) });
    height = heightPx;
  }
  return { width, height, data };
}

/** For each output pixel: where its source pixels begin, how many there are, and their fixed-point weights. */
interface Weights {
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  /** Shape `[nOut, stride]`. */
  readonly values: Int32Array;
  readonly stride: number;
}

function weightsOf(nIn: number, nOut: number, kernel: Kernel): Weights {
  const scale = nIn / nOut;
  const widening = Math.max(1, scale);
  const support = kernel.support * widening;
  const stride = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(nOut);
  const counts = new Int32Array(nOut);
  const values = new Int32Array(nOut * stride);
  const raw = new Float64Array(stride);
  for (let out = 0; out < nOut; out++) {
    const center = (out + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const count = Math.min(nIn, Math.trunc(center + support + 0.5)) - start;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      // Pillow multiplies by the reciprocal; dividing would round differently.
      raw[i] = kernel.weight((i + start - center + 0.5) * (1 / widening));
      sum += raw[i];
    }
    for (let i = 0; i < count; i++) {
      const weight = (sum === 0 ? raw[i] : raw[i] / sum) * (1 << PRECISION_BITS);
      values[out * stride + i] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    starts[out] = start;
    counts[out] = count;
  }
  return { starts, counts, values, stride };
}

interface Pass {
  readonly width: number;
  readonly height: number;
  readonly weights: Weights;
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
  const columns = nearestOf(width, widthPx);
  const rows = nearestOf(height, heightPx);
  const result = new Uint8Array(widthPx * heightPx * 3);
  for (let y = 0, to = 0; y < heightPx; y++) {
    for (let x = 0; x < widthPx; x++, to += 3) {
      const from = (rows[y] * width + columns[x]) * 3;
      for (let channel = 0; channel < 3; channel++) result[to + channel] = data[from + channel];
    }
  }
  return { width: widthPx, height: heightPx, data: result };
}

/** Steps by adding up, as Pillow does: where a center falls between two pixels, its rounding decides. */
function nearestOf(nIn: number, nOut: number): Int32Array {
  const step = nIn / nOut;
  const nearest = new Int32Array(nOut);
  for (let out = 0, position = step * 0.5; out < nOut; out++, position += step) {
    nearest[out] = Math.min(nIn - 1, Math.trunc(position));
  }
  return nearest;
}

/** Keys' cubic with a = -0.5, as Pillow's bicubic. */
function cubic(x: number): number {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}
