/**
 * What the doctor's numbers mean: whether an SAE fits, in words, and what makes the numbers doubtful.
 *
 * @module
 */
import { areEqual, type Candidate, type ExpectedNumbers } from "./candidates.ts";
import type { Sae } from "../sae.ts";

/**
 * - `fits`: as it was read, on the activations given first.
 * - `fitsOtherwise`: under other conventions, or on other activations of those given.
 * - `fitsNothing`: under none that was tried.
 */
export type Verdict = "fits" | "fitsOtherwise" | "fitsNothing";

/**
 * An SAE that fits leaves at most this share of the variance, and of what its biases alone leave. Published vision SAEs
 * leave 0.03 to 0.45; one that misses its normalization or its bias leaves about all of it, or more.
 */
const MAX_LEFT = 0.5;

/** How far numbers may be from the card's, as a factor. */
const CARD_FACTOR = 1.25;

/** Fewer tokens than this say little. */
const FEW_TOKENS = 256;

/** Says whether the best candidate, the first one, fits. */
export function judge(
  candidates: readonly Candidate[],
  options: { nTried: number; expected: ExpectedNumbers },
): { verdict: Verdict; text: string } {
  const [best] = candidates;
  const numbers = describeNumbers(best);
  if (!reconstructs(best) && !matchesCard(best, options.expected)) {
    return {
      verdict: "fitsNothing",
      text:
        `Fits nothing: of ${options.nTried} conventions the best ${numbers}. Check the model that the activations ` +
        `come from, its GELU (exact or quick), the layer and the place in it, the tokens (patches or CLS), and how ` +
        `images became pixels`,
    };
  }
  if (best.nDepartures === 0) return { verdict: "fits", text: `Fits as it was read: ${numbers}` };
  if (best.nDepartures === 1 && best.variantIndex > 0) {
    return {
      verdict: "fitsOtherwise",
      text: `Belongs to ${best.variant}: there it ${numbers}. ${describeAsRead(candidates)}`,
    };
  }
  return {
    verdict: "fitsOtherwise",
    text: `Fits, but not as it was read: on ${best.variant}, with ${describeConventions(best)}, it ${numbers}. ` +
      describeAsRead(candidates),
  };
}

/** Conventions in words: `"normalization mean, scalar; b_dec subtracted; rule ReLU"`. */
export function describeConventions(candidate: Candidate): string {
  const { normalization, subtractBDec, rule } = candidate;
  return `normalization ${normalization.name}; b_dec ${
    subtractBDec ? "subtracted" : "not subtracted"
  }; rule ${rule.name}`;
}

/** What makes the numbers doubtful, a sentence each. */
export function findWarnings(
  candidates: readonly Candidate[],
  options: { sae: Sae; expected: ExpectedNumbers; layers: readonly (number | undefined)[] },
): string[] {
  const { sae, expected, layers } = options;
  const [best, ...others] = candidates;
  const { rule } = best.rule;
  const warnings: string[] = [];
  if (best.nTokens < FEW_TOKENS) {
    warnings.push(`${best.nTokens} tokens are few: give ${FEW_TOKENS} or more, from many images`);
  }
  if (!reconstructs(best) && matchesCard(best, expected)) {
    warnings.push("The card's numbers come out, but these activations are hardly reconstructed: check both");
  }
  const layer = layers[best.variantIndex];
  if (layer !== undefined && sae.provenance.layer !== undefined && layer !== sae.provenance.layer) {
    warnings.push(
      `These are activations of layer ${layer}, the SAE says that it belongs to layer ${sae.provenance.layer}`,
    );
  } else if (layers.length === 1 && sae.provenance.layer === undefined) {
    warnings.push("Only one kind of activations was given: those of a layer above or below may fit better");
  }
  const equal = others.filter((other) => areEqual(other, best));
  if (equal.length > 0) {
    const names = equal.slice(0, 3).map((other) => `${other.variant}, ${describeConventions(other)}`);
    const more = equal.length > names.length ? `; and ${equal.length - names.length} more` : "";
    warnings.push(`Equally good on this sample: ${names.join("; ")}${more}`);
  }
  if (rule.kind === "topK" && best.meanL0 === rule.k && expected.l0 !== undefined) {
    warnings.push(`L0 tells nothing here: TopK keeps ${rule.k} latents whatever the activations are`);
  } else if (expected.l0 !== undefined && !isNear(best.meanL0, expected.l0)) {
    warnings.push(`L0 is ${best.meanL0.toFixed(1)}, the card says ${expected.l0}`);
  }
  if (expected.mse !== undefined && !isNear(best.mse, expected.mse)) {
    warnings.push(`MSE is ${best.mse.toPrecision(3)}, the card says ${expected.mse}`);
  }
  if (expected.normalizedMse !== undefined && !isNear(best.normalizedMse, expected.normalizedMse)) {
    warnings.push(`Normalized MSE is ${best.normalizedMse.toPrecision(3)}, the card says ${expected.normalizedMse}`);
  }
  if (reconstructs(best) && best.meanL0 > sae.dSae / 4) {
    warnings.push(`${best.meanL0.toFixed(0)} of ${sae.dSae} latents are active a token: that is not sparse`);
  }
  const sparser = others.find(({ score, meanL0 }) => score - best.score < Math.log(1.25) && meanL0 < best.meanL0 / 2);
  if (expected.l0 === undefined && sparser !== undefined) {
    warnings.push(
      `Nearly as good with far fewer latents (L0 ${sparser.meanL0.toFixed(1)} instead of ${best.meanL0.toFixed(1)}): ` +
        `${describeConventions(sparser)}; the L0 of the card would tell them apart`,
    );
  }
  return warnings;
}

function describeNumbers(candidate: Candidate): string {
  const { explainedVariance, meanL0, nTokens, biasNormalizedMse, normalizedMse } = candidate;
  if (!Number.isFinite(normalizedMse)) return "gives no finite numbers";
  if (meanL0 === 0) return `has no active latent on ${nTokens} tokens`;
  if (explainedVariance < 0) return `reconstructs worse than the mean would, with ${meanL0.toFixed(1)} latents a token`;
  const share = (100 * explainedVariance).toFixed(1);
  const onlyBiases = 1 - biasNormalizedMse > explainedVariance / 2 ? ", most of it by its biases alone" : "";
  return `explains ${share} % of the variance with ${meanL0.toFixed(1)} latents a token${onlyBiases}`;
}

/** Whether latents, not the biases alone, make most of the activations. Written so that NaN does not. */
function reconstructs({ normalizedMse, biasNormalizedMse, meanL0 }: Candidate): boolean {
  return meanL0 > 0 && normalizedMse <= MAX_LEFT * Math.min(1, biasNormalizedMse);
}

/** Whether all numbers of the card come out, an error among them. */
function matchesCard({ mse, normalizedMse, meanL0 }: Candidate, expected: ExpectedNumbers): boolean {
  const pairs = [[mse, expected.mse], [normalizedMse, expected.normalizedMse]] as const;
  const errors = pairs.filter(([, wanted]) => wanted !== undefined);
  return errors.length > 0 && errors.every(([value, wanted]) => isNear(value, wanted!)) &&
    (expected.l0 === undefined || isNear(meanL0, expected.l0));
}

function isNear(value: number, wanted: number): boolean {
  return value <= wanted * CARD_FACTOR && value >= wanted / CARD_FACTOR;
}

/** The numbers of what was given, as it was read. */
function describeAsRead(candidates: readonly Candidate[]): string {
  const found = candidates.find(({ nDepartures }) => nDepartures === 0);
  return found === undefined ? "" : `On ${found.variant}, as it was read, it ${describeNumbers(found)}`;
}
