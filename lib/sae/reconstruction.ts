/**
 * How well an SAE reconstructs: sums over all tokens in float64, ratios only at the end, since a mean of per-batch
 * ratios is another number.
 *
 * @module
 */
import type { LoadedSae } from "../compute/contract.ts";

/** How well an SAE reconstructs some activations. */
export interface Reconstruction {
  readonly nTokens: number;
  /** `1 − Σ|x̂ − x|² / Σ|x − mean|²`, both sums over all tokens, the mean over all tokens. */
  readonly explainedVariance: number;
  /** `1 − explainedVariance`, also called FVU. */
  readonly normalizedMse: number;
  /** Mean of the squared error over tokens and dimensions. */
  readonly mse: number;
  /** Mean number of active latents (above zero) per token. */
  readonly meanL0: number;
}

/**
 * Measures the reconstruction of a stream of activations.
 *
 * @param batches Each of shape `[nTokens, dModel]`.
 * @throws {RangeError} If there is no token.
 */
export async function measureReconstruction(
  sae: LoadedSae,
  batches: AsyncIterable<Float32Array>,
): Promise<Reconstruction> {
  const { dModel } = sae;
  const sums = new Float64Array(dModel);
  let squares = 0;
  let squaredError = 0;
  let nActive = 0;
  let nTokens = 0;
  for await (const x of batches) {
    const latents = await sae.encode(x);
    const reconstruction = await sae.decode(latents);
    for (let i = 0; i < x.length; i++) {
      sums[i % dModel] += x[i];
      squares += x[i] * x[i];
      squaredError += (reconstruction[i] - x[i]) ** 2;
    }
    for (const value of latents.values) if (value > 0) nActive++;
    nTokens += latents.nTokens;
  }
  if (nTokens === 0) throw new RangeError("Cannot measure reconstruction: there must be tokens, there are none");
  const meanSquare = sums.reduce((total, sum) => total + sum * sum, 0) / nTokens;
  const normalizedMse = squaredError / (squares - meanSquare);
  return {
    nTokens,
    explainedVariance: 1 - normalizedMse,
    normalizedMse,
    mse: squaredError / (nTokens * dModel),
    meanL0: nActive / nTokens,
  };
}
