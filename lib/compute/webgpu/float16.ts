/**
 * Numbers of 16 bits (IEEE 754 binary16), for weights that are stored in half the memory. `Float16Array` would do this;
 * Node 20 does not have it.
 *
 * @module
 */

/** Largest number of 16 bits. */
export const MAX_FLOAT16 = 65504;

/** From here on numbers round to infinity: halfway between the largest number and the next power of two. */
const OVERFLOW = 65520;

const word = new DataView(new ArrayBuffer(4));

/** Bits of the float16 nearest to `value`, of two equally near ones the even one. */
export function float16Bits(value: number): number {
  word.setFloat32(0, value);
  const sign = (word.getUint8(0) & 0x80) << 8;
  const magnitude = Math.abs(word.getFloat32(0));
  if (Number.isNaN(magnitude)) return sign | 0x7e00;
  if (magnitude >= OVERFLOW) return sign | 0x7c00;
  // The distance of neighboring float16 is 2^-24 up to 2^-13, and doubles with each power of two above.
  const exponent = Math.max(-14, (word.getUint32(0) >>> 23 & 0xff) - 127);
  const mantissa = roundHalfEven(magnitude * 2 ** (10 - exponent));
  // Below 2^-14 the mantissa has no leading bit; one that rounds up carries into the exponent, as it should.
  return sign | (mantissa + ((exponent + 14) << 10));
}

/** The number that bits stand for. */
export function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** Writes `source` as float16 to `destination`, from its element `at` on. */
export function writeFloat16(source: Float32Array, destination: Uint16Array, at = 0): void {
  for (let i = 0; i < source.length; i++) destination[at + i] = float16Bits(source[i]);
}

/** Only ever given less than 2^12, which is far from where doubles lose their halves. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
