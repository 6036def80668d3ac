/**
 * Gradients of the TopK objective and of AuxK, by hand and sparse: work follows the `k` active latents of a token.
 *
 * With `x̂ = Σ fⱼ dⱼ + bDec` over the active latents, the loss of a batch is `Σ |x̂ − x|² / variance`, divided by the
 * number of tokens: the share of variance that is not explained. AuxK (Gao et al., https://arxiv.org/abs/2406.04093)
 * lets latents that have not fired for long explain what is left over, so that they come back.
 *
 * @module
 */
import type { TopPreActivations } from "./forward.ts";
import type { Parameters } from "./parameters.ts";

/** What a batch is explained with. */
export interface BatchTerms {
  /** Activations minus `bDec`, shape `[nTokens, dModel]`. */
  readonly centered: Float32Array;
  readonly top: TopPreActivations;
  readonly k: number;
  readonly dModel: number;
  /** Mean squared distance of a token from the mean. */
  readonly variance: number;
}

/**
 * Adds the gradients of the reconstruction loss to `gradients`.
 *
 * @param residual Filled with `x − x̂`, shape `[nTokens, dModel]`.
 * @param fired Called for each active latent.
 * @returns The loss.
 */
export function addReconstructionGradients(
  parameters: Parameters,
  gradients: Parameters,
  terms: BatchTerms & { residual: Float32Array; fired: (latent: number) => void },
): number {
  const { centered, top, k, dModel, variance, residual, fired } = terms;
  const { wDec, wEnc } = parameters;
  const nTokens = centered.length / dModel;
  const factor = -2 / (nTokens * variance);
  let squares = 0;
  for (let token = 0; token < nTokens; token++) {
    const x = token * dModel;
    for (let d = 0; d < dModel; d++) residual[x + d] = centered[x + d];
    for (let i = token * k; i < (token + 1) * k; i++) {
      const value = top.values[i];
      if (!(value > 0)) continue;
      const row = top.latents[i] * dModel;
      fired(top.latents[i]);
      for (let d = 0; d < dModel; d++) residual[x + d] -= value * wDec[row + d];
    }
    for (let d = 0; d < dModel; d++) {
      squares += residual[x + d] * residual[x + d];
      gradients.bDec[d] += factor * residual[x + d];
    }
    for (let i = token * k; i < (token + 1) * k; i++) {
      const value = top.values[i];
      if (!(value > 0)) continue;
      const latent = top.latents[i];
      const slope = addLatentGradients(latent, value, parameters, gradients, centered, residual, x, factor, dModel);
      // The encoder sees x − bDec, so its slope reaches bDec with the opposite sign.
      const row = latent * dModel;
      for (let d = 0; d < dModel; d++) gradients.bDec[d] -= slope * wEnc[row + d];
    }
  }
  return squares / (nTokens * variance);
}

/**
 * Adds the gradients of AuxK to `gradients`: the loss between `residual` and what the dead latents make of it.
 *
 * @returns The loss, before its weight.
 */
export function addAuxKGradients(
  parameters: Parameters,
  gradients: Parameters,
  terms: BatchTerms & { residual: Float32Array; weight: number },
): number {
  const { centered, top, k, dModel, variance, residual, weight } = terms;
  const nTokens = centered.length / dModel;
  const factor = -2 * weight / (nTokens * variance);
  const left = new Float32Array(dModel);
  let squares = 0;
  for (let token = 0; token < nTokens; token++) {
    const x = token * dModel;
    left.set(residual.subarray(x, x + dModel));
    for (let i = token * k; i < (token + 1) * k; i++) {
      const value = top.values[i];
      if (!(value > 0)) continue;
      const row = top.latents[i] * dModel;
      for (let d = 0; d < dModel; d++) left[d] -= value * parameters.wDec[row + d];
    }
    for (let d = 0; d < dModel; d++) squares += left[d] * left[d];
    for (let i = token * k; i < (token + 1) * k; i++) {
      const value = top.values[i];
      if (!(value > 0)) continue;
      addLatentGradients(top.latents[i], value, parameters, gradients, centered, left, x, factor, dModel, 0);
    }
  }
  return squares / (nTokens * variance);
}

/**
 * Gradients through one active latent of one token, whose output is off by `error` (times `factor`).
 *
 * @returns The slope of the loss along the latent's pre-activation.
 */
function addLatentGradients(
  latent: number,
  value: number,
  parameters: Parameters,
  gradients: Parameters,
  centered: Float32Array,
  error: Float32Array,
  x: number,
  factor: number,
  dModel: number,
  errorStart = x,
): number {
  const row = latent * dModel;
  const { wDec } = parameters;
  let slope = 0;
  for (let d = 0; d < dModel; d++) slope += error[errorStart + d] * wDec[row + d];
  slope *= factor;
  const step = factor * value;
  for (let d = 0; d < dModel; d++) {
    gradients.wDec[row + d] += step * error[errorStart + d];
    gradients.wEnc[row + d] += slope * centered[x + d];
  }
  gradients.bEnc[latent] += slope;
  return slope;
}
