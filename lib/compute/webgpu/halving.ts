/**
 * What to do when a chunk does not fit in the device's memory: the same in two halves, and so on down to one.
 *
 * @module
 */
import { mayFitInParts } from "./watch.ts";

/** A run of neighbors, the last not included. */
export interface Range {
  readonly begin: number;
  readonly end: number;
}

/**
 * The results of `work` on a range: one, or those of its parts in order where the whole is too much. What has been done
 * is not done again.
 *
 * @throws What `work` throws, if less at once would not help or there is only one left.
 */
export async function inHalves<T>(
  range: Range,
  work: (range: Range) => Promise<T>,
  memory: {
    /** Whether it is worth trying that many at once, from what is known by now. */
    fits: (size: number) => boolean;
    /** Told a size that was too much, before its halves are tried. */
    onTooMuch: (size: number) => void;
  },
): Promise<T[]> {
  const { begin, end } = range;
  const size = end - begin;
  if (size < 2 || memory.fits(size)) {
    try {
      return [await work(range)];
    } catch (cause) {
      if (size < 2 || !mayFitInParts(cause)) throw cause;
      memory.onTooMuch(size);
    }
  }
  const middle = begin + Math.ceil(size / 2);
  return [
    ...await inHalves({ begin, end: middle }, work, memory),
    ...await inHalves({ begin: middle, end }, work, memory),
  ];
}
