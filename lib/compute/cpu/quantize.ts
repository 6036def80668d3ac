/**
 * Encoders and activations in 8 bits, with what that costs in precision: the lengths of the errors are measured.
 *
 * @module
 */
import { type Reach, roundingShare } from "./bounds.ts";
import { ZERO_POINT } from "./screen_graph.ts";

const LARGEST = 127;

// The least positive number of float32: a row of even smaller steps has none.
const LEAST_SCALE = 2 ** -149;

/** Added to a number of steps: all are positive then, so that cutting off rounds to the nearest. */
const ROUNDING_OFFSET = ZERO_POINT + 0.5;

// Rows that unevenness is measured on. Any factors will do, only bounds get tighter with good ones.
const EVENED_ROWS = 1024;

// Rows that are turned into columns at once: a line of columns is in another page of memory than the next.
const COLUMNS_AT_ONCE = 128;

/** What is known of an encoder in 8 bits. */
export interface Int8Facts extends Reach {
  /** What dimensions of activations are multiplied by, and those of the encoder divided by, shape `[width]`. */
  readonly factors: Float64Array;
  /** The largest `‖w' − ŵ‖ / ‖w'‖`. */
  readonly errorShare: number;
  /** The largest `‖w‖ / ‖w'‖`. */
  readonly unscaledShare: number;
}

/** An encoder in 8 bits. */
export interface Int8Encoder extends Int8Facts {
  /** Shape `[width, nColumns]`. */
  readonly columns: Int8Array;
  /** What a column is to be multiplied by, shape `[nColumns]`. */
  readonly scales: Float32Array;
}

/**
 * Puts an encoder into 8 bits.
 *
 * @param rows Shape `[nColumns, width]`.
 * @param x Some activations, shape `[nTokens, width]`: what dimensions are evened out by.
 */
export function quantizeEncoder(rows: Float32Array, x: Float32Array, width: number): Int8Encoder {
  const nColumns = rows.length / width;
  const factors = evenFactors(rows, x, width);
  const divisors = factors.map((factor) => 1 / factor);
  const columns = new Int8Array(rows.length);
  const scales = new Float32Array(nColumns).fill(1);
  const reaches = new Float64Array(nColumns);
  let [errorShare, unscaledShare] = [0, 0];
  const row = new Float64Array(width);
  const block = new Int8Array(COLUMNS_AT_ONCE * width);
  for (let first = 0; first < nColumns; first += COLUMNS_AT_ONCE) {
    const end = Math.min(first + COLUMNS_AT_ONCE, nColumns);
    block.fill(0);
    for (let latent = first; latent < end; latent++) {
      const start = latent * width;
      let [largest, squares, unscaled] = [0, 0, 0];
      for (let d = 0; d < width; d++) {
        const value = rows[start + d];
        const scaled = value * divisors[d];
        const size = Math.abs(scaled);
        row[d] = scaled;
        squares += scaled * scaled;
        unscaled += value * value;
        if (size > largest) largest = size;
      }
      if (!(squares > 0 && squares < Infinity)) continue;
      const scale = Math.fround(largest / LARGEST) || LEAST_SCALE;
      scales[latent] = scale;
      const perStep = 1 / scale;
      let errors = 0;
      for (let d = 0, at = (latent - first) * width; d < width; d++, at++) {
        const step = ((row[d] * perStep + ROUNDING_OFFSET) | 0) - ZERO_POINT;
        block[at] = step;
        const error = row[d] - step * scale;
        errors += error * error;
      }
      const reach = Math.sqrt(squares);
      reaches[latent] = reach;
      errorShare = Math.max(errorShare, Math.sqrt(errors) / reach);
      unscaledShare = Math.max(unscaledShare, Math.sqrt(unscaled) / reach);
    }
    for (let d = 0; d < width; d++) {
      const line = d * nColumns;
      for (let latent = first, at = d; latent < end; latent++, at += width) columns[line + latent] = block[at];
    }
  }
  return { columns, scales, reaches, factors, errorShare, unscaledShare };
}

/** What 8 bits have to hold of each token; Infinity where a number is not finite. Shape `[nTokens]`. */
export function measureSizes(x: Float32Array, { factors }: Pick<Int8Facts, "factors">): Float64Array {
  const width = factors.length;
  const sizes = new Float64Array(x.length / width);
  for (let token = 0, at = 0; token < sizes.length; token++) {
    let [largest, sum] = [0, 0];
    for (let d = 0; d < width; d++, at++) {
      const size = Math.abs(x[at] * factors[d]);
      if (size > largest) largest = size;
      sum += size;
    }
    // The sum is NaN where one of them is.
    sizes[token] = Number.isFinite(sum) ? largest : Infinity;
  }
  return sizes;
}

/** Activations in 8 bits. */
export interface Int8Tokens {
  /** Shape `[nTokens, width]`. */
  readonly steps: Uint8Array;
  /** What steps from {@linkcode ZERO_POINT} are to be multiplied by. */
  readonly scale: number;
  /** The largest margin of a token. */
  readonly margin: number;
}

/**
 * Puts some tokens into 8 bits, with one step for all: best those of about the same size.
 *
 * @param x Shape `[nTokens, width]`.
 * @param options.tokens Which of them.
 * @param options.size The largest of their sizes, from {@linkcode measureSizes}.
 * @param options.into Where the steps go; long enough.
 */
export function quantizeTokens(
  x: Float32Array,
  encoder: Int8Facts,
  { tokens, size, into }: { tokens: Uint32Array; size: number; into: Uint8Array },
): Int8Tokens {
  const { factors, errorShare, unscaledShare } = encoder;
  const width = factors.length;
  const scale = Math.fround(size / LARGEST) || 1;
  const perStep = 1 / scale;
  const steps = into.subarray(0, tokens.length * width);
  let margin = 0;
  for (let i = 0, at = 0; i < tokens.length; i++) {
    let [errors, squares, unscaled] = [0, 0, 0];
    const from = tokens[i] * width;
    for (let d = 0; d < width; d++, at++) {
      const value = x[from + d];
      const scaled = value * factors[d];
      const byte = (scaled * perStep + ROUNDING_OFFSET) | 0;
      steps[at] = byte;
      const step = byte - ZERO_POINT;
      const error = scaled - step * scale;
      errors += error * error;
      squares += step * step;
      unscaled += value * value;
    }
    const length = scale * Math.sqrt(squares);
    const ofEncoding = Math.sqrt(errors) + length * errorShare;
    const ofRounding = roundingShare(width) * (length + Math.sqrt(unscaled) * unscaledShare);
    margin = Math.max(margin, ofEncoding + ofRounding);
  }
  return { steps, scale, margin };
}

/** Factors of dimensions that divide the unevenness between the encoder and activations. */
function evenFactors(rows: Float32Array, x: Float32Array, width: number): Float64Array {
  const [ofRows, ofTokens] = [rows, x].map((matrix) => {
    const squares = new Float64Array(width);
    const every = width * Math.max(1, Math.floor(matrix.length / width / EVENED_ROWS));
    for (let start = 0; start < matrix.length; start += every) {
      for (let d = 0; d < width; d++) {
        const square = matrix[start + d] * matrix[start + d];
        if (square < Infinity) squares[d] += square;
      }
    }
    return squares.map((sum) => Math.sqrt(sum * every / matrix.length));
  });
  return ofTokens.map((size, d) => {
    const factor = Math.sqrt(ofRows[d] / size);
    return factor > 0 && factor < Infinity ? factor : 1;
  });
}
