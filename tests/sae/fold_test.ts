import assert from "node:assert/strict";
import fc from "fast-check";
import type { InputNormalization } from "../../lib/compute/contract.ts";
import { foldInputBias, foldNormalization } from "../../lib/sae/fold.ts";
import { createSae, type Sae } from "../../lib/sae/sae.ts";
import { randomFloats, randomWeights, seededRandom } from "../support/reference.ts";

const relu = { kind: "relu" } as const;

/** An SAE of random weights and an affine normalization, with activations that are spread as the normalization says. */
interface Case {
  readonly sae: Sae;
  readonly x: Float32Array;
}

function makeCase(options: { dModel: number; dSae: number; subtractBDec: boolean; seed: number }): Case {
  const { dModel, dSae, subtractBDec, seed } = options;
  const random = seededRandom(seed);
  const mean = randomFloats(dModel, random, { scale: 4 });
  const scale = randomFloats(dModel, random).map((value) => 0.05 + Math.abs(value) * 3);
  const normalization: InputNormalization = { kind: "affine", mean, scale };
  const x = randomFloats(7 * dModel, random, { scale: 2 }).map((value, i) =>
    value * scale[i % dModel] + mean[i % dModel]
  );
  const weights = randomWeights({ dModel, dSae }, { rule: relu, subtractBDec, seed: seed + 1 });
  return { sae: createSae({ ...weights, normalization }), x };
}

/** Pre-activations and a reconstruction of the positive ones, in float64 all along. */
function forward(sae: Sae, x: Float32Array): { preActivations: number[]; reconstruction: number[] } {
  const { dModel, dSae, wEnc, bEnc, wDec, bDec, subtractBDec, normalization } = sae;
  const affine = normalization?.kind === "affine" ? normalization : undefined;
  const preActivations: number[] = [];
  const reconstruction: number[] = [];
  for (let start = 0; start < x.length; start += dModel) {
    const input = Array.from({ length: dModel }, (_, d) => {
      const normalized = affine ? (x[start + d] - affine.mean[d]) / affine.scale[d] : x[start + d];
      return subtractBDec ? normalized - bDec[d] : normalized;
    });
    const pre = Array.from(
      bEnc,
      (bias, latent) => input.reduce((sum, v, d) => sum + v * wEnc[d * dSae + latent], bias),
    );
    preActivations.push(...pre);
    for (let d = 0; d < dModel; d++) {
      const output = pre.reduce((sum, h, latent) => sum + Math.max(h, 0) * wDec[latent * dModel + d], bDec[d]);
      reconstruction.push(affine ? output * affine.scale[d] + affine.mean[d] : output);
    }
  }
  return { preActivations, reconstruction };
}

/** Asserts that numbers agree to 1e-5 of the largest. */
function assertAlike(actual: number[], expected: number[], what: string): void {
  const tolerance = 1e-5 * Math.max(1, ...expected.map(Math.abs));
  const worst = Math.max(...actual.map((value, i) => Math.abs(value - expected[i])));
  assert.ok(worst <= tolerance, `${what} must agree to ${tolerance}, they differ by ${worst}`);
}

function assertSameFunction(folded: Sae, { sae, x }: Case): void {
  const [actual, expected] = [forward(folded, x), forward(sae, x)];
  assertAlike(actual.preActivations, expected.preActivations, "pre-activations");
  assertAlike(actual.reconstruction, expected.reconstruction, "reconstructions");
}

const cases = fc.record({
  dModel: fc.integer({ min: 1, max: 19 }),
  dSae: fc.integer({ min: 1, max: 33 }),
  subtractBDec: fc.boolean(),
  seed: fc.nat(2 ** 31),
}).map(makeCase);

Deno.test("foldNormalization() keeps the function, whether the bias is folded as well or not", () => {
  fc.assert(fc.property(cases, fc.constantFrom("fold" as const, "keep" as const), (made, inputBias) => {
    const folded = foldNormalization(made.sae, { inputBias });
    assert.deepEqual(folded.normalization, { kind: "none" });
    assert.equal(folded.subtractBDec, inputBias === "keep" && made.sae.subtractBDec);
    assertSameFunction(folded, made);
  }));
});

Deno.test("foldInputBias() keeps the function", () => {
  fc.assert(fc.property(cases, (made) => {
    const sae = { ...made.sae, normalization: undefined };
    const folded = foldInputBias(sae);
    assert.equal(folded.subtractBDec, false);
    assertSameFunction(folded, { ...made, sae });
  }));
});

Deno.test("foldNormalization() and foldInputBias() do not change what they are given", () => {
  const { sae } = makeCase({ dModel: 5, dSae: 7, subtractBDec: true, seed: 3 });
  const before = structuredClone(sae);
  foldNormalization(sae);
  foldInputBias(sae);
  assert.deepEqual(sae, before);
});

Deno.test("foldNormalization() folds by hand-checked numbers", () => {
  const sae = createSae({
    dModel: 2,
    dSae: 1,
    wEnc: Float32Array.of(6, 8),
    bEnc: Float32Array.of(1),
    wDec: Float32Array.of(1, 1),
    bDec: Float32Array.of(10, 20),
    subtractBDec: true,
    normalization: { kind: "affine", mean: Float32Array.of(1, 2), scale: Float32Array.of(2, 4) },
    rule: relu,
  });
  const { wEnc, bEnc, wDec, bDec } = foldNormalization(sae);
  assert.deepEqual([wEnc, wDec, bDec], [Float32Array.of(3, 2), Float32Array.of(2, 4), Float32Array.of(21, 82)]);
  // 1 − (21 · 3 + 82 · 2)
  assert.deepEqual(bEnc, Float32Array.of(-226));
});

Deno.test("foldNormalization() leaves an SAE alone that has nothing to fold", () => {
  const { sae } = makeCase({ dModel: 5, dSae: 7, subtractBDec: false, seed: 3 });
  for (const normalization of [undefined, { kind: "none" } as const]) {
    const plain = { ...sae, normalization };
    assert.equal(foldNormalization(plain), plain);
  }
});

Deno.test("foldNormalization() says why a normalization cannot be folded", () => {
  const { sae } = makeCase({ dModel: 5, dSae: 7, subtractBDec: false, seed: 3 });
  const refusals: [InputNormalization, string][] = [
    [{ kind: "layerNorm", epsilon: 1e-5 }, "layerNorm, and it divides each token by a deviation of its own"],
    [{ kind: "constantNorm" }, "constantNorm, and it divides each token by a norm of its own"],
    [
      { kind: "batch", epsilon: 1e-6 },
      "batch, and it depends on the batch; measure its mean and scale once and use affine",
    ],
  ];
  for (const [normalization, reason] of refusals) {
    assert.throws(() => foldNormalization({ ...sae, normalization }), {
      name: "TypeError",
      message: `Cannot fold normalization into weights: it must be affine, current one is ${reason}`,
    });
  }
});

Deno.test("foldNormalization() drops bounds only where it is told to", () => {
  const made = makeCase({ dModel: 5, dSae: 7, subtractBDec: true, seed: 3 });
  const normalization = { ...made.sae.normalization, clamp: [-1e5, 1e5] } as InputNormalization;
  const sae = { ...made.sae, normalization };
  assert.throws(() => foldNormalization(sae), {
    name: "TypeError",
    message: "Cannot fold normalization into weights: it must not clamp activations, current bounds are -100000 to " +
      "100000; drop the clamp if your activations lie within them",
  });
  assertSameFunction(foldNormalization(sae, { dropClamp: true }), made);
});
