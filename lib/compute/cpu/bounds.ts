/**
 * How far a screen's product may be from the pre-activation that counts, proven, so that what a screen rules out cannot
 * matter. For a token `x` and a latent with encoder row `w` the distance is at most `margin(x) · reach(w)`.
 *
 * In 8 bits, `x'` and `w'` being `x · s` and `w / s` with a factor `s` for each dimension and `x̂`, `ŵ` what is left of
 * them in 8 bits, `x · w − x̂ · ŵ = (x' − x̂) · w' + x̂ · (w' − ŵ)`, hence by Cauchy and Schwarz at most
 * `(‖x' − x̂‖ + ‖x̂‖ · ‖w' − ŵ‖ / ‖w'‖) · ‖w'‖`. The lengths of the errors are measured, not estimated. The factors even
 * out dimensions that are large in all tokens, which else would leave few of the 256 steps for the others
 * (https://arxiv.org/abs/2211.10438).
 *
 * @module
 */

// Half the distance of two float32 numbers around 1: the most that one operation errs, as a share.
const UNIT = 2 ** -24;
/** What float32 sums of products err at most, whatever their order, as a share of the lengths' product, twice over. */
export const roundingShare = (width: number): number => 4 * (width + 16) * UNIT;

/** The same of a bias that is added somewhere among them. */
const BIAS_SHARE = 64 * UNIT;

/**
 * Where a value is taken to be for a guess, as a share of the way down from its upper bound to its lower one. It is near
 * the middle: errors of many dimensions cancel, and the bounds assume that none does.
 */
const GUESSED_SHARE = 0.6;

/** How much further a latent's row puts its bounds off: `‖w‖` or `‖w'‖`, shape `[nColumns]`. */
export interface Reach {
  /** 0 for rows that hold numbers that are not finite. */
  readonly reaches: Float64Array;
}

/** Lengths of rows. */
export function measureReaches(rows: Float32Array, width: number): Reach {
  const reaches = new Float64Array(rows.length / width);
  for (let latent = 0; latent < reaches.length; latent++) {
    const length = Math.sqrt(sumOfSquares(rows, latent * width, width));
    reaches[latent] = Number.isFinite(length) ? length : 0;
  }
  return { reaches };
}

/** The largest margin of tokens in float32, but for those that are not finite. */
export function floatMargin(x: Float32Array, width: number): number {
  let largest = 0;
  for (let start = 0; start < x.length; start += width) {
    const squares = sumOfSquares(x, start, width);
    if (squares < Infinity) largest = Math.max(largest, squares);
  }
  return roundingShare(width) * Math.sqrt(largest);
}

/** What makes bounds of products, each of shape `[nColumns]`. */
export interface BoundingBias {
  /** Added to a product, it is an upper bound of `x · w + bias − floor`. */
  readonly raised: Float32Array;
  /** Taken from the bound, it is a guess that is rarely too high. */
  readonly widths: Float32Array;
}

/**
 * Computes biases that make bounds. −Infinity for a latent whose bias is NaN: it is never active.
 *
 * @param into Where they go.
 * @param options.bias Shape `[nColumns]`.
 * @param options.floors What pre-activations are held against, same shape; 0 if absent.
 */
export function setBoundingBias(
  { raised, widths }: BoundingBias,
  { reaches }: Reach,
  options: { margin: number; bias: Float32Array; floors?: Float32Array },
): void {
  const { margin, bias, floors } = options;
  for (let latent = 0; latent < bias.length; latent++) {
    const floor = floors === undefined ? 0 : floors[latent];
    const distance = margin * reaches[latent];
    const upper = bias[latent] - floor + distance;
    const size = Math.abs(bias[latent]) + Math.abs(floor) + Math.abs(upper);
    const isFinite = size < Infinity;
    raised[latent] = isFinite ? upper + BIAS_SHARE * size : Number.isNaN(upper) ? -Infinity : upper;
    widths[latent] = isFinite ? 2 * GUESSED_SHARE * (distance + BIAS_SHARE * size) : Infinity;
  }
}

function sumOfSquares(values: Float32Array, start: number, length: number): number {
  let squares = 0;
  for (let i = start; i < start + length; i++) squares += values[i] * values[i];
  return squares;
}
