/**
 * Plain loops over sparse latents: what is cheap enough that no device is needed. Work follows the number of active
 * entries, never `nTokens · dSae`.
 *
 * @module
 */
import { checkSparseLatents, type ImageMaxima, type SaeWeights, type SparseLatents } from "./contract.ts";

/**
 * Reconstruction `latents · wDec + bDec`, shape `[nTokens, dModel]`, summed in float64.
 *
 * @throws {RangeError} If the latents are of another dictionary.
 */
export function decodeSparse(latents: SparseLatents, weights: SaeWeights): Float32Array {
  const { dModel, wDec, bDec } = weights;
  const { nTokens, offsets, indices, values } = checkSparseLatents(latents, weights);
  const reconstruction = new Float32Array(nTokens * dModel);
  const sums = new Float64Array(dModel);
  for (let token = 0; token < nTokens; token++) {
    sums.set(bDec);
    const end = offsets[token + 1];
    let entry = offsets[token];
    // Four rows a pass: the sums are loaded and stored once for all of them.
    for (; entry + 4 <= end; entry += 4) {
      const a = values[entry];
      const b = values[entry + 1];
      const c = values[entry + 2];
      const e = values[entry + 3];
      const rowA = indices[entry] * dModel;
      const rowB = indices[entry + 1] * dModel;
      const rowC = indices[entry + 2] * dModel;
      const rowE = indices[entry + 3] * dModel;
      for (let d = 0; d < dModel; d++) {
        sums[d] += a * wDec[rowA + d] + b * wDec[rowB + d] + c * wDec[rowC + d] + e * wDec[rowE + d];
      }
    }
    for (; entry < end; entry++) {
      const row = indices[entry] * dModel;
      const value = values[entry];
      for (let d = 0; d < dModel; d++) sums[d] += value * wDec[row + d];
    }
    reconstruction.set(sums, token * dModel);
  }
  return reconstruction;
}

/** Maximum of each latent over each image's tokens; the tokens must make whole images. */
export function maximaOverImages(latents: SparseLatents, tokensPerImage: number): ImageMaxima {
  const { nTokens, dSae, offsets, indices, values } = latents;
  const nImages = nTokens / tokensPerImage;
  const maxima = new Float32Array(nImages * dSae);
  const tokens = new Int32Array(nImages * dSae).fill(-1);
  for (let token = 0; token < nTokens; token++) {
    const row = Math.floor(token / tokensPerImage) * dSae;
    for (let entry = offsets[token]; entry < offsets[token + 1]; entry++) {
      const position = row + indices[entry];
      if (values[entry] > maxima[position]) {
        maxima[position] = values[entry];
        tokens[position] = token % tokensPerImage;
      }
    }
  }
  return { nImages, dSae, values: maxima, tokens };
}
