/**
 * Makes latents independent of how activations are cut into batches.
 *
 * @module
 */
import type { Sae } from "./sae.ts";
import { type ActivationStream, measureStatistics, normalizationFrom } from "./statistics.ts";

/**
 * An SAE whose activations were standardized batch by batch, with the mean and deviation of the whole stream in place of
 * each batch's. Any other SAE is given back as it is.
 *
 * @param stream Begins the activations anew; it is read twice.
 * @throws {RangeError} If there is no token, a batch has another width, or a number is not finite.
 */
export async function fixNormalization(
  sae: Sae,
  stream: ActivationStream,
  options: { signal?: AbortSignal } = {},
): Promise<Sae> {
  if (sae.normalization?.kind !== "batch") return sae;
  const statistics = await measureStatistics(stream, { dModel: sae.dModel, signal: options.signal });
  const decision =
    `Activations are standardized by the mean and deviation of ${statistics.nTokens} tokens, measured once`;
  const decisions = [...sae.provenance.decisions ?? [], decision];
  return {
    ...sae,
    normalization: normalizationFrom(statistics, "meanStd"),
    provenance: { ...sae.provenance, decisions },
  };
}
