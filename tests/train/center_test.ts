import assert from "node:assert/strict";
import { fitInput, geometricMedian, measureScale } from "../../lib/train/center.ts";

Deno.test("measureScale() gives the mean and the distance from it, over tokens and dimensions", () => {
  // Around (1, 10): (±3, ±4) and (±3, ∓4).
  const { mean, scale } = measureScale(Float32Array.of(4, 14, -2, 6, 4, 6, -2, 14), 2);
  assert.deepEqual([...mean], [1, 10]);
  assert.equal(scale, Math.sqrt((9 + 16) / 2));
});

Deno.test("measureScale() keeps its digits far from zero", () => {
  const { mean, scale } = measureScale(Float32Array.of(2 ** 20 + 1, 2 ** 20 - 1), 1);
  assert.deepEqual([mean[0], scale], [2 ** 20, 1]);
});

Deno.test("geometricMedian() is where pulls of equal strength cancel, and is not moved by how far an outlier is", () => {
  // The corners of a square: its middle. On a line: the token in the middle, however far the last one is.
  const square = geometricMedian(Float32Array.of(1, 1, 3, 1, 1, 3, 3, 3), 2);
  assert.deepEqual([...square], [2, 2]);
  for (const far of [10, 1000]) {
    const [x, y] = geometricMedian(Float32Array.of(0, 0, 1, 0, 2, 0, 3, 0, far, 0), 2);
    assert.ok(Math.abs(x - 2) < 0.05 && y === 0, `${x}`);
  }
  assert.deepEqual([...geometricMedian(Float32Array.of(4, 5, 4, 5), 2)], [4, 5]);
});

Deno.test("fitInput() measures one scale, or a mean and the mean distance from it", () => {
  // Around (1, 10): distances 5, 5, 13 and 13.
  const x = Float32Array.of(4, 14, -2, 6, 6, 22, -4, -2);
  const scaled = fitInput({ kind: "scale" }, x, 2);
  assert.equal(scaled.foldedScale, Math.sqrt((25 + 169) / 4));
  assert.deepEqual(scaled.normalization, {
    kind: "affine",
    mean: new Float32Array(2),
    scale: new Float32Array(2).fill(Math.sqrt(48.5)),
  });
  // Lengths of tokens: 16 + 196, 4 + 36, 36 + 484 and 16 + 4.
  assert.equal(fitInput({ kind: "unitNorm" }, x, 2).foldedScale, Math.sqrt((212 + 40 + 520 + 20) / 4));
  assert.deepEqual(fitInput({ kind: "standardize", clamp: [-1e5, 1e5] }, x, 2), {
    normalization: {
      kind: "affine",
      mean: Float32Array.of(1, 10),
      scale: new Float32Array(2).fill(9 / Math.SQRT2),
      clamp: [-1e5, 1e5],
    },
    foldedScale: 1,
  });
  const batch = { kind: "batch", epsilon: 1e-6 } as const;
  assert.deepEqual(fitInput(batch, undefined, 2), { normalization: batch, foldedScale: 1 });
  assert.throws(() => fitInput({ kind: "scale" }, undefined, 2), {
    name: "TypeError",
    message: "Cannot train SAE: input scale must be measured on a sample, none is given",
  });
});
