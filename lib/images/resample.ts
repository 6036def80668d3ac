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
import { PRECISION_BITS, ResampleMemory, ROW_ALIGNMENT } from "./resample_kernels.ts";
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

// Images of a source often have the same few sizes.
const MAX_REMEMBERED = 16;
const remembered = new Map<string, FixedWeights>();

function fixedWeights(nIn: number, nOut: number, kernel: Exclude<ResampleKernel, "nearest">): FixedWeights {
  const key = `${nIn} to ${nOut}, ${kernel}`;
  const known = remembered.get(key);
  if (known !== undefined) return known;
  const weights = resampleWeights(nIn, nOut, { kernel });
  const values = new Int32Array(weights.values.length);
  for (let i = 0; i < values.length; i++) {
    const weight = weights.values[i] * (1 << PRECISION_BITS);
    values[i] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
  }
  if (remembered.size >= MAX_REMEMBERED) remembered.clear();
  const fixed = { ...weights, values };
  remembered.set(key, fixed);
  return fixed;
}

let memory: ResampleMemory | undefined;

/** Makes the columns of a region out of the rows of the same region. */
function resampleRows({ width, data }: RgbImage, options: Region & { weights: FixedWeights }): RgbImage {
  const { weights, left, top, right, bottom } = options;
  const table = acrossTable(weights, left, right);
  const [nBytesIn, nBytesOut] = [width * 3, (right - left) * 3];
  const row = table.byteLength;
  const target = row + aligned(nBytesIn);
  memory ??= new ResampleMemory();
  const buffer = memory.reserve(target + nBytesOut);
  new Int32Array(buffer).set(table);
  const rowView = new Uint8Array(buffer, row, nBytesIn);
  const targetView = new Uint8Array(buffer, target, nBytesOut);
  const result = new Uint8Array((bottom - top) * nBytesOut);
  for (let y = top; y < bottom; y++) {
    rowView.set(data.subarray(y * nBytesIn, (y + 1) * nBytesIn));
    memory.kernels.across(row, 0, table.byteLength, target);
    result.set(targetView, (y - top) * nBytesOut);
  }
  return { width: right - left, height: bottom - top, data: result };
}

/** For each new pixel from `left` to `right`: where its pixels begin, in bytes, their number times 4, their weights. */
function acrossTable({ starts, counts, values, stride }: FixedWeights, left: number, right: number): Int32Array {
  const table = new Int32Array((right - left) * (2 + stride));
  let length = 0;
  for (let out = left; out < right; out++) {
    table[length++] = 3 * starts[out];
    table[length++] = 4 * counts[out];
    for (let k = 0; k < counts[out]; k++) table[length++] = values[out * stride + k];
  }
  return table.subarray(0, length);
}

/** Makes the rows of a region; `image` has its columns, and its rows begin with the `first` of the whole. */
function resampleColumns(
  { width, height, data }: RgbImage,
  { weights, region, first }: { weights: FixedWeights; region: Region; first: number },
): RgbImage {
  const { starts, counts, values, stride } = weights;
  const nBytes = width * 3;
  const rowBytes = aligned(nBytes);
  const rows = aligned(values.byteLength);
  const target = rows + height * rowBytes;
  memory ??= new ResampleMemory();
  const buffer = memory.reserve(target + rowBytes);
  new Int32Array(buffer).set(values);
  const bytes = new Uint8Array(buffer);
  for (let y = 0; y < height; y++) bytes.set(data.subarray(y * nBytes, (y + 1) * nBytes), rows + y * rowBytes);
  const targetView = bytes.subarray(target, target + nBytes);
  const result = new Uint8Array((region.bottom - region.top) * nBytes);
  for (let out = region.top; out < region.bottom; out++) {
    const from = 4 * out * stride;
    const source = rows + (starts[out] - first) * rowBytes;
    memory.kernels.down(source, rowBytes, from, from + 4 * counts[out], target, target + rowBytes);
    result.set(targetView, (out - region.top) * nBytes);
  }
  return { width, height: region.bottom - region.top, data: result };
}

function aligned(nBytes: number): number {
  return Math.ceil(nBytes / ROW_ALIGNMENT) * ROW_ALIGNMENT;
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
