/**
 * Brings the ways in which projects write latents to one: latents that are measured in units of their decoder row, and
 * gates beside magnitudes. Weights change in place; they belong to the reader that has just read them.
 *
 * @module
 */

import type { RawWeights } from "./raw_weights.ts";

/** Norm of each latent's decoder row; shape `[dSae]`. */
export function decoderNorms({ wDec, dModel, dSae }: RawWeights): Float64Array {
  const norms = new Float64Array(dSae);
  for (let latent = 0; latent < dSae; latent++) {
    let squares = 0;
    for (let i = latent * dModel; i < (latent + 1) * dModel; i++) squares += wDec[i] * wDec[i];
    norms[latent] = Math.sqrt(squares);
  }
  return norms;
}

/**
 * Makes every latent as many times larger as its decoder row is long, and the rows one long: the reconstruction stays,
 * thresholds grow with their latents. Latents without a decoder row stay 0.
 */
export function measureInDecoderNorms(weights: RawWeights, threshold?: Float32Array): void {
  const { wDec, bEnc, dModel, dSae } = weights;
  const norms = decoderNorms(weights);
  scaleEncoder(weights, norms);
  for (let latent = 0; latent < dSae; latent++) {
    const norm = norms[latent];
    bEnc[latent] *= norm;
    if (threshold !== undefined) threshold[latent] *= norm;
    if (norm === 0) continue;
    for (let i = latent * dModel; i < (latent + 1) * dModel; i++) wDec[i] /= norm;
  }
}

/** Multiplies the encoder column of each latent. */
export function scaleEncoder({ wEnc }: RawWeights, factors: ArrayLike<number>): void {
  const dSae = factors.length;
  for (let start = 0; start < wEnc.length; start += dSae) {
    for (let latent = 0; latent < dSae; latent++) wEnc[start + latent] *= factors[latent];
  }
}

/**
 * Folds the gate of a gated SAE: its magnitudes `relu(z · exp(rMag) + bMag)`, kept where `z + bGate > 0`, are a JumpReLU
 * whose pre-activations are the magnitudes'. `weights.bEnc` becomes `bMag`.
 *
 * @returns The thresholds.
 */
export function foldGate(
  weights: RawWeights,
  { rMag, bMag, bGate }: { rMag: Float32Array; bMag: Float32Array; bGate: Float32Array },
): Float32Array {
  const growth = Float64Array.from(rMag, Math.exp);
  scaleEncoder(weights, growth);
  weights.bEnc.set(bMag);
  return Float32Array.from(growth, (factor, latent) => bMag[latent] - bGate[latent] * factor);
}
