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

/**
 * Counts for many latents, each stored only over the range in which it was seen, all in one array: a count is one place
 * in memory away, which is what adding millions of them costs.
 */
export class Sketch {
  /** Counts of all latents, range after range; a range that grew leaves its old place unused. */
  #counts = new Uint32Array(0);
  /** First unused place. */
  #used = 0;
  /** Three numbers a latent: what to add to a bin to find its place, the first bin of its range, and the one after it. */
  readonly #ranges: Int32Array;

  constructor(nLatents: number) {
    this.#ranges = new Int32Array(3 * nLatents);
  }

  /**
   * Counts numbers, each in the bin of its latent; those that are not above zero do not count. Places are made first, so
   * that the counting is a loop of nothing but loads and stores, many of which the processor keeps in flight at once.
   */
  addAll(latents: Uint32Array, values: Float32Array): void {
    const ranges = this.#ranges;
    const valueBits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (let i = 0; i < latents.length; i++) {
      const range = 3 * latents[i];
      const bin = binOfBits(valueBits[i]);
      if ((bin < ranges[range + 1] || bin >= ranges[range + 2]) && values[i] > 0) this.#grow(range, bin);
    }
    const counts = this.#counts;
    for (let i = 0; i < latents.length; i++) {
      if (values[i] > 0) counts[ranges[3 * latents[i]] + (binOfBits(valueBits[i]))]++;
    }
  }

  /** Counts one or more numbers in a bin. */
  add(latent: number, bin: number, count = 1): void {
    const range = 3 * latent;
    if (bin < this.#ranges[range + 1] || bin >= this.#ranges[range + 2]) this.#grow(range, bin);
    this.#counts[this.#ranges[range] + bin] += count;
  }

  #grow(range: number, bin: number): void {
    const ranges = this.#ranges;
    const [origin, first, end] = ranges.subarray(range, range + 3);
    const start = Math.floor(bin / GROWTH) * GROWTH;
    const newFirst = end === 0 ? start : Math.min(first, start);
    const newEnd = Math.max(end, start + GROWTH);
    const place = this.#used;
    this.#used += newEnd - newFirst;
    if (this.#used > this.#counts.length) {
      const larger = new Uint32Array(Math.max(this.#used, 2 * this.#counts.length));
      larger.set(this.#counts);
      this.#counts = larger;
    }
    this.#counts.copyWithin(place + first - newFirst, origin + first, origin + end);
    ranges[range] = place - newFirst;
    ranges[range + 1] = newFirst;
    ranges[range + 2] = newEnd;
  }

  /** Non-empty bins of a latent, ascending. */
  *bins(latent: number): Generator<{ bin: number; count: number }> {
    const [origin, first, end] = this.#ranges.subarray(3 * latent, 3 * latent + 3);
    for (let bin = first; bin < end; bin++) {
      const count = this.#counts[origin + bin];
      if (count > 0) yield { bin, count };
    }
  }

  /** Adds another sketch's counts. */
  merge(other: Sketch): void {
    for (let latent = 0; 3 * latent < this.#ranges.length; latent++) {
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
