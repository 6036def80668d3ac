/**
 * Counts positive numbers in bins whose width grows with the number: a quantile sketch that merges exactly. A bin is
 * a float32's exponent and the first 6 bits of its fraction, so the bin of a number is a shift of its bits, 64 bins
 * lie between any number and its double, and the middle of a bin is within 1/128 of everything in it. (Below 2^-126,
 * where float32 loses digits, it is within 2^-133.) Adding counts is all that merging takes, so the order of numbers and
 * of merges cannot matter.
 *
 * The idea of bins by leading bits is that of HdrHistogram (http://hdrhistogram.org); the guarantee of a relative
 * error is that of DDSketch (https://arxiv.org/abs/1908.10693).
 *
 * @module
 */

/** Bits of a float32 below the ones that choose its bin. */
const DROPPED_BITS = 17;

/** Largest relative distance between a number and the middle of its bin. */
export const sketchRelativeError = 1 / 128;

// Room is made an octave at a time.
const GROWTH = 64;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Bin of a positive float32, given by its bits. */
export function binOfBits(valueBits: number): number {
  return valueBits >>> DROPPED_BITS;
}

/** Smallest number of a bin. */
export function binLower(bin: number): number {
  bits[0] = bin << DROPPED_BITS;
  return float[0];
}

/** Middle of a bin; from the bits, since the last bin ends where float32 does. */
export function binMiddle(bin: number): number {
  bits[0] = (bin << DROPPED_BITS) + (1 << (DROPPED_BITS - 1));
  return float[0];
}

/** Counts for many latents, each stored only over the range in which it was seen. */
export class Sketch {
  /** First bin that a latent's counts hold. */
  readonly #first: Int32Array;
  readonly #counts: Uint32Array[];

  constructor(nLatents: number) {
    this.#first = new Int32Array(nLatents);
    this.#counts = new Array<Uint32Array>(nLatents).fill(new Uint32Array(0));
  }

  /** Counts one or more numbers in a bin. */
  add(latent: number, bin: number, count = 1): void {
    let position = bin - this.#first[latent];
    let counts = this.#counts[latent];
    if (position < 0 || position >= counts.length) {
      counts = this.#grow(latent, bin);
      position = bin - this.#first[latent];
    }
    counts[position] += count;
  }

  #grow(latent: number, bin: number): Uint32Array {
    const old = this.#counts[latent];
    const start = Math.floor(bin / GROWTH) * GROWTH;
    const first = old.length === 0 ? start : Math.min(this.#first[latent], start);
    const end = Math.max(old.length === 0 ? 0 : this.#first[latent] + old.length, start + GROWTH);
    const counts = new Uint32Array(end - first);
    counts.set(old, old.length === 0 ? 0 : this.#first[latent] - first);
    this.#first[latent] = first;
    this.#counts[latent] = counts;
    return counts;
  }

  /** Non-empty bins of a latent, ascending. */
  *bins(latent: number): Generator<{ bin: number; count: number }> {
    const counts = this.#counts[latent];
    for (let i = 0; i < counts.length; i++) {
      if (counts[i] > 0) yield { bin: this.#first[latent] + i, count: counts[i] };
    }
  }

  /** Adds another sketch's counts. */
  merge(other: Sketch): void {
    for (let latent = 0; latent < this.#counts.length; latent++) {
      for (const { bin, count } of other.bins(latent)) this.add(latent, bin, count);
    }
  }

  /**
   * Middle of the bin that holds the number of a latent at a rank, counted from 0 in ascending order.
   */
  atRank(latent: number, rank: number): number {
    let before = 0;
    let found = NaN;
    for (const { bin, count } of this.bins(latent)) {
      found = binMiddle(bin);
      before += count;
      if (before > rank) break;
    }
    return found;
  }
}
