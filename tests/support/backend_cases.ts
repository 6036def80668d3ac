/**
 * The cases every compute back end has to pass, whatever its device. The tests of `cpu/` and of `webgpu/` (under Deno
 * and under Node) all run this one table, which is what makes "two back ends, one meaning" a tested claim.
 *
 * Each shape is run twice. With small integers every sum is exact in float32, so the answer must equal the reference to
 * the last bit, ties included. With random floats values may differ by rounding, and a latent may fall on the other
 * side of a boundary only where its pre-activation is that close to it.
 *
 * @module
 */
import type { ActivationRule, Backend } from "../../lib/compute/contract.ts";
import {
  type BackendCase,
  describeRule,
  jumpRelu,
  mixedThresholds,
  relu,
  scalarWeights,
  topK,
  withSae,
} from "./backend_case.ts";
import { conventionCases } from "./convention_cases.ts";
import { edgeCases, errorCases } from "./backend_edge_cases.ts";
import {
  assertClose,
  assertCloseLatents,
  assertSameLatents,
  assertSameMaxima,
  assertSameNumbers,
} from "./numeric_assertions.ts";
import {
  randomFloats,
  randomIntegers,
  randomWeights,
  referenceDecode,
  referenceEncode,
  referenceImageMaxima,
  seededRandom,
} from "./reference.ts";

interface Shape {
  nTokens: number;
  dModel: number;
  dSae: number;
  subtractBDec: boolean;
  rule: ActivationRule;
}

/** Odd sizes on purpose: one less and one more than any tile, k beyond one workgroup, k of the whole dictionary. */
const shapes: Shape[] = [
  { nTokens: 1, dModel: 1, dSae: 1, subtractBDec: false, rule: relu },
  { nTokens: 3, dModel: 5, dSae: 7, subtractBDec: true, rule: topK(2, true) },
  { nTokens: 65, dModel: 17, dSae: 63, subtractBDec: false, rule: topK(5, false) },
  { nTokens: 130, dModel: 193, dSae: 257, subtractBDec: true, rule: relu },
  { nTokens: 3, dModel: 192, dSae: 1537, subtractBDec: false, rule: topK(32, true) },
  { nTokens: 65, dModel: 192, dSae: 1536, subtractBDec: true, rule: topK(300, false) },
  { nTokens: 3, dModel: 193, dSae: 1537, subtractBDec: true, rule: topK(1537, true) },
  { nTokens: 1, dModel: 5, dSae: 257, subtractBDec: false, rule: topK(257, false) },
  { nTokens: 2, dModel: 3, dSae: 16411, subtractBDec: true, rule: topK(40, false) },
  { nTokens: 65, dModel: 17, dSae: 63, subtractBDec: true, rule: jumpRelu(mixedThresholds(63)) },
  { nTokens: 130, dModel: 193, dSae: 257, subtractBDec: false, rule: jumpRelu(mixedThresholds(257)) },
  { nTokens: 3, dModel: 5, dSae: 1537, subtractBDec: true, rule: jumpRelu(mixedThresholds(1537)) },
  { nTokens: 5, dModel: 9, dSae: 4104, subtractBDec: false, rule: relu },
  { nTokens: 4, dModel: 7, dSae: 48, subtractBDec: true, rule: jumpRelu(mixedThresholds(48)) },
];

/** Runs every case in turn; for runtimes without a test runner. */
export async function checkBackend(
  backend: Backend,
  options: {
    /** Called with the name of each case that passed. @default {() => {}} */
    onPass?: (name: string) => void;
  } = {},
): Promise<void> {
  const { onPass = () => {} } = options;
  for (const { name, run } of backendCases) {
    await run(backend);
    onPass(name);
  }
}

/** Every case. */
export const backendCases: readonly BackendCase[] = [
  ...shapes.flatMap((shape) => [exactCase(shape), roundedCase(shape)]),
  ...tieCases(),
  ...thresholdCases(),
  ...conventionCases(),
  ...edgeCases(),
  ...errorCases(),
];

function describe({ nTokens, dModel, dSae, subtractBDec, rule }: Shape): string {
  return `${nTokens} tokens, ${dModel} x ${dSae}, ${describeRule(rule)}${subtractBDec ? ", bDec subtracted" : ""}`;
}

function exactCase(shape: Shape): BackendCase {
  return {
    name: `encode(), decode() and imageMaxima() are exact on integers: ${describe(shape)}`,
    async run(backend) {
      const weights = randomWeights(shape, { ...shape, integers: true });
      const x = randomIntegers(shape.nTokens * shape.dModel, seededRandom(2), { limit: 3 });
      await withSae(backend, weights, async (sae) => {
        const latents = await sae.encode(x);
        assertSameLatents(latents, referenceEncode(weights, x));
        assertSameNumbers(await sae.decode(latents), referenceDecode(weights, latents), "reconstruction");
        for (const tokensPerImage of new Set([smallestDivisor(shape.nTokens), shape.nTokens])) {
          const maxima = await sae.imageMaxima(x, { tokensPerImage });
          assertSameMaxima(maxima, referenceImageMaxima(weights, x, tokensPerImage));
        }
      });
    },
  };
}

function roundedCase(shape: Shape): BackendCase {
  return {
    name: `encode() and decode() agree with float64 loops: ${describe(shape)}`,
    async run(backend) {
      const weights = randomWeights(shape, shape);
      const x = randomFloats(shape.nTokens * shape.dModel, seededRandom(2), { scale: 2 });
      await withSae(backend, weights, async (sae) => {
        const latents = await sae.encode(x);
        assertCloseLatents(latents, weights, x);
        assertClose(await sae.decode(latents), referenceDecode(weights, latents));
      });
    },
  };
}

interface Expectation {
  rule: ActivationRule;
  x: number;
  indices: number[];
  values: number[];
}

/** One token whose pre-activations are the row times `x`. */
function rowCase(name: string, row: number[], { rule, x, indices, values }: Expectation): BackendCase {
  return {
    name: `encode() ${name} of [${row.map((w) => w * x + 0)}]`,
    async run(backend) {
      await withSae(backend, scalarWeights(row, rule), async (sae) => {
        assertSameLatents(await sae.encode(Float32Array.of(x)), {
          nTokens: 1,
          dSae: row.length,
          offsets: Uint32Array.of(0, indices.length),
          indices: Uint32Array.from(indices),
          values: Float32Array.from(values),
        });
      });
    },
  };
}

function tieCases(): BackendCase[] {
  const row = [1, 2, 0, 2, 2, 1];
  const expectations: Expectation[] = [
    { rule: topK(2, true), x: 1, indices: [1, 3], values: [2, 2] },
    { rule: topK(4, true), x: 1, indices: [0, 1, 3, 4], values: [1, 2, 2, 2] },
    // -1 -2 0 -2 -2 -1: the zero takes one of the k places but is never kept.
    { rule: topK(2, false), x: -1, indices: [0], values: [-1] },
    { rule: topK(4, false), x: -1, indices: [0, 1, 5], values: [-1, -2, -1] },
    { rule: topK(6, false), x: -1, indices: [0, 1, 3, 4, 5], values: [-1, -2, -2, -2, -1] },
    { rule: topK(4, true), x: -1, indices: [], values: [] },
    { rule: relu, x: -1, indices: [], values: [] },
    { rule: relu, x: 0, indices: [], values: [] },
    { rule: topK(3, false), x: 0, indices: [], values: [] },
  ];
  return expectations.map((expected) =>
    rowCase(`gives ties to the lower latent: ${describeRule(expected.rule)}`, row, expected)
  );
}

function thresholdCases(): BackendCase[] {
  const row = [1, 2, 0, 2, 3, 1];
  const [justBelow2, justAbove2] = [2 - 2 ** -23, 2 + 2 ** -22];
  const cases: { threshold: number[]; x: number; indices: number[]; values: number[] }[] = [
    // 2 is not above 2, nor 0 above 0.
    { threshold: [0, 2, 0, 1, 3, 0.5], x: 1, indices: [0, 3, 5], values: [1, 2, 1] },
    { threshold: [0, justBelow2, 0, justAbove2, 3, 1], x: 1, indices: [0, 1], values: [1, 2] },
    // Below zero a threshold is a ReLU.
    { threshold: [-1, -2, -3, -0, 4, -Infinity], x: 1, indices: [0, 1, 3, 5], values: [1, 2, 2, 1] },
    { threshold: [-9, -9, -9, -9, -9, -9], x: -1, indices: [], values: [] },
    { threshold: [Infinity, 0, 1e30, 1, 2.5, Infinity], x: 1, indices: [1, 3, 4], values: [2, 2, 3] },
  ];
  return cases.map(({ threshold, ...expected }) =>
    rowCase(`keeps what is above its threshold and above zero: [${threshold}]`, row, {
      rule: jumpRelu(threshold),
      ...expected,
    })
  );
}

/** Smallest divisor above 1, so that a batch splits into images of equal size. */
function smallestDivisor(n: number): number {
  for (let divisor = 2; divisor < n; divisor++) if (n % divisor === 0) return divisor;
  return n;
}
