/**
 * Writes small WebAssembly modules: enough of an assembler for loops over rows of float32 numbers, four at a time.
 * WebAssembly runs the same everywhere and gives the same bits everywhere, which no other way to SIMD from TypeScript
 * does.
 * Encoding: https://webassembly.github.io/spec/core/binary/
 *
 * @module
 */

/** Bytes of some instructions. */
export type Code = readonly number[];

/** A function of a module. Parameters are 32-bit integers; locals follow them in order. */
export interface WasmFunction {
  readonly name: string;
  readonly nParameters: number;
  /** Further locals: how many 32-bit integers, then how many vectors. */
  readonly locals: { readonly i32: number; readonly v128: number };
  readonly body: Code;
}

const I32 = 0x7f;
const V128 = 0x7b;

/** An unsigned integer in seven-bit groups. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  do {
    const rest = value >>> 7;
    bytes.push((value & 0x7f) | (rest > 0 ? 0x80 : 0));
    value = rest;
  } while (value > 0);
  return bytes;
}

const simd = (opcode: number): Code => [0xfd, ...unsigned(opcode)];
const section = (id: number, content: Code): Code => [id, ...unsigned(content.length), ...content];
const list = (items: readonly Code[]): Code => [...unsigned(items.length), ...items.flat()];
const text = (value: string): Code => list([...new TextEncoder().encode(value)].map((byte) => [byte]));

export const get = (local: number): Code => [0x20, ...unsigned(local)];
export const set = (local: number, value: Code): Code => [...value, 0x21, ...unsigned(local)];
/** Only for 0 to 8191: a constant is signed, in groups of seven bits, and larger ones are not needed. */
export const constant = (value: number): Code =>
  value < 64 ? [0x41, value] : [0x41, (value & 0x7f) | 0x80, value >>> 7];
export const add = (a: Code, b: Code): Code => [...a, ...b, 0x6a];
export const multiply = (a: Code, b: Code): Code => [...a, ...b, 0x6c];
export const shiftLeft = (a: Code, bits: number): Code => [...a, ...constant(bits), 0x74];
export const subtract = (a: Code, b: Code): Code => [...a, ...b, 0x6b];
export const and = (a: Code, b: Code): Code => [...a, ...b, 0x71];
/** 1 where an integer is not zero, else 0. */
export const isSet = (a: Code): Code => [...a, 0x45, 0x45];
/** Number of zeros below the lowest bit that is set. */
export const trailingZeros = (a: Code): Code => [...a, 0x68];
export const loadI32 = (address: Code): Code => [...address, 0x28, 2, 0];
export const storeI32 = (address: Code, value: Code): Code => [...address, ...value, 0x36, 2, 0];

export const loadV = (address: Code, offset = 0): Code => [...address, ...simd(0x00), 0, ...unsigned(offset)];
export const storeV = (address: Code, value: Code, offset = 0): Code => [
  ...address,
  ...value,
  ...simd(0x0b),
  0,
  ...unsigned(offset),
];
/** The float32 at an address, in all four lanes. */
export const loadSplat = (address: Code): Code => [...address, ...simd(0x09), 2, 0];
export const zeroV: Code = [...simd(0x0c), ...new Array(16).fill(0)];
export const addV = (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe4)];
export const subtractV = (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe5)];
export const multiplyV = (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe6)];
export const divideV = (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe7)];
export const rootV = (a: Code): Code => [...a, ...simd(0xe3)];
/** The larger of each two numbers; `a`'s where one is NaN. */
export const largerV = (a: Code, b: Code): Code => [...a, ...b, ...simd(0xeb)];
/** Where `a` is at least `b`: all bits of a lane, else none. */
export const isAtLeastV = (a: Code, b: Code): Code => [...a, ...b, ...simd(0x46)];
/** Four masks of four lanes in one integer, a bit a lane, the first lowest. */
export const bitsOfMasks = ([a, b, c, d]: readonly Code[]): Code => [
  ...[...a, ...b, ...simd(0x85)], // pairs to lanes of 16 bits
  ...[...c, ...d, ...simd(0x85)],
  ...simd(0x65), // and those to lanes of 8
  ...simd(0x64),
];
/** The same number in all lanes. */
export const splat = (value: number): Code => [
  0x43,
  ...new Uint8Array(Float32Array.of(value).buffer),
  ...simd(0x13),
];
const lane = (vector: Code, index: number): Code => [...vector, ...simd(0x1f), index];
/** Stores the sum of a vector's lanes, pairs first. */
export const storeSum = (address: Code, vector: Code): Code => [
  ...address,
  ...[...lane(vector, 0), ...lane(vector, 1), 0x92],
  ...[...lane(vector, 2), ...lane(vector, 3), 0x92],
  ...[0x92, 0x38, 2, 0],
];

/**
 * Runs `body` while `local` is below `end` (unsigned), adding `step` after each pass; not at all where it is not.
 *
 * @param step 1 to 8191.
 */
export function loop(local: number, options: { end: number; step: number; body: Code }): Code {
  const { end, step, body } = options;
  const isBelow = [...get(local), ...get(end), 0x49];
  return [
    ...isBelow,
    ...[0x04, 0x40], // if
    ...[0x03, 0x40], // loop
    ...body,
    ...set(local, add(get(local), constant(step))),
    ...[...isBelow, 0x0d, 0x00], // once more
    ...[0x0b, 0x0b],
  ];
}

/** Runs `body` if the integer `condition` is not zero. */
export const when = (condition: Code, body: Code): Code => [...condition, 0x04, 0x40, ...body, 0x0b];

/** Runs `body`, and again while `condition` is not zero after it. */
export const repeat = (condition: Code, body: Code): Code => [0x03, 0x40, ...body, ...condition, 0x0d, 0x00, 0x0b];

/** Bytes of a module that imports `env.memory` and exports these functions. */
export function buildWasm(functions: readonly WasmFunction[]): Uint8Array<ArrayBuffer> {
  const types = functions.map(({ nParameters }) => [0x60, ...list(new Array(nParameters).fill([I32])), 0]);
  const bodies = functions.map(({ locals, body }) => {
    const declared = list([[...unsigned(locals.i32), I32], [...unsigned(locals.v128), V128]]);
    const content = [...declared, ...body, 0x0b];
    return [...unsigned(content.length), ...content];
  });
  const indices = functions.map((_, i) => unsigned(i));
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list(types)),
    ...section(2, list([[...text("env"), ...text("memory"), 2, 0, 0]])),
    ...section(3, list(indices)),
    ...section(7, list(functions.map(({ name }, i) => [...text(name), 0, ...indices[i]]))),
    ...section(10, list(bodies)),
  ]);
}
