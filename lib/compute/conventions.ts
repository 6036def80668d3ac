/**
 * What surrounds the product with the encoder, the same on every back end: activations are normalized on the way in and
 * brought back on the way out, and a rule that looks at a whole batch is run as a rule of one token that keeps a little
 * too much.
 *
 * @module
 */
import {
  checkSaeWeights,
  countImages,
  countTokens,
  type InputNormalization,
  type LoadedSae,
  type SaeWeights,
  type SparseLatents,
  type TokenWeights,
} from "./contract.ts";
import { normalizeInput, restoreOutput } from "./normalize.ts";
import { maximaOverImages } from "./sparse.ts";

/**
 * Loads an SAE on a back end that knows neither normalizations nor rules of a batch.
 *
 * @param load Lays out the weights on the device.
 */
export async function loadWithConventions(
  weights: SaeWeights,
  load: (weights: TokenWeights) => Promise<LoadedSae>,
): Promise<LoadedSae> {
  const { dSae, rule, normalization } = checkSaeWeights(weights);
  const perToken = rule.kind === "batchTopK"
    // The k largest of a batch are among the k largest of their tokens.
    ? { kind: "topK", k: Math.min(rule.k, dSae), relu: false } as const
    : rule;
  const inner = await load({ ...weights, rule: perToken, normalization: undefined });
  const ruled = rule.kind === "batchTopK" ? keepOfBatch(inner, rule.k) : inner;
  return normalization === undefined || normalization.kind === "none" ? ruled : normalizing(ruled, normalization);
}

function normalizing(inner: LoadedSae, normalization: InputNormalization): LoadedSae {
  const { dModel, dSae } = inner;
  const normalize = (x: Float32Array) => {
    countTokens(x, inner);
    return normalizeInput(x, { dModel, normalization });
  };
  // An affine normalization is known beforehand, so latents that were made by hand decode, too.
  const fixed = normalization.kind === "affine"
    ? { per: "dimension", mean: normalization.mean, scale: normalization.scale } as const
    : undefined;
  return {
    dModel,
    dSae,
    async encode(x) {
      const normalized = normalize(x);
      return { ...await inner.encode(normalized.x), statistics: normalized.statistics };
    },
    async decode(latents) {
      const statistics = fixed ?? latents.statistics;
      if (statistics === undefined) {
        throw new RangeError(
          `Cannot decode latents: they must carry the statistics of their tokens, as encode() gives them, since the ` +
            `normalization is ${normalization.kind}`,
        );
      }
      return restoreOutput(await inner.decode(latents), { dModel, statistics });
    },
    imageMaxima: async (x, options) => await inner.imageMaxima(normalize(x).x, options),
    dispose: () => inner.dispose(),
  };
}

function keepOfBatch(inner: LoadedSae, k: number): LoadedSae {
  const encode = async (x: Float32Array) => keepLargest(await inner.encode(x), k);
  return {
    dModel: inner.dModel,
    dSae: inner.dSae,
    encode,
    decode: (latents) => inner.decode(latents),
    async imageMaxima(x, { tokensPerImage }) {
      countImages(x, { dModel: inner.dModel, tokensPerImage });
      return maximaOverImages(await encode(x), tokensPerImage);
    },
    dispose: () => inner.dispose(),
  };
}

/** The `k` largest entries of all tokens; of equal ones the first tokens', then the lowest latents'. */
function keepLargest(latents: SparseLatents, k: number): SparseLatents {
  const { nTokens, offsets, indices, values } = latents;
  if (values.length <= k) return latents;
  const order = Uint32Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b).subarray(0, k).sort();
  const kept = new Uint32Array(nTokens + 1);
  let token = 0;
  for (const [position, entry] of order.entries()) {
    while (entry >= offsets[token + 1]) kept[++token] = position;
  }
  kept.fill(order.length, token + 1);
  return {
    ...latents,
    offsets: kept,
    indices: Uint32Array.from(order, (entry) => indices[entry]),
    values: Float32Array.from(order, (entry) => values[entry]),
  };
}
