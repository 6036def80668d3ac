import assert from "node:assert/strict";
import fc from "fast-check";
import { ActiveColumns } from "../../lib/summary/columns.ts";
import { binLower, binMiddle, binOfBits, Sketch, sketchRelativeError } from "../../lib/summary/sketch.ts";

const SMALLEST_NORMAL = 2 ** -126;
const LARGEST = 3.4028234663852886e38;

const bitsOf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0];

/** Any positive float32: all magnitudes alike, the smallest and the largest among them. */
const positiveFloat = fc.oneof(
  fc.integer({ min: 1, max: bitsOf(LARGEST) }).map((bits) => new Float32Array(Uint32Array.of(bits).buffer)[0]),
  fc.constantFrom(2 ** -149, SMALLEST_NORMAL - 2 ** -149, SMALLEST_NORMAL, 1, 2 - 2 ** -23, LARGEST),
);

function sketchOf(values: readonly number[]): Sketch {
  const sketch = new Sketch(1);
  for (const value of values) sketch.add(0, binOfBits(bitsOf(value)));
  return sketch;
}

Deno.test("binOfBits() puts 64 bins between a number and its double", () => {
  const one = binOfBits(bitsOf(1));
  assert.equal(binOfBits(bitsOf(2)) - one, 64);
  assert.deepEqual([binLower(one), binLower(one + 1), binLower(one + 63), binLower(one + 64)], [
    1,
    65 / 64,
    127 / 64,
    2,
  ]);
  assert.equal(binMiddle(one), 129 / 128);
});

Deno.test("binOfBits() finds the bin that a number lies in", () => {
  fc.assert(
    fc.property(positiveFloat, (value) => {
      const bin = binOfBits(bitsOf(value));
      assert.ok(binLower(bin) <= value && value < binLower(bin + 1));
      assert.ok(binLower(bin) < binMiddle(bin) && binMiddle(bin) < binLower(bin + 1));
    }),
    { seed: 1, numRuns: 2000 },
  );
});

Deno.test("Sketch.atRank() is within 1/128 of the number at any rank, of any magnitude", () => {
  fc.assert(
    fc.property(fc.array(positiveFloat, { minLength: 1, maxLength: 50 }), (values) => {
      const sketch = sketchOf(values);
      const sorted = values.toSorted((a, b) => a - b);
      sorted.forEach((value, rank) => {
        // Below the smallest normal number, float32 has fewer digits and the error stays what it is there.
        const tolerance = sketchRelativeError * Math.max(value, SMALLEST_NORMAL);
        const found = sketch.atRank(0, rank);
        assert.ok(Math.abs(found - value) <= tolerance, `rank ${rank}: ${found} is not ${value}`);
      });
    }),
    { seed: 2, numRuns: 500 },
  );
});

Deno.test("Sketch.merge() counts as if all numbers had come to one sketch, and leaves the other as it was", () => {
  fc.assert(
    fc.property(fc.array(positiveFloat), fc.array(positiveFloat), (some, others) => {
      const sketch = sketchOf(some);
      const other = sketchOf(others);
      sketch.merge(other);
      assert.deepEqual([...sketch.bins(0)], [...sketchOf([...others, ...some]).bins(0)]);
      assert.deepEqual([...other.bins(0)], [...sketchOf(others).bins(0)]);
    }),
    { seed: 3, numRuns: 300 },
  );
});

Deno.test("Sketch.bins() keeps latents apart and ascends", () => {
  const sketch = new Sketch(3);
  sketch.add(1, 500, 2);
  sketch.add(1, 7);
  sketch.add(1, 500);
  sketch.add(2, 500);
  assert.deepEqual([...sketch.bins(0)], []);
  assert.deepEqual([...sketch.bins(1)], [{ bin: 7, count: 1 }, { bin: 500, count: 3 }]);
  assert.deepEqual([...sketch.bins(2)], [{ bin: 500, count: 1 }]);
  assert.ok(Number.isNaN(sketch.atRank(0, 0)));
});

Deno.test("Sketch.addColumns() counts as add() does, and leaves out what is not above zero", () => {
  const values = Float32Array.of(1, 0.001, -3, 1e30, 0, NaN, 1, -0, 2, 1e-40);
  const latents = Uint32Array.of(0, 2, 2, 2, 0, 1, 0, 1, 1, 1);
  const one = new Sketch(3);
  values.forEach((value, i) => value > 0 && one.add(latents[i], binOfBits(bitsOf(value))));
  const all = new Sketch(3);
  const columns = new ActiveColumns(3);
  for (const [first, end] of [[0, 4], [4, 4], [4, 10]]) {
    const nTokens = end - first;
    const offsets = Uint32Array.from({ length: nTokens + 1 }, (_, token) => token);
    const batch = {
      nTokens,
      dSae: 3,
      offsets,
      indices: latents.subarray(first, end),
      values: values.subarray(first, end),
    };
    all.addColumns(columns.fill(batch));
  }
  for (const latent of [0, 1, 2]) assert.deepEqual([...all.bins(latent)], [...one.bins(latent)]);
  assert.deepEqual([...all.bins(0)], [{ bin: binOfBits(bitsOf(1)), count: 2 }]);
});

Deno.test("Sketch counts beyond 16 bits, one by one and many at once", () => {
  const bin = binOfBits(bitsOf(1));
  const sketch = new Sketch(2);
  sketch.add(1, bin, 65_535);
  assert.deepEqual([...sketch.bins(1)], [{ bin, count: 65_535 }]);
  const columns = new ActiveColumns(2).fill({
    nTokens: 3,
    dSae: 2,
    offsets: Uint32Array.of(0, 1, 2, 3),
    indices: Uint32Array.of(1, 1, 0),
    values: Float32Array.of(1, 1, 1),
  });
  sketch.addColumns(columns);
  sketch.add(1, bin, 3 * 65_536);
  sketch.add(1, bin + 1, 2 ** 40);
  const other = new Sketch(2);
  other.merge(sketch);
  for (const { bins } of [sketch, other].map((one) => ({ bins: (latent: number) => [...one.bins(latent)] }))) {
    assert.deepEqual(bins(1), [{ bin, count: 65_537 + 3 * 65_536 }, { bin: bin + 1, count: 2 ** 40 }]);
    assert.deepEqual(bins(0), [{ bin, count: 1 }]);
  }
});

Deno.test("Sketch keeps counts where ranges of many latents grow again and again", () => {
  const sketch = new Sketch(40);
  for (let round = 0; round < 30; round++) {
    for (let latent = 0; latent < 40; latent++) {
      sketch.add(latent, 16 * ((round % 2 ? 100 + round : 100 - round) + latent));
    }
  }
  for (let latent = 0; latent < 40; latent++) {
    const bins = Array.from({ length: 30 }, (_, round) => 16 * ((round % 2 ? 100 + round : 100 - round) + latent));
    assert.deepEqual([...sketch.bins(latent)], bins.sort((a, b) => a - b).map((bin) => ({ bin, count: 1 })));
  }
});
