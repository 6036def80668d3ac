import assert from "node:assert/strict";
import { findInfinity, fromFloat16, toFloat16 } from "../../lib/runtime/float16.ts";

Deno.test("toFloat16() gives the bits of IEEE 754, rounded to nearest, halves to even", () => {
  const cases: [number, number][] = [
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [1 / 3, 0x3555],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [-1e9, 0xfc00],
    [Infinity, 0x7c00],
    // Steps are 2^-10 from 1 on: halfway goes to the even one, below or above.
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [1 + 2 ** -11 + 2 ** -20, 0x3c01],
    // A carry goes on into the exponent.
    [2 - 2 ** -12, 0x4000],
    // Without an exponent of their own.
    [2 ** -14, 0x0400],
    [2 ** -14 - 2 ** -24, 0x03ff],
    [2 ** -14 - 2 ** -26, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [2 ** -25 + 2 ** -40, 0x0001],
    [3 * 2 ** -25, 0x0002],
    [-(2 ** -26), 0x8000],
  ];
  const bits = toFloat16(Float32Array.from(cases, ([value]) => value));
  assert.deepEqual([...bits], cases.map(([, expected]) => expected));
  assert.deepEqual(fromFloat16(toFloat16(Float32Array.of(NaN))), Float32Array.of(NaN));
  assert.deepEqual(
    [...toFloat16(Float32Array.of(5, 1, 2).subarray(1))],
    [0x3c00, 0x4000],
    "a view is read from its start",
  );
});

Deno.test("fromFloat16() is exact, and toFloat16() gives every number its own bits back", () => {
  const every = Uint16Array.from({ length: 2 ** 16 }, (_, half) => half);
  const values = fromFloat16(every);
  const expected: [number, number][] = [[0x0001, 2 ** -24], [0x3555, 0.333251953125], [0xfbff, -65504], [
    0x7c00,
    Infinity,
  ]];
  for (const [half, value] of expected) assert.equal(values[half], value);
  assert.ok(Number.isNaN(values[0x7e00]) && Object.is(values[0x8000], -0));
  const back = toFloat16(values);
  every.forEach((half) => assert.ok(Number.isNaN(values[half]) || back[half] === half));
});

Deno.test("findInfinity() finds the first of either sign, and takes NaN for none", () => {
  assert.equal(findInfinity(toFloat16(Float32Array.of(1, NaN, 65504))), -1);
  assert.equal(findInfinity(toFloat16(Float32Array.of(1, -70000, Infinity))), 1);
});
