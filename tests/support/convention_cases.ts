/**
 * Cases of what surrounds a back end's product: normalizations of the input, and rules that look at a whole batch. The
 * expected numbers are naive: activations are normalized here one by one in float64, and go through the plain SAE.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { InputNormalization, SaeWeights } from "../../lib/compute/contract.ts";
import { type BackendCase, relu, scalarWeights, topK, withSae } from "./backend_case.ts";
import { assertClose, assertCloseLatents } from "./numeric_assertions.ts";
import { randomFloats, randomWeights, referenceDecode, seededRandom } from "./reference.ts";

const nTokens = 13;
const dModel = 17;
const dSae = 63;

const mean = Float32Array.from({ length: dModel }, (_, d) => d / 4 - 2);
const scale = Float32Array.from({ length: dModel }, (_, d) => 0.5 + d / 8);

/** Normalizations, and how a number of a token is normalized, naively. */
const normalizations: { normalization: InputNormalization; naive: (x: Float32Array) => Restorable[] }[] = [
  { normalization: { kind: "none" }, naive: (x) => Array.from(x, () => ({ center: 0, width: 1 })) },
  {
    normalization: { kind: "affine", mean, scale },
    naive: (x) => Array.from(x, (_, i) => ({ center: mean[i % dModel], width: scale[i % dModel] })),
  },
  {
    normalization: { kind: "layerNorm", epsilon: 1e-5 },
    naive: (x) => Array.from(x, (_, i) => moments(token(x, i), 1e-5)),
  },
  {
    normalization: { kind: "constantNorm" },
    naive: (x) => Array.from(x, (_, i) => ({ center: 0, width: Math.hypot(...token(x, i)) / Math.sqrt(dModel) })),
  },
  {
    normalization: { kind: "batch", epsilon: 1e-6 },
    naive: (x) => Array.from(x, (_, i) => moments(column(x, i), 1e-6)),
  },
];

interface Restorable {
  readonly center: number;
  readonly width: number;
}

const token = (x: Float32Array, i: number) => [...x.subarray(i - i % dModel, i - i % dModel + dModel)];
const column = (x: Float32Array, i: number) => [...x].filter((_, j) => j % dModel === i % dModel);

function moments(numbers: number[], epsilon: number): Restorable {
  const center = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  const squares = numbers.reduce((sum, number) => sum + (number - center) ** 2, 0);
  return { center, width: Math.sqrt(squares / (numbers.length - 1)) + epsilon };
}

/** Every case of the conventions. */
export function conventionCases(): BackendCase[] {
  return [
    ...normalizations.flatMap(({ normalization, naive }) =>
      [relu, topK(5, false)].map((rule): BackendCase => ({
        name: `load() obeys normalization ${normalization.kind} under ${rule.kind}`,
        async run(backend) {
          const plain = randomWeights({ dModel, dSae }, { rule, subtractBDec: true });
          const x = randomFloats(nTokens * dModel, seededRandom(7), { scale: 3 });
          const how = naive(x);
          const normalized = x.map((value, i) => (value - how[i].center) / how[i].width);
          await withSae(backend, { ...plain, normalization }, async (sae) => {
            const latents = await sae.encode(x);
            assertCloseLatents(latents, plain, normalized);
            const restored = referenceDecode(plain, latents).map((value, i) => value * how[i].width + how[i].center);
            assertClose(await sae.decode(latents), restored);
            const maxima = await sae.imageMaxima(x, { tokensPerImage: nTokens });
            for (const [entry, latent] of latents.indices.entries()) {
              assert.ok(maxima.values[latent] >= Math.fround(latents.values[entry] * (1 - 1e-5)));
            }
          });
        },
      }))
    ),
    {
      name: "load() clamps activations before an affine normalization",
      async run(backend) {
        const normalization = { kind: "affine", mean: Float32Array.of(1), scale: Float32Array.of(2), clamp: [0, 5] };
        const weights = { ...scalarWeights([1], relu), normalization } as SaeWeights;
        await withSae(backend, weights, async (sae) => {
          assert.deepEqual([...(await sae.encode(Float32Array.of(-9, 3, 100))).values], [1, 2]);
        });
      },
    },
    {
      name: "encode() keeps the k largest of the batch under batchTopK, negative ones too",
      async run(backend) {
        await withSae(backend, scalarWeights([1, -2, 3], { kind: "batchTopK", k: 4 }), async (sae) => {
          // Pre-activations: 1 -2 3 | -1 2 -3 | 0.5 -1 1.5.
          const latents = await sae.encode(Float32Array.of(1, -1, 0.5));
          assert.deepEqual([...latents.offsets], [0, 2, 3, 4]);
          assert.deepEqual([...latents.indices], [0, 2, 1, 2]);
          assert.deepEqual([...latents.values], [1, 3, 2, 1.5]);
          const maxima = await sae.imageMaxima(Float32Array.of(1, -1, 0.5), { tokensPerImage: 3 });
          assert.deepEqual([...maxima.values], [1, 2, 3]);
          assert.deepEqual([...maxima.tokens], [0, 1, 0]);
        });
        await withSae(backend, scalarWeights([1, -2], { kind: "batchTopK", k: 3 }), async (sae) => {
          assert.deepEqual([...(await sae.encode(Float32Array.of(1))).values], [1, -2]);
        });
      },
    },
    {
      name: "decode() needs the statistics of tokens that were normalized on their own",
      async run(backend) {
        const weights = { ...scalarWeights([1], relu), normalization: { kind: "constantNorm" } } as SaeWeights;
        await withSae(backend, weights, async (sae) => {
          const { statistics: _, ...bare } = await sae.encode(Float32Array.of(3));
          await assert.rejects(sae.decode(bare), {
            name: "RangeError",
            message:
              "Cannot decode latents: they must carry the statistics of their tokens, as encode() gives them, since the " +
              "normalization is constantNorm",
          });
        });
      },
    },
    {
      name: "encode() refuses to standardize a single token",
      async run(backend) {
        const weights = { ...scalarWeights([1], relu), normalization: { kind: "batch", epsilon: 0 } } as SaeWeights;
        await withSae(backend, weights, async (sae) => {
          await assert.rejects(
            sae.encode(Float32Array.of(3)),
            /^RangeError: Cannot normalize a batch: it must hold at/,
          );
        });
      },
    },
    {
      name: "load() refuses a normalization of another width",
      async run(backend) {
        const normalization = { kind: "affine", mean: new Float32Array(2), scale: Float32Array.of(1) };
        await assert.rejects(backend.load({ ...scalarWeights([1], relu), normalization } as SaeWeights), {
          name: "RangeError",
          message: "Cannot load SAE: length of the normalization's mean must be dModel 1, current value is 2",
        });
      },
    },
  ];
}
