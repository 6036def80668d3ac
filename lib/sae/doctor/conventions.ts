/**
 * The conventions under which an SAE may have been trained, and which its file may not tell: how activations were
 * normalized, whether `bDec` is subtracted, which rule follows. The doctor tries them all.
 *
 * @module
 */
import type {
  ActivationRule,
  InputNormalization,
  SaeWeights,
  SparseLatents,
  TokenRule,
} from "../../compute/contract.ts";
import { type ActivationStatistics, normalizationFrom } from "../statistics.ts";

/** A way to normalize activations. */
export interface NormalizationChoice {
  /** Short name, for tables. */
  readonly name: string;
  /** What it does. */
  readonly normalization: InputNormalization;
  /** Whether it is what the SAE was read with. */
  readonly isAsRead: boolean;
}

/** A rule. */
export interface RuleChoice {
  /** Short name, for tables. */
  readonly name: string;
  /** What it does. */
  readonly rule: ActivationRule;
  /** Whether it is what the SAE was read with. */
  readonly isAsRead: boolean;
}

/** `epsilon` that SAELens, ViT-Prisma and OpenAI's autoencoders add to a token's deviation. */
const LAYER_NORM_EPSILON = 1e-5;

/** `epsilon` that CLIP-Scope's training adds to a batch's deviations. */
const BATCH_EPSILON = 1e-6;

/** The lower end in the example that saev publishes for DINOv2: -1e5 was meant. It zeroes all that is negative. */
const MISTYPED_CLAMP = [-1e-5, 1e5] as const;

/** Every normalization worth trying, what the SAE was read with first. */
export function normalizationChoices(sae: SaeWeights, statistics: ActivationStatistics): NormalizationChoice[] {
  const asRead = sae.normalization ?? { kind: "none" };
  const scaled = normalizationFrom(statistics, "meanScalar");
  const known: [string, InputNormalization][] = [
    ["none", { kind: "none" }],
    ["layer norm", { kind: "layerNorm", epsilon: LAYER_NORM_EPSILON }],
    ["constant norm", { kind: "constantNorm" }],
    ["mean, scalar", scaled],
    ["mean, std", normalizationFrom(statistics, "meanStd")],
    ["mean", normalizationFrom(statistics, "mean")],
    ["average norm", normalizationFrom(statistics, "averageNorm")],
    ["batch", { kind: "batch", epsilon: BATCH_EPSILON }],
    ["clamp bug", { ...(asRead.kind === "affine" ? asRead : scaled), clamp: MISTYPED_CLAMP }],
  ];
  // A fixed normalization that was read is one more; the others are among the known ones.
  const nameAsRead = known.find(([, { kind }]) => kind === asRead.kind && kind !== "affine")?.[0] ?? "as read";
  const others = known.filter(([name]) => name !== nameAsRead);
  return [
    { name: nameAsRead, normalization: asRead, isAsRead: true },
    ...others.map(([name, normalization]) => ({ name, normalization, isAsRead: false })),
  ];
}

/** Every treatment of `bDec` worth trying, what the SAE was read with first; one where there is nothing to subtract. */
export function subtractChoices(sae: SaeWeights): boolean[] {
  const hasBDec = sae.bDec.some((value) => value !== 0);
  return hasBDec ? [sae.subtractBDec, !sae.subtractBDec] : [sae.subtractBDec];
}

/** Every rule worth trying, what the SAE was read with first. */
export function ruleChoices(sae: SaeWeights): RuleChoice[] {
  const { rule, dSae } = sae;
  const others: ActivationRule[] = rule.kind === "topK"
    ? [{ ...rule, relu: !rule.relu }]
    : rule.kind === "batchTopK"
    ? [{ kind: "topK", k: Math.min(rule.k, dSae), relu: false }, {
      kind: "topK",
      k: Math.min(rule.k, dSae),
      relu: true,
    }]
    : [];
  if (rule.kind !== "relu") others.push({ kind: "relu" });
  return [rule, ...others].map((candidate, i) => ({
    name: nameRule(candidate),
    rule: candidate,
    isAsRead: i === 0,
  }));
}

function nameRule(rule: ActivationRule): string {
  if (rule.kind === "topK") return `TopK ${rule.k}${rule.relu ? ", ReLU" : ""}`;
  if (rule.kind === "batchTopK") return `BatchTopK ${rule.k}`;
  return rule.kind === "relu" ? "ReLU" : "JumpReLU";
}

/** A rule that keeps whatever `rule` keeps, and that several rules share: they need one product with the encoder. */
export function widerRule(rule: ActivationRule): ActivationRule {
  if (rule.kind === "topK") return { ...rule, relu: false };
  return rule.kind === "batchTopK" ? rule : { kind: "relu" };
}

/** What `rule` keeps of latents that its {@linkcode widerRule} kept. */
export function narrowLatents(latents: SparseLatents, rule: ActivationRule): SparseLatents {
  const keeps = keeper(rule as TokenRule);
  if (keeps === undefined) return latents;
  const { nTokens, offsets, indices, values } = latents;
  const kept = { offsets: new Uint32Array(nTokens + 1), indices: indices.slice(), values: values.slice() };
  let end = 0;
  for (let token = 0; token < nTokens; token++) {
    for (let entry = offsets[token]; entry < offsets[token + 1]; entry++) {
      if (!keeps(values[entry], indices[entry])) continue;
      kept.indices[end] = indices[entry];
      kept.values[end++] = values[entry];
    }
    kept.offsets[token + 1] = end;
  }
  const { offsets: narrowed } = kept;
  return {
    ...latents,
    offsets: narrowed,
    indices: kept.indices.subarray(0, end),
    values: kept.values.subarray(0, end),
  };
}

function keeper(rule: TokenRule): ((value: number, latent: number) => boolean) | undefined {
  if (rule.kind === "topK" && rule.relu) return (value) => value > 0;
  if (rule.kind === "jumpRelu") return (value, latent) => value > rule.threshold[latent];
  return undefined;
}
