/**
 * How far a screen's product may be from the pre-activation that counts, proven, so that what a screen rules out cannot
 * matter. For a token `x` and a latent with encoder row `w` the distance is at most `margin(x) · reach(w)`.
 *
 * In 8 bits, `x'` and `w'` being `x / s` and `w · s` with a factor `s` for each dimension and `x̂`, `ŵ` what is left of
 * them in 8 bits, `x · w − x̂ · ŵ = (x' − x̂) · w' + x̂ · (w' − ŵ)`, hence by Cauchy and Schwarz at most
 * `(‖x' − x̂‖ + ‖x̂‖ · ‖w' − ŵ‖ / ‖w'‖) · ‖w'‖`. The lengths of the errors are measured, not estimated. The factors even
 * out dimensions that are large in all tokens, which else would leave few of the 256 steps for the others
 * (https://arxiv.org/abs/2211.10438).
 *
 * @module
 */
import { ZERO_POINT } from "./screen_graph.ts";

// Half the distance of two float32 numbers around 1: the most that one operation errs, as a share.
const UNIT = 2 ** -24;
/** What float32 sums of products err at most, whatever their order, as a share of the lengths' product, twice over. */
const roundingShare = (width: number): number => 4 * (width + 16) * UNIT;

/** The same of a bias that is added somewhere among them. */
const BIAS_SHARE = 64 * UNIT;

const LARGEST = 127;

/** An encoder in some precision, and what a latent's row does to the margin of a token. */
export interface Reach {
  /** `‖w‖` or `‖w'‖`, shape `[dSae]`; 0 for rows that hold numbers that are not finite. */
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

/** An encoder in 8 bits. */
export interface Int8Encoder extends Reach {
  /** Shape `[width, dSae]`. */
  readonly columns: Int8Array;
  /** What a column is to be multiplied by, shape `[dSae]`. */
  readonly scales: Float32Array;
  /** What dimensions of the encoder were multiplied by, shape `[width]`. */
  readonly factors: Float64Array;
  /** The largest `‖w' − ŵ‖ / ‖w'‖`. */
  readonly errorShare: number;
  /** The largest `‖w‖ / ‖w'‖`. */
  readonly unscaledShare: number;
}

/**
 * Puts an encoder into 8 bits.
 *
 * @param rows Shape `[dSae, width]`.
 * @param x Some activations, shape `[nTokens, width]`: what dimensions are evened out by.
 */
export function quantizeEncoder(rows: Float32Array, x: Float32Array, width: number): Int8Encoder {
  const dSae = rows.length / width;
  const factors = evenFactors(rows, x, width);
  const columns = new Int8Array(rows.length);
  const scales = new Float32Array(dSae).fill(1);
  const reaches = new Float64Array(dSae);
  let [errorShare, unscaledShare] = [0, 0];
  const row = new Float64Array(width);
  for (let latent = 0; latent < dSae; latent++) {
    const start = latent * width;
    let [largest, squares] = [0, 0];
    for (let d = 0; d < width; d++) {
      const scaled = rows[start + d] * factors[d];
      row[d] = scaled;
      squares += scaled * scaled;
      largest = Math.max(largest, Math.abs(scaled));
    }
    if (!(Number.isFinite(squares) && largest > 0)) continue;
    const scale = Math.fround(largest / LARGEST);
    if (scale === 0) continue;
    scales[latent] = scale;
    let errors = 0;
    for (let d = 0, at = latent; d < width; d++, at += dSae) {
      const step = Math.max(-LARGEST, Math.min(LARGEST, Math.round(row[d] / scale)));
      columns[at] = step;
      errors += (row[d] - step * scale) ** 2;
    }
    const reach = Math.sqrt(squares);
    reaches[latent] = reach;
    errorShare = Math.max(errorShare, Math.sqrt(errors) / reach);
    unscaledShare = Math.max(unscaledShare, Math.sqrt(sumOfSquares(rows, start, width)) / reach);
  }
  return { columns, scales, reaches, factors, errorShare, unscaledShare };
}

/** Activations as a screen takes them. */
export interface ScreenedTokens {
  /** Shape `[nTokens, width]`. */
  readonly x: Float32Array | Uint8Array;
  /** What they are to be multiplied by. */
  readonly scale: number;
  /** The largest margin of a token that takes part. */
  readonly margin: number;
  /** 1 for tokens that take no part: they hold numbers that are not finite, or are too large for the others' steps. */
  readonly isLeftOut: Uint8Array;
}

/** Float32 activations, and their margin. */
export function screenFloats(x: Float32Array, width: number): ScreenedTokens {
  const isLeftOut = new Uint8Array(x.length / width);
  let largest = 0;
  for (let token = 0; token < isLeftOut.length; token++) {
    const squares = sumOfSquares(x, token * width, width);
    if (Number.isFinite(squares)) largest = Math.max(largest, squares);
    else isLeftOut[token] = 1;
  }
  return { x, scale: 1, margin: roundingShare(width) * Math.sqrt(largest), isLeftOut };
}

/** Activations in 8 bits with one step for all, and their margin. */
export function quantizeTokens(x: Float32Array, encoder: Int8Encoder): ScreenedTokens {
  const { factors, errorShare, unscaledShare } = encoder;
  const width = factors.length;
  const nTokens = x.length / width;
  const inverse = factors.map((factor) => 1 / factor);
  const largest = new Float64Array(nTokens);
  for (let token = 0, at = 0; token < nTokens; token++) {
    let [most, sum] = [0, 0];
    for (let d = 0; d < width; d++, at++) {
      const size = Math.abs(x[at] * inverse[d]);
      if (size > most) most = size;
      sum += size;
    }
    // The sum is NaN where one of them is.
    largest[token] = Number.isFinite(sum) ? most : Infinity;
  }
  // Tokens of twice the usual size would make the steps of all others coarse: they are left for a batch of their own.
  const finite = largest.filter(Number.isFinite).sort();
  const usual = finite.length > 0 ? finite[finite.length >>> 1] : 0;
  const most = finite.findLast((size) => size <= 2 * usual) ?? 0;
  const scale = Math.fround(most / LARGEST) || 1;
  const steps = new Uint8Array(x.length).fill(ZERO_POINT);
  const isLeftOut = new Uint8Array(nTokens);
  const perStep = 1 / scale;
  let margin = 0;
  for (let token = 0; token < nTokens; token++) {
    if (!(largest[token] <= most)) {
      isLeftOut[token] = 1;
      continue;
    }
    let [errors, squares, unscaled] = [0, 0, 0];
    for (let d = 0, at = token * width; d < width; d++, at++) {
      const scaled = x[at] * inverse[d];
      const step = Math.max(-LARGEST, Math.min(LARGEST, Math.round(scaled * perStep)));
      steps[at] = ZERO_POINT + step;
      errors += (scaled - step * scale) ** 2;
      squares += step * step;
      unscaled += x[at] * x[at];
    }
    const length = scale * Math.sqrt(squares);
    const ofEncoding = Math.sqrt(errors) + length * errorShare;
    const ofRounding = roundingShare(width) * (length + Math.sqrt(unscaled) * unscaledShare);
    margin = Math.max(margin, ofEncoding + ofRounding);
  }
  return { x: steps, scale, margin, isLeftOut };
}

/**
 * What makes a product an upper bound of `x · w + bias − floor`: a bias for it, shape `[dSae]`, rounded up. −Infinity for
 * a latent whose bias is NaN: it is never active.
 */
export function boundingBias(
  bias: Float32Array,
  { reaches }: Reach,
  options: { margin: number; floors: Float32Array | undefined },
): Float32Array {
  const { margin, floors } = options;
  const raised = new Float32Array(bias.length);
  for (let latent = 0; latent < bias.length; latent++) {
    const floor = floors?.[latent] ?? 0;
    const upper = bias[latent] - floor + margin * reaches[latent];
    const size = Math.abs(bias[latent]) + Math.abs(floor) + Math.abs(upper);
    raised[latent] = Number.isFinite(size) ? upper + BIAS_SHARE * size : Number.isNaN(upper) ? -Infinity : upper;
  }
  return raised;
}

/** Factors of the encoder's dimensions that divide the unevenness between it and activations. */
function evenFactors(rows: Float32Array, x: Float32Array, width: number): Float64Array {
  const [ofRows, ofTokens] = [rows, x].map((matrix) => {
    const squares = new Float64Array(width);
    for (let start = 0; start < matrix.length; start += width) {
      for (let d = 0; d < width; d++) {
        const square = matrix[start + d] * matrix[start + d];
        if (Number.isFinite(square)) squares[d] += square;
      }
    }
    return squares.map((sum) => Math.sqrt(sum * width / matrix.length));
  });
  return ofTokens.map((size, d) => {
    const factor = Math.sqrt(size / ofRows[d]);
    return Number.isFinite(factor) && factor > 0 ? factor : 1;
  });
}

function sumOfSquares(values: Float32Array, start: number, length: number): number {
  let squares = 0;
  for (let i = start; i < start + length; i++) squares += values[i] * values[i];
  return squares;
}
