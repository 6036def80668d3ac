/**
 * How well an SAE that is already on a device reconstructs, in the few numbers that a glance wants. Everything else, in
 * every published convention, is in `metrics.ts`; both divide the same sums.
 *
 * @module
 */
import type { LoadedSae } from "../../compute/contract.ts";
import type { MetricKey } from "./formula.ts";
import { metricFormulas } from "./formulas.ts";
import { checkMeasured, MetricSums } from "./sums.ts";

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
 * @param batches Each of shape `[nTokens, dModel]`. A token that holds NaN or an infinity is left out.
 * @throws {RangeError} If there is no token that can be measured.
 */
export async function measureReconstruction(
  sae: LoadedSae,
  batches: AsyncIterable<Float32Array>,
): Promise<Reconstruction> {
  const sums = new MetricSums(sae);
  for await (const x of batches) {
    const latents = await sae.encode(x);
    sums.add({ x, latents, reconstruction: await sae.decode(latents) });
  }
  checkMeasured(sums);
  const inputs = { sums, deadWindowTokens: Infinity, dictionaryCoherence: NaN, meanDecoderNorm: NaN };
  const value = (key: MetricKey) => metricFormulas.find((formula) => formula.key === key)!.compute(inputs);
  return {
    nTokens: sums.nTokens,
    explainedVariance: value("explainedVariance"),
    normalizedMse: value("normalizedMse"),
    mse: value("mse"),
    meanL0: value("l0"),
  };
}
