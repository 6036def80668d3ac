/**
 * Random numbers from a seed, the same on every machine.
 *
 * @module
 */

/** A sequence of random numbers that can be written down and gone on with. */
export interface RandomSequence {
  /** The next number in [0, 1). */
  next(): number;
  /** Seed of the rest of the sequence. */
  readonly state: number;
}

/** Numbers from a seed: mulberry32, by Tommy Ettinger (public domain), 2^32 numbers before it repeats. */
export function randomSequence(seed: number): RandomSequence {
  let state = seed >>> 0;
  return {
    next() {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    },
    get state() {
      return state;
    },
  };
}

/** Numbers in [0, 1) from a seed. */
export function seededRandom(seed: number): () => number {
  return randomSequence(seed).next;
}

/** Normal numbers of mean 0 and variance 1 (Box–Muller, one of each pair). */
export function normalFrom(random: () => number): () => number {
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** The integers below `n` in a random order (Fisher–Yates). */
export function randomOrder(n: number, random: () => number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
