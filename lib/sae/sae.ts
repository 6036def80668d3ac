/**
 * What a sparse autoencoder is: its weights, and where it belongs.
 *
 * @module
 */
import { type ActivationRule, checkSaeWeights, type InputNormalization, type SaeWeights } from "../compute/contract.ts";
import type { HookPoint } from "../vit/hooks.ts";

/** Where an SAE belongs: what its activations were recorded from. Each is `undefined` where it is not known. */
export interface SaeProvenance {
  /** The ViT: its file's name, and the hex SHA-256 of the file. */
  readonly model?: { readonly name: string; readonly sha256?: string };
  /** 0-based block whose activations it was trained on. */
  readonly layer?: number;
  /** Where in that block; the residual stream as it leaves it if absent. */
  readonly hook?: HookPoint;
  /** Which tokens it was trained on. */
  readonly tokens?: "patches" | "cls" | "all";
  /** Format of the checkpoint that it came from, if it is not ours. */
  readonly format?: string;
  /** What was decided when that was read, and why: files leave it out. */
  readonly decisions?: readonly string[];
  /** Everything else that is known about its training. */
  readonly training?: Readonly<Record<string, unknown>>;
}

/** A sparse autoencoder. */
export interface Sae extends SaeWeights {
  readonly provenance: SaeProvenance;
}

/**
 * Makes an SAE out of its parts.
 *
 * @throws {RangeError} If the shapes do not agree with each other.
 */
export function createSae(weights: SaeWeights, provenance: SaeProvenance = {}): Sae {
  return { ...checkSaeWeights(weights), provenance };
}

/**
 * Checks that an SAE takes activations of a width.
 *
 * @param what Where the activations come from, for the message.
 * @throws {RangeError} If it does not.
 */
export function checkSaeFits(sae: SaeWeights, dModel: number, options: { what: string }): void {
  if (sae.dModel !== dModel) {
    throw new RangeError(
      `Cannot use this SAE on ${options.what}: its dModel must be ${dModel}, current value is ${sae.dModel}; choose an ` +
        `SAE that was trained on this model`,
    );
  }
}

/** What an SAE is, in a few lines for people: sizes, rule, input, origin, and what was decided when it was read. */
export function describeSae(sae: Sae): string {
  const { dModel, dSae, subtractBDec, provenance } = sae;
  const { format, model, layer, tokens, decisions = [] } = provenance;
  const origin = [
    model && `model ${model.name}`,
    layer !== undefined && `layer ${layer}`,
    tokens && `trained on ${tokens}`,
  ].filter(Boolean);
  return [
    `${dSae} latents for activations of width ${dModel}${format ? `, from ${format}` : ""}`,
    `Activation: ${describeRule(sae.rule)}`,
    `Input: ${describeNormalization(sae.normalization)}, b_dec is ${subtractBDec ? "" : "not "}subtracted`,
    `Origin: ${origin.length > 0 ? origin.join(", ") : "the file does not tell"}`,
    ...decisions.map((decision) => `- ${decision}`),
  ].join("\n");
}

/** A normalization in words. */
export function describeNormalization(normalization: InputNormalization = { kind: "none" }): string {
  if (normalization.kind === "none") return "as it is";
  if (normalization.kind === "layerNorm") return "layer norm of each token";
  if (normalization.kind === "constantNorm") return "each token scaled to the norm √dModel";
  if (normalization.kind === "batch") return "standardized batch by batch";
  return `(x − mean) / scale, fixed${normalization.clamp ? `, x clamped to ${normalization.clamp.join(" to ")}` : ""}`;
}

/** An activation rule in words. */
export function describeRule(rule: ActivationRule): string {
  if (rule.kind === "relu") return "ReLU";
  if (rule.kind === "batchTopK") return `BatchTopK, the ${rule.k} largest of a batch, negative values kept`;
  if (rule.kind === "topK") return `TopK, k = ${rule.k}${rule.relu ? "" : ", negative values kept"}`;
  const { threshold } = rule;
  const [lowest, highest] = threshold.reduce(([low, high], t) => [Math.min(low, t), Math.max(high, t)], [
    Infinity,
    -Infinity,
  ]);
  return `JumpReLU, threshold ${lowest === highest ? lowest : `${lowest} to ${highest}`}`;
}
