/**
 * Cases beside the numbers: empty batches, NaN, views, concurrent calls, and every error a back end has to raise.
 * Part of the table in `backend_cases.ts`.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Backend, LoadedSae, SparseLatents } from "../../lib/compute/contract.ts";
import { type BackendCase, jumpRelu, relu, scalarWeights, topK, withSae } from "./backend_case.ts";
import { assertCloseLatents, assertSameLatents, assertSameMaxima, assertSameNumbers } from "./numeric_assertions.ts";
import {
  randomFloats,
  randomIntegers,
  randomWeights,
  referenceDecode,
  referenceEncode,
  referenceImageMaxima,
  seededRandom,
} from "./reference.ts";

/** Unusual batches. */
export function edgeCases(): BackendCase[] {
  return [
    {
      name: "encode() keeps k entries of all-negative rows without relu, and none with it",
      async run(backend) {
        const below = jumpRelu(Array(63).fill(-100));
        for (const [rule, kept] of [[topK(5, false), 5], [topK(5, true), 0], [relu, 0], [below, 0]] as const) {
          const weights = { ...randomWeights({ dModel: 5, dSae: 63 }, { rule }), bEnc: new Float32Array(63).fill(-50) };
          const x = randomFloats(3 * 5, seededRandom(3));
          await withSae(backend, weights, async (sae) => {
            const latents = await sae.encode(x);
            assert.deepEqual(latents.offsets, Uint32Array.of(0, kept, 2 * kept, 3 * kept));
            assertCloseLatents(latents, weights, x);
            const maxima = await sae.imageMaxima(x, { tokensPerImage: 3 });
            assert.ok(maxima.values.every((value) => value === 0) && maxima.tokens.every((token) => token === -1));
          });
        }
      },
    },
    {
      name: "imageMaxima() takes the first token on ties, and only tokens whose latent survived the rule",
      async run(backend) {
        await withSae(backend, scalarWeights([1, 2, -1], topK(1, true)), async (sae) => {
          const maxima = await sae.imageMaxima(Float32Array.of(1, 3, 3, -2, 0, -2), { tokensPerImage: 3 });
          assert.deepEqual(maxima, {
            nImages: 2,
            dSae: 3,
            // Latent 0 is never the largest, latent 2 only where x is negative.
            values: Float32Array.of(0, 6, 0, 0, 0, 2),
            tokens: Int32Array.of(-1, 1, -1, -1, -1, 0),
          });
        });
      },
    },
    {
      name: "imageMaxima() leaves out tokens whose value is not above the threshold of the latent",
      async run(backend) {
        await withSae(backend, scalarWeights([1, 1, 1, -1], jumpRelu([0, 2, 2.5, -5])), async (sae) => {
          const maxima = await sae.imageMaxima(Float32Array.of(2, 3, 3, 1, -1, 2), { tokensPerImage: 3 });
          assert.deepEqual(maxima, {
            nImages: 2,
            dSae: 4,
            // Latent 1 is 2 on the last token, which is not above 2; latent 3 is above -5 everywhere.
            values: Float32Array.of(3, 3, 3, 0, 2, 0, 0, 1),
            tokens: Int32Array.of(1, 1, 1, -1, 2, -1, -1, 1),
          });
        });
      },
    },
    {
      name: "load() leaves thresholds as they are, and takes a view into a larger buffer",
      async run(backend) {
        const whole = Float32Array.of(9, 9, -3, 2, 0, 9);
        const before = whole.slice();
        const rule = { kind: "jumpRelu", threshold: whole.subarray(2, 5) } as const;
        await withSae(backend, scalarWeights([1, 2, 3], rule), async (sae) => {
          assert.deepEqual((await sae.encode(Float32Array.of(1))).values, Float32Array.of(1, 3));
        });
        assert.deepEqual(whole, before);
      },
    },
    {
      name: "encode(), decode() and imageMaxima() accept an empty batch",
      async run(backend) {
        await withSae(backend, scalarWeights([1, 2], relu), async (sae) => {
          const latents = await sae.encode(new Float32Array(0));
          assert.deepEqual(latents.offsets, Uint32Array.of(0));
          assert.deepEqual([latents.nTokens, latents.indices.length, latents.values.length], [0, 0, 0]);
          assert.deepEqual(await sae.decode(latents), new Float32Array(0));
          const maxima = await sae.imageMaxima(new Float32Array(0), { tokensPerImage: 2 });
          assert.deepEqual([maxima.nImages, maxima.values.length, maxima.tokens.length], [0, 0, 0]);
        });
      },
    },
    {
      name: "decode() gives bDec where nothing is active, and skips latents whose order is not the batch's",
      async run(backend) {
        await withSae(backend, scalarWeights([1, 2, 4], relu), async (sae) => {
          const latents: SparseLatents = {
            nTokens: 3,
            dSae: 3,
            offsets: Uint32Array.of(0, 0, 2, 3),
            indices: Uint32Array.of(0, 2, 1),
            values: Float32Array.of(3, -1, 0.25),
          };
          assert.deepEqual(await sae.decode(latents), Float32Array.of(0.5, -0.5, 1));
        });
      },
    },
    {
      name: "encode() keeps nothing of a token that holds NaN, and leaves its neighbors alone",
      async run(backend) {
        for (const rule of [relu, topK(2, true), topK(2, false), topK(3, false), jumpRelu([0.5, -1, 3])]) {
          await withSae(backend, scalarWeights([1, -2, 3], rule), async (sae) => {
            const clean = await sae.encode(Float32Array.of(1, 2));
            const dirty = await sae.encode(Float32Array.of(1, NaN, 2));
            const [, first, second] = clean.offsets;
            assert.deepEqual(dirty.offsets, Uint32Array.of(0, first, first, second));
            assert.deepEqual(dirty.values, clean.values);
          });
        }
      },
    },
    {
      name: "encode() and imageMaxima() accept a view into a larger buffer and leave it as it was",
      async run(backend) {
        const weights = randomWeights({ dModel: 5, dSae: 63 }, { rule: topK(4, true), integers: true });
        const whole = randomIntegers(7 + 3 * 5, seededRandom(4), { limit: 3 });
        const view = whole.subarray(7);
        const before = whole.slice();
        await withSae(backend, weights, async (sae) => {
          assertSameLatents(await sae.encode(view), referenceEncode(weights, view.slice()));
          assertSameMaxima(
            await sae.imageMaxima(view, { tokensPerImage: 3 }),
            referenceImageMaxima(weights, view.slice(), 3),
          );
        });
        assert.deepEqual(whole, before);
      },
    },
    {
      name: "encode() gives each of several concurrent calls its own answer",
      async run(backend) {
        const weights = randomWeights({ dModel: 17, dSae: 63 }, { rule: topK(4, true), integers: true });
        const batches = [3, 65, 1, 0, 30].map((n, i) => randomIntegers(n * 17, seededRandom(i), { limit: 3 }));
        await withSae(backend, weights, async (sae) => {
          const answers = await Promise.all(batches.map((x) => sae.encode(x)));
          answers.forEach((latents, i) => assertSameLatents(latents, referenceEncode(weights, batches[i])));
          const decoded = await Promise.all(answers.map((latents) => sae.decode(latents)));
          decoded.forEach((out, i) => assertSameNumbers(out, referenceDecode(weights, answers[i]), `batch ${i}`));
        });
      },
    },
    {
      name: "load() lets two dictionaries of different sizes live side by side",
      async run(backend) {
        await withSae(backend, scalarWeights([1, 2, 3], topK(1, true)), async (narrow) => {
          await withSae(backend, scalarWeights([-1, 2, -3, 4, 5], relu), async (wide) => {
            const [a, b] = await Promise.all([narrow.encode(Float32Array.of(1)), wide.encode(Float32Array.of(1))]);
            assert.deepEqual([...a.indices], [2]);
            assert.deepEqual([...b.values], [2, 4, 5]);
          });
        });
      },
    },
  ];
}

/** Calls that must be refused, with class and message. */
export function errorCases(): BackendCase[] {
  const weights = randomWeights({ dModel: 5, dSae: 7 }, { rule: topK(2, true) });
  const latents: SparseLatents = {
    nTokens: 1,
    dSae: 7,
    offsets: Uint32Array.of(0, 1),
    indices: Uint32Array.of(6),
    values: Float32Array.of(1),
  };
  const calls: { name: string; message: RegExp; call(backend: Backend, sae: LoadedSae): Promise<unknown> }[] = [
    {
      name: "load() rejects weights of the wrong length",
      message: /^Cannot load SAE: bEnc must hold 7 numbers for dModel 5 and dSae 7, current length is 6$/,
      call: (backend) => backend.load({ ...weights, bEnc: new Float32Array(6) }),
    },
    {
      name: "load() rejects k beyond the dictionary",
      message: /^Cannot load SAE: k must be an integer between 1 and 7, current value is 8$/,
      call: (backend) => backend.load({ ...weights, rule: topK(8, true) }),
    },
    {
      name: "load() rejects thresholds for another dictionary",
      message: /^Cannot load SAE: threshold must hold 7 numbers for dSae 7, current length is 1$/,
      call: (backend) => backend.load({ ...weights, rule: jumpRelu([0.5]) }),
    },
    {
      name: "load() rejects a threshold that is NaN",
      message: /^Cannot load SAE: threshold of latent 5 must be a number, current value is NaN$/,
      call: (backend) => backend.load({ ...weights, rule: jumpRelu([0, 1, -1, Infinity, 0, NaN, 2]) }),
    },
    {
      name: "encode() rejects activations of another width",
      message: /^Cannot encode batch: expected activations of shape \[nTokens, 5\], current length is 11$/,
      call: (_, sae) => sae.encode(new Float32Array(11)),
    },
    {
      name: "imageMaxima() rejects a part of an image",
      message: /^Cannot encode images: expected activations of shape \[nImages, 3, 5\], current length is 20$/,
      call: (_, sae) => sae.imageMaxima(new Float32Array(20), { tokensPerImage: 3 }),
    },
    {
      name: "imageMaxima() rejects images without tokens",
      message: /^Cannot encode images: tokensPerImage must be an integer of at least 1, current value is 0$/,
      call: (_, sae) => sae.imageMaxima(new Float32Array(20), { tokensPerImage: 0 }),
    },
    {
      name: "decode() rejects latents of another dictionary",
      message: /^Cannot decode latents: dSae must be 7, current value is 8$/,
      call: (_, sae) => sae.decode({ ...latents, dSae: 8 }),
    },
    {
      name: "decode() rejects a latent outside the dictionary",
      message: /^Cannot decode latents: indices must be below 7, current value is 7$/,
      call: (_, sae) => sae.decode({ ...latents, indices: Uint32Array.of(7) }),
    },
    {
      name: "decode() rejects values and indices of different lengths",
      message: /^Cannot decode latents: length of values must be 1, current value is 2$/,
      call: (_, sae) => sae.decode({ ...latents, values: Float32Array.of(1, 2) }),
    },
  ];
  return calls.map(({ name, message, call }) => ({
    name,
    async run(backend) {
      await withSae(backend, weights, async (sae) => {
        await assert.rejects(async () => await call(backend, sae), { name: "RangeError", message });
      });
    },
  }));
}
