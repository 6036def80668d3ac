/**
 * Reads SAEs of ViT-Prisma (https://github.com/Prisma-Multimodal/ViT-Prisma): `weights.pt` or `n_images_*.pt`, a state
 * dict, beside a `config.json`. Standard ones are ReLU or TopK, the latter without negative values, gated ones become
 * thresholds; `b_dec` is always subtracted, and each token is layer-normalized unless the configuration says otherwise.
 *
 * @module
 */
import type { ActivationRule, InputNormalization } from "../compute/contract.ts";
import { CheckpointConfig } from "./config.ts";
import {
  type Checkpoint,
  type CheckpointDictionary,
  type CheckpointOrigin,
  type Decision,
  originOfHook,
} from "./dictionary.ts";
import { foldGate } from "./latent_scale.ts";
import { readShaped, readWeights } from "./raw_weights.ts";

const normalizations = ["none", "layer_norm", "constant_norm_rescale"] as const;

// What ViT-Prisma adds to a token's deviation.
const LAYER_NORM_EPSILON = 1e-5;

/** Whether a checkpoint is one of ViT-Prisma, by its configuration: its tensors have the names of SAELens's. */
export async function isVitPrisma(checkpoint: Checkpoint): Promise<boolean> {
  const { entries } = checkpoint.file;
  if (!entries.has("W_enc") || !entries.has("W_dec")) return false;
  const config = await checkpoint.config();
  return ["layer_subtype", "hook_point_layer", "use_patches_only"].some((name) => config?.get(name) !== undefined);
}

/**
 * Reads an SAE of ViT-Prisma.
 *
 * @throws {TypeError} If it is a transcoder, or has an activation that is not supported.
 * @throws {RangeError} If its tensors do not fit each other.
 */
export async function readVitPrisma(checkpoint: Checkpoint): Promise<CheckpointDictionary> {
  const { file } = checkpoint;
  const given = await checkpoint.config();
  const config = given ?? new CheckpointConfig({}, "config.json");
  if (config.boolean("is_transcoder") || file.entries.has("b_dec_out") || file.entries.has("W_skip")) {
    throw new TypeError("Cannot read ViT-Prisma checkpoint: it must be an SAE, it is a transcoder");
  }
  const architecture = config.oneOf("architecture", ["standard", "gated"]) ?? "standard";
  const activation = config.oneOf("activation_fn_str", ["relu", "topk"]) ?? "relu";
  const weights = await readWeights(file, { wEnc: "W_enc", bEnc: "b_enc", wDec: "W_dec", bDec: "b_dec" });
  const vector = (name: string) => readShaped(file, name, [weights.dSae]);
  const decisions: Decision[] = [
    { about: "bias", sentence: "b_dec is subtracted from the input, as ViT-Prisma does" },
  ];
  let rule: ActivationRule = { kind: "relu" };
  if (architecture === "gated") {
    if (activation !== "relu") {
      throw new TypeError(
        "Cannot read ViT-Prisma checkpoint: activation_fn_str of a gated SAE must be relu, it is topk",
      );
    }
    const [rMag, bMag, bGate] = await Promise.all([vector("r_mag"), vector("b_mag"), vector("b_gate")]);
    rule = { kind: "jumpRelu", threshold: foldGate(weights, { rMag, bMag, bGate }) };
    decisions.push({
      about: "rule",
      sentence: "Gates are read as thresholds of a JumpReLU, which is the same function",
    });
  } else if (activation === "topk") {
    const k = config.child("activation_fn_kwargs")?.integer("k");
    if (k === undefined) {
      throw new TypeError(`Cannot read ViT-Prisma checkpoint: activation_fn_kwargs in ${config.name} must have k`);
    }
    rule = { kind: "topK", k, relu: true };
    decisions.push({ about: "rule", sentence: `TopK with k = ${k} drops negative values, as ViT-Prisma does` });
  } else if (given === undefined) {
    decisions.push({ about: "rule", sentence: "ReLU, ViT-Prisma's default: there is no config.json" });
  }
  const kind = config.oneOf("normalize_activations", normalizations) ?? "layer_norm";
  const normalization: InputNormalization = kind === "layer_norm"
    ? { kind: "layerNorm", epsilon: LAYER_NORM_EPSILON }
    : kind === "constant_norm_rescale"
    ? { kind: "constantNorm" }
    : { kind: "none" };
  decisions.push({
    about: "normalization",
    sentence: `normalize_activations is ${kind}` +
      (config.get("normalize_activations") === undefined ? ", ViT-Prisma's default" : ""),
  });
  return {
    weights: { ...weights, subtractBDec: true, normalization, rule },
    format: "ViT-Prisma",
    decisions,
    origin: given && readOrigin(given),
    training: config.values,
  };
}

function readOrigin(config: CheckpointConfig): CheckpointOrigin {
  const name = config.text("model_name");
  const layer = config.index("hook_point_layer");
  return {
    ...(name !== undefined && { model: { name } }),
    ...originOfHook(config.text("layer_subtype") ?? ""),
    ...(layer !== undefined && { layer }),
    tokens: config.boolean("cls_token_only") ? "cls" : config.boolean("use_patches_only") ? "patches" : "all",
  };
}
