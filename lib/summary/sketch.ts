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
import { freeArrays } from "../runtime/free.ts";
import type { ActiveColumns } from "./columns.ts";

/** Bits of a float32 below the ones that choose its bin. */
const DROPPED_BITS = 17;

/** Largest relative distance between a number and the middle of its bin. */
export const sketchRelativeError = 1 / 128;

// Counts are kept in pages of neighboring bins, each half a line of a processor's cache, and pages in blocks that are made as
// they are needed and never move.
const PAGE_BITS = 4;
const PAGE_BINS = 1 << PAGE_BITS;
const BLOCK_BITS = 12;
const BLOCK_PAGES = 1 << BLOCK_BITS;
/** What a count of 16 bits does not hold. */
const CARRY = 2 ** 16;

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

/** Counts for many latents. Memory is that of the pages in which something was counted. */
export class Sketch {
  /** Counts, as far as 16 bits go: most are small. */
  readonly #blocks: Uint16Array[] = [];
  /** How many times 65,536 is to be added to a count, by number of its page and place in it. */
  readonly #carries = new Map<number, number>();
  /** Pages in use. Page 0 stands for none. */
  #nPages = 1;
  /** For each latent the pages of its range, range after range; a range that grew leaves its old place unused. */
  #pages = new Uint32Array(0);
  #nPlaces = 0;
  /**
   * Three numbers a latent: what to add to the number of a page to find its place in `#pages`, the first page of its
   * range, and the one after it.
   */
  readonly #ranges: Int32Array;

  constructor(nLatents: number) {
    this.#ranges = new Int32Array(3 * nLatents);
  }

  /** Counts what is active in a batch. */
  addColumns({ starts, bits }: ActiveColumns): void {
    const ranges = this.#ranges;
    const blocks = this.#blocks;
    for (let latent = 0; latent + 1 < starts.length; latent++) {
      const start = starts[latent];
      const end = starts[latent + 1];
      if (start === end) continue;
      // Pages are made first, so that the counting is a loop of nothing but loads and stores.
      for (let entry = start; entry < end; entry++) this.#findPage(latent, binOfBits(bits[entry]));
      const pages = this.#pages;
      const origin = ranges[3 * latent];
      for (let entry = start; entry < end; entry++) {
        const bin = binOfBits(bits[entry]);
        const page = pages[origin + (bin >>> PAGE_BITS)];
        const block = blocks[page >>> BLOCK_BITS];
        const place = placeInBlock(page, bin);
        const count = block[place] + 1;
        block[place] = count;
        if (count === CARRY) this.#carry(page, bin, 1);
      }
    }
  }

  /** Counts one or more numbers in a bin. */
  add(latent: number, bin: number, count = 1): void {
    const page = this.#findPage(latent, bin);
    const block = this.#blocks[page >>> BLOCK_BITS];
    const place = placeInBlock(page, bin);
    const total = block[place] + count;
    block[place] = total % CARRY;
    if (total >= CARRY) this.#carry(page, bin, Math.floor(total / CARRY));
  }

  #carry(page: number, bin: number, times: number): void {
    const key = carryKey(page, bin);
    this.#carries.set(key, (this.#carries.get(key) ?? 0) + times);
  }

  /** The page of a bin; made if it is not there yet. */
  #findPage(latent: number, bin: number): number {
    const ranges = this.#ranges;
    const range = 3 * latent;
    const number = bin >>> PAGE_BITS;
    if (number < ranges[range + 1] || number >= ranges[range + 2]) this.#grow(range, number);
    const place = ranges[range] + number;
    const found = this.#pages[place];
    if (found !== 0) return found;
    const page = this.#nPages++;
    if (page >>> BLOCK_BITS >= this.#blocks.length) this.#blocks.push(new Uint16Array(BLOCK_PAGES * PAGE_BINS));
    return this.#pages[place] = page;
  }

  #grow(range: number, number: number): void {
    const ranges = this.#ranges;
    const newFirst = ranges[range + 2] === 0 ? number : Math.min(ranges[range + 1], number);
    const newEnd = Math.max(ranges[range + 2], number + 1);
    if (this.#nPlaces + newEnd - newFirst > this.#pages.length) this.#compact(newEnd - newFirst);
    const [origin, first, end] = ranges.subarray(range, range + 3);
    const place = this.#nPlaces;
    this.#nPlaces += newEnd - newFirst;
    this.#pages.copyWithin(place + first - newFirst, origin + first, origin + end);
    ranges[range] = place - newFirst;
    ranges[range + 1] = newFirst;
    ranges[range + 2] = newEnd;
  }

  /** Moves all ranges together, out of what was left unused, with room for as much again and for `nMore` places. */
  #compact(nMore: number): void {
    const ranges = this.#ranges;
    let nPlaces = 0;
    for (let range = 0; range < ranges.length; range += 3) nPlaces += ranges[range + 2] - ranges[range + 1];
    const pages = new Uint32Array(2 * nPlaces + nMore);
    let place = 0;
    for (let range = 0; range < ranges.length; range += 3) {
      const [origin, first, end] = ranges.subarray(range, range + 3);
      pages.set(this.#pages.subarray(origin + first, origin + end), place);
      ranges[range] = place - first;
      place += end - first;
    }
    freeArrays(this.#pages);
    this.#pages = pages;
    this.#nPlaces = nPlaces;
  }

  /** Non-empty bins of a latent, ascending. */
  *bins(latent: number): Generator<{ bin: number; count: number }> {
    const [origin, first, end] = this.#ranges.subarray(3 * latent, 3 * latent + 3);
    for (let number = first; number < end; number++) {
      const page = this.#pages[origin + number];
      if (page === 0) continue;
      const block = this.#blocks[page >>> BLOCK_BITS];
      for (let bin = number << PAGE_BITS; bin < (number + 1) << PAGE_BITS; bin++) {
        const count = block[placeInBlock(page, bin)] + CARRY * (this.#carries.get(carryKey(page, bin)) ?? 0);
        if (count > 0) yield { bin, count };
      }
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

function placeInBlock(page: number, bin: number): number {
  return ((page & (BLOCK_PAGES - 1)) << PAGE_BITS) | (bin & (PAGE_BINS - 1));
}

function carryKey(page: number, bin: number): number {
  return page * PAGE_BINS + (bin & (PAGE_BINS - 1));
}
