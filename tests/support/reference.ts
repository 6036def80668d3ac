/**
 * Plain float64 loops for everything a compute back end does, and seeded random data to feed them.
 * Written to be read, not to be fast: these loops are what "correct" means in the back end tests.
 *
 * @module
 */
import type { ActivationRule, ImageMaxima, SaeWeights, SparseLatents, TokenRule } from "../../lib/compute/contract.ts";

/** Pre-activations `(x - bDec) · wEnc + bEnc` in float64, shape `[nTokens, dSae]`. */
export function referencePreActivations(weights: SaeWeights, x: Float32Array): Float64Array {
  const { dModel, dSae, wEnc, bEnc, bDec, subtractBDec } = weights;
  const nTokens = x.length / dModel;
  const pre = new Float64Array(nTokens * dSae);
  for (let t = 0; t < nTokens; t++) {
    const row = pre.subarray(t * dSae, (t + 1) * dSae);
    for (let i = 0; i < dModel; i++) {
      // The published models subtract in float32, so the reference rounds here, and only here.
      const centered = subtractBDec ? Math.fround(x[t * dModel + i] - bDec[i]) : x[t * dModel + i];
      for (let j = 0; j < dSae; j++) row[j] += centered * wEnc[i * dSae + j];
    }
    for (let j = 0; j < dSae; j++) row[j] += bEnc[j];
  }
  return pre;
}

/** Latents kept from one token's pre-activations, ascending. Ties at the boundary go to the lower latent. */
export function referenceKept(pre: Float64Array, rule: TokenRule): number[] {
  const latents = Array.from(pre.keys());
  if (rule.kind === "relu") return latents.filter((latent) => pre[latent] > 0);
  if (rule.kind === "jumpRelu") {
    return latents.filter((latent) => pre[latent] > rule.threshold[latent] && pre[latent] > 0);
  }
  const largest = latents.sort((a, b) => pre[b] - pre[a] || a - b).slice(0, rule.k);
  return largest.filter((latent) => rule.relu ? pre[latent] > 0 : pre[latent] !== 0).sort((a, b) => a - b);
}

/** Latents of `x`, shape `[nTokens, dModel]`. Values are rounded to float32 once, at the end. */
export function referenceEncode(weights: SaeWeights, x: Float32Array): SparseLatents {
  const { dModel, dSae } = weights;
  const rule = weights.rule as TokenRule;
  const nTokens = x.length / dModel;
  const pre = referencePreActivations(weights, x);
  const offsets = [0];
  const indices: number[] = [];
  const values: number[] = [];
  for (let t = 0; t < nTokens; t++) {
    const row = pre.subarray(t * dSae, (t + 1) * dSae);
    for (const latent of referenceKept(row, rule)) {
      indices.push(latent);
      values.push(row[latent]);
    }
    offsets.push(indices.length);
  }
  return {
    nTokens,
    dSae,
    offsets: Uint32Array.from(offsets),
    indices: Uint32Array.from(indices),
    values: Float32Array.from(values),
  };
}

/** Reconstruction `latents · wDec + bDec`, shape `[nTokens, dModel]`. */
export function referenceDecode(weights: SaeWeights, latents: SparseLatents): Float32Array {
  const { dModel, wDec, bDec } = weights;
  const out = new Float64Array(latents.nTokens * dModel);
  for (let t = 0; t < latents.nTokens; t++) {
    for (let i = 0; i < dModel; i++) {
      let sum = bDec[i];
      for (let e = latents.offsets[t]; e < latents.offsets[t + 1]; e++) {
        sum += latents.values[e] * wDec[latents.indices[e] * dModel + i];
      }
      out[t * dModel + i] = sum;
    }
  }
  return Float32Array.from(out);
}

/** Maximum of each latent over each image's tokens. */
export function referenceImageMaxima(weights: SaeWeights, x: Float32Array, tokensPerImage: number): ImageMaxima {
  const { dModel, dSae } = weights;
  const nImages = x.length / (dModel * tokensPerImage);
  const latents = referenceEncode(weights, x);
  const values = new Float32Array(nImages * dSae);
  const tokens = new Int32Array(nImages * dSae).fill(-1);
  for (let t = 0; t < latents.nTokens; t++) {
    const image = Math.floor(t / tokensPerImage);
    for (let e = latents.offsets[t]; e < latents.offsets[t + 1]; e++) {
      const cell = image * dSae + latents.indices[e];
      if (latents.values[e] > values[cell]) {
        values[cell] = latents.values[e];
        tokens[cell] = t % tokensPerImage;
      }
    }
  }
  return { nImages, dSae, values, tokens };
}

/** Uniform numbers in [0, 1) from a 32-bit seed (the mulberry32 generator). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `length` numbers, uniform in [-scale, scale). */
export function randomFloats(
  length: number,
  random: () => number,
  options: { /** @default {1} */ scale?: number } = {},
): Float32Array {
  const { scale = 1 } = options;
  return Float32Array.from({ length }, () => (random() * 2 - 1) * scale);
}

/** `length` whole numbers between -`limit` and `limit`, for sums that are exact in float32. */
export function randomIntegers(length: number, random: () => number, options: { limit: number }): Float32Array {
  const { limit } = options;
  return Float32Array.from({ length }, () => Math.floor(random() * (2 * limit + 1)) - limit);
}

/** An SAE with random weights, encoder scaled so that pre-activations are of order one. */
export function randomWeights(
  shape: { dModel: number; dSae: number },
  options: {
    /** How latents are chosen. */
    rule: ActivationRule;
    /** @default {false} */
    subtractBDec?: boolean;
    /** @default {1} */
    seed?: number;
    /** Draw small integers, so that both back ends and the reference agree to the last bit. @default {false} */
    integers?: boolean;
  },
): SaeWeights {
  const { dModel, dSae } = shape;
  const { rule, subtractBDec = false, seed = 1, integers = false } = options;
  const random = seededRandom(seed);
  const draw = (length: number, scale: number): Float32Array =>
    integers ? randomIntegers(length, random, { limit: 3 }) : randomFloats(length, random, { scale });
  return {
    dModel,
    dSae,
    wEnc: draw(dModel * dSae, Math.sqrt(3 / dModel)),
    bEnc: draw(dSae, 0.5),
    wDec: draw(dSae * dModel, 1),
    bDec: draw(dModel, 0.5),
    subtractBDec,
    rule,
  };
}
