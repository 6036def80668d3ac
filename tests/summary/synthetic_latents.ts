/**
 * Images made of sparse latents at random, and what a summary of them must be, in plain loops over dense float64 arrays.
 *
 * @module
 */
import fc from "fast-check";
import type { SparseLatents } from "../../lib/compute/contract.ts";
import { SummaryAccumulator, type SummarySource } from "../../lib/summary/accumulate.ts";
import type { LatentSummary } from "../../lib/summary/summary.ts";

/** One image: for each token, its latents and their values, in ascending order of latents. */
export interface SyntheticImage {
  readonly imageIndex: number;
  readonly tokens: readonly (readonly (readonly [latent: number, value: number])[])[];
}

/** An odd number of latents, the last of which is never active. */
export const dSae = 7;
export const tokensPerImage = 3;
export const imagesPerLatent = 3;

export const source: SummarySource = {
  model: { path: "models/tiny.onnx", sha256: "0123" },
  layer: 3,
  tokens: "patches",
  sae: { path: "sae", sha256: "89ab" },
  dataset: { kind: "folder", location: "images", fingerprint: "4567" },
  gridHeight: 1,
  gridWidth: 3,
};

/** Few values make ties likely; negative ones are kept by TopK without ReLU, and do not count as active. */
const anyValue = fc.oneof(
  fc.constantFrom(0.5, 1, 2, -1),
  fc.float({ min: 2 ** -20, max: 2 ** 20, noNaN: true }),
  fc.constantFrom(2 ** -149, 2 ** 30, Math.fround(1 / 3)),
);

const anyToken = fc.uniqueArray(fc.tuple(fc.nat(dSae - 2), anyValue), { maxLength: 4, selector: ([latent]) => latent })
  .map((entries) => entries.toSorted(([a], [b]) => a - b));

/** Images with different indices, in any order. */
export const anyImages: fc.Arbitrary<SyntheticImage[]> = fc.uniqueArray(
  fc.record({
    imageIndex: fc.nat(1000),
    tokens: fc.array(anyToken, { minLength: tokensPerImage, maxLength: tokensPerImage }),
  }),
  { minLength: 1, maxLength: 12, selector: ({ imageIndex }) => imageIndex },
);

/** Images as a back end hands them over. */
export function toSparse(images: readonly SyntheticImage[]): SparseLatents {
  const tokens = images.flatMap(({ tokens }) => tokens);
  const offsets = new Uint32Array(tokens.length + 1);
  tokens.forEach((entries, token) => offsets[token + 1] = offsets[token] + entries.length);
  return {
    nTokens: tokens.length,
    dSae,
    offsets,
    indices: Uint32Array.from(tokens.flat(), ([latent]) => latent),
    values: Float32Array.from(tokens.flat(), ([, value]) => value),
  };
}

/** Takes images in, in batches of a few. */
export function accumulate(
  images: readonly SyntheticImage[],
  options: { batchSize?: number } = {},
): SummaryAccumulator {
  const { batchSize = images.length } = options;
  const accumulated = new SummaryAccumulator(dSae, { imagesPerLatent });
  for (let first = 0; first < images.length; first += batchSize) {
    const batch = images.slice(first, first + batchSize);
    const imageIndices = Uint32Array.from(batch, ({ imageIndex }) => imageIndex);
    accumulated.add(toSparse(batch), { imageIndices, tokensPerImage, firstPatch: 0 });
  }
  return accumulated;
}

/** What is known of a latent, but for the functions. */
export type LatentStatistics = Omit<LatentSummary, "quantile" | "histogram" | "meanActive"> & { sum: bigint };

// Sums are kept in units of 2^-46.
const SUM_UNITS = 2 ** 46;

/** Statistics of a latent by the definitions; the sum in units of 2^-46, without any loss. */
export function referenceStatistics(images: readonly SyntheticImage[], latent: number): LatentStatistics {
  const dense = images.map(({ imageIndex, tokens }) => ({
    imageIndex,
    values: tokens.map((entries) => Math.max(0, entries.find(([index]) => index === latent)?.[1] ?? 0)),
  }));
  const active = dense.flatMap(({ values }) => values).filter((value) => value > 0);
  const strongest = dense
    .map(({ imageIndex, values }) => ({
      imageIndex,
      value: Math.max(...values),
      patchIndex: values.indexOf(Math.max(...values)),
    }))
    .filter(({ value }) => value > 0)
    .sort((a, b) => b.value - a.value || a.imageIndex - b.imageIndex);
  return {
    latent,
    nActive: active.length,
    nImagesActive: strongest.length,
    density: active.length / (images.length * tokensPerImage),
    maxActivation: strongest[0]?.value ?? 0,
    activeTokensPerImage: active.length / strongest.length,
    topImages: strongest.slice(0, imagesPerLatent),
    sum: active.reduce((total, value) => total + BigInt(Math.round(value * SUM_UNITS)), 0n),
  };
}

/** Activations of a latent above zero, ascending. */
export function activeValues(images: readonly SyntheticImage[], latent: number): number[] {
  return images.flatMap(({ tokens }) => tokens.flat()).filter(([index, value]) => index === latent && value > 0)
    .map(([, value]) => value).sort((a, b) => a - b);
}
