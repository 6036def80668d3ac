/**
 * Folds what happens to activations before an SAE encodes them into its weights, for formats and programs that have no
 * word for it. The SAE then computes the same function by other numbers: sums are float64 and rounded once.
 *
 * @module
 */
import type { InputNormalization } from "../compute/contract.ts";
import type { Sae } from "./sae.ts";

/** Options of {@linkcode foldNormalization}. */
export interface FoldNormalizationOptions {
  /**
   * What becomes of a decoder bias that is subtracted from the input: it goes into the encoder's bias as well, or it
   * stays one that is subtracted.
   *
   * @default {"fold"}
   */
  inputBias?: "fold" | "keep";
  /**
   * Fold although the normalization bounds the activations first: those beyond the bounds get other latents.
   *
   * @default {false}
   */
  dropClamp?: boolean;
}

const reasons: Readonly<Record<Exclude<InputNormalization["kind"], "none" | "affine">, string>> = {
  layerNorm: "it divides each token by a deviation of its own",
  constantNorm: "it divides each token by a norm of its own",
  batch: "it depends on the batch; measure its mean and scale once and use affine",
};

/**
 * An SAE that does to activations as they are what `sae` does to normalized ones, in latents and in reconstruction:
 * rows of the encoder are divided by the scale, columns of the decoder multiplied by it, and the mean goes into the
 * biases. Without a normalization it is `sae` itself, but for its input bias.
 *
 * @throws {TypeError} If the normalization is not the same for all tokens, or has bounds that must not be dropped.
 */
export function foldNormalization(sae: Sae, options: FoldNormalizationOptions = {}): Sae {
  const { inputBias = "fold", dropClamp = false } = options;
  const { normalization = { kind: "none" } } = sae;
  const finish = (folded: Sae) => inputBias === "fold" ? foldInputBias(folded) : folded;
  if (normalization.kind === "none") return finish(sae);
  if (normalization.kind !== "affine") {
    throw new TypeError(
      `Cannot fold normalization into weights: it must be affine, current one is ${normalization.kind}, and ` +
        reasons[normalization.kind],
    );
  }
  const { mean, scale, clamp } = normalization;
  if (clamp !== undefined && !dropClamp) {
    throw new TypeError(
      `Cannot fold normalization into weights: it must not clamp activations, current bounds are ${
        clamp.join(" to ")
      }; ` +
        `drop the clamp if your activations lie within them`,
    );
  }
  const { dModel, dSae, wEnc, wDec, bDec, subtractBDec } = sae;
  const folded: Sae = {
    ...sae,
    normalization: { kind: "none" },
    wEnc: wEnc.map((weight, i) => weight / scale[Math.floor(i / dSae)]),
    wDec: wDec.map((weight, i) => weight * scale[i % dModel]),
    bDec: bDec.map((bias, d) => bias * scale[d] + mean[d]),
  };
  // A bias that is subtracted takes the mean along with it: (x − mean) / scale − b is (x − (b · scale + mean)) / scale.
  return finish(subtractBDec ? folded : { ...folded, bEnc: shiftBias(sae, (d) => mean[d] / scale[d]) });
}

/** An SAE whose decoder bias is not subtracted from the input: `bEnc − bDec · wEnc` takes its place. */
export function foldInputBias(sae: Sae): Sae {
  if (!sae.subtractBDec) return sae;
  return { ...sae, subtractBDec: false, bEnc: shiftBias(sae, (d) => sae.bDec[d]) };
}

/** `bEnc − shift · wEnc`. */
function shiftBias({ dSae, wEnc, bEnc }: Sae, shift: (d: number) => number): Float32Array {
  const sums = Float64Array.from(bEnc);
  for (let start = 0, d = 0; start < wEnc.length; start += dSae, d++) {
    const amount = shift(d);
    if (amount === 0) continue;
    for (let latent = 0; latent < dSae; latent++) sums[latent] -= amount * wEnc[start + latent];
  }
  return Float32Array.from(sums);
}
