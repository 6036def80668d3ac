/**
 * The weights of Pillow's resampling kernels: which pixels make a new pixel, and how much each counts. Anti-aliased: the
 * kernel widens as the image shrinks. torch's anti-aliased resize has the same weights.
 * Based on Pillow's `Resample.c`: https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters
 *
 * @module
 */

/** How pixels are weighed; the names are Pillow's in lower case. */
export type ResampleKernel = "nearest" | "bilinear" | "bicubic" | "lanczos";

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

/** For each output pixel along one side: where its source pixels begin, how many there are, and their weights. */
export interface ResampleWeights {
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  /** Shape `[nOut, stride]`; the weights of one output pixel add up to 1. */
  readonly values: Float64Array;
  readonly stride: number;
}

/** Options for {@linkcode resampleWeights}. */
export interface ResampleWeightsOptions {
  kernel: Exclude<ResampleKernel, "nearest">;
  /**
   * Work in float32, as torch does: the position of a pixel is then up to 1e-5 off, and its weights with it.
   *
   * @default {false}
   */
  single?: boolean;
}

/** Weights that make `nOut` pixels of `nIn`. */
export function resampleWeights(nIn: number, nOut: number, options: ResampleWeightsOptions): ResampleWeights {
  const kernel = KERNELS[options.kernel];
  const round = options.single ? Math.fround : (value: number) => value;
  const scale = round(nIn / nOut);
  const widening = Math.max(1, scale);
  const narrowing = round(1 / widening);
  const support = round(kernel.support * widening);
  const stride = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(nOut);
  const counts = new Int32Array(nOut);
  const values = new Float64Array(nOut * stride);
  for (let out = 0; out < nOut; out++) {
    const center = round((out + 0.5) * scale);
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const count = Math.min(nIn, Math.trunc(center + support + 0.5)) - start;
    const first = out * stride;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      // Pillow multiplies by the reciprocal; dividing would round differently.
      values[first + i] = round(kernel.weight(round((round(i + start - center) + 0.5) * narrowing)));
      sum = round(sum + values[first + i]);
    }
    if (sum !== 0) {
      for (let i = first; i < first + count; i++) values[i] = round(values[i] / sum);
    }
    starts[out] = start;
    counts[out] = count;
  }
  return { starts, counts, values, stride };
}

/**
 * The pixel that each of `nOut` pixels is a copy of. Steps by adding up, as Pillow does: where a center falls between
 * two pixels, its rounding decides.
 */
export function nearestSources(nIn: number, nOut: number): Int32Array {
  const step = nIn / nOut;
  const nearest = new Int32Array(nOut);
  for (let out = 0, position = step * 0.5; out < nOut; out++, position += step) {
    nearest[out] = Math.min(nIn - 1, Math.trunc(position));
  }
  return nearest;
}

/** Refuses a size that no image can have. */
export function assertNewSize(widthPx: number, heightPx: number): void {
  if (Number.isInteger(widthPx) && Number.isInteger(heightPx) && widthPx >= 1 && heightPx >= 1) return;
  throw new RangeError(
    `Cannot resize image: width and height must be integers of at least 1 px, current value is ${widthPx} x ${heightPx}`,
  );
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
