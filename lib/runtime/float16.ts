/**
 * Numbers of 16 bits (IEEE 754 binary16), as their bits: not every runtime that this kit runs under has `Float16Array`.
 * Rounds to the nearest, of two that are as near to the even one.
 *
 * @module
 */

/** Largest number that float16 holds. */
export const maxFloat16 = 65504;

/** Bits of a float32: infinity, what float16 rounds to infinity, its smallest normal number, half its smallest number. */
const infinity = 0x7f800000;
const overflow = 0x477ff000;
const smallestNormal = 0x38800000;
const underflow = 0x33000000;

/** Bits of the nearest float16 of each number; infinity where it is beyond {@linkcode maxFloat16}. */
export function toFloat16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) halves[i] = halfOf(words[i]);
  return halves;
}

function halfOf(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude >= overflow) return sign | (magnitude > infinity ? 0x7e00 : 0x7c00);
  if (magnitude < underflow) return sign;
  if (magnitude >= smallestNormal) {
    // The exponent counts from -15, not -127, and 13 bits go. Just under half of the last that stays is added, and one
    // more where that is odd: what is cut off then rounds to even, and a carry goes on into the exponent.
    const rebiased = magnitude - 0x38000000;
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  // Below the normal numbers, steps are 2^-24 wide.
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  return sign | ((mantissa + (1 << (shift - 1)) - 1 + ((mantissa >>> shift) & 1)) >>> shift);
}

/** Position of the first infinity, -1 if there is none. */
export function findInfinity(halves: Uint16Array): number {
  for (let i = 0; i < halves.length; i++) {
    if ((halves[i] & 0x7fff) === 0x7c00) return i;
  }
  return -1;
}

/** The numbers that bits stand for; exact. They are written to `into`, a new array if there is none. */
export function fromFloat16<Target extends Float32Array = Float32Array<ArrayBuffer>>(
  halves: Uint16Array,
  into: Target = new Float32Array(halves.length) as Target,
): Target {
  const table = numbers ??= Float32Array.from({ length: 2 ** 16 }, (_, half) => numberOf(half));
  for (let i = 0; i < halves.length; i++) into[i] = table[halves[i]];
  return into;
}

/** Every float16; made when first needed. */
let numbers: Float32Array | undefined;

function numberOf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
