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
import { type BackendCase, relu, scalarWeights, topK, withSae } from "./backend_case.ts";
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
  ...edgeCases(),
  ...errorCases(),
];

function describe({ nTokens, dModel, dSae, subtractBDec, rule }: Shape): string {
  const ruleText = rule.kind === "relu" ? "relu" : `top ${rule.k}${rule.relu ? " with relu" : ""}`;
  return `${nTokens} tokens, ${dModel} x ${dSae}, ${ruleText}${subtractBDec ? ", bDec subtracted" : ""}`;
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

function tieCases(): BackendCase[] {
  const row = [1, 2, 0, 2, 2, 1];
  const expectations: { rule: ActivationRule; x: number; indices: number[]; values: number[] }[] = [
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
  return expectations.map(({ rule, x, indices, values }) => ({
    name: `encode() gives ties to the lower latent: ${JSON.stringify(rule)} of [${row.map((w) => w * x + 0)}]`,
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
  }));
}

/** Smallest divisor above 1, so that a batch splits into images of equal size. */
function smallestDivisor(n: number): number {
  for (let divisor = 2; divisor < n; divisor++) if (n % divisor === 0) return divisor;
  return n;
}
