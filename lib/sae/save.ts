/**
 * Saves SAEs as a folder of `sae_weights.safetensors` and `cfg.json`, with the names that SAELens gives them
 * (https://github.com/decoderesearch/SAELens), so that its readers find their way. What is particular to vision is under
 * `metadata`; a normalization that SAELens has no name for is in `normalization.json`.
 *
 * @module
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { writeSafetensors } from "../tensors/safetensors.ts";
import type { InputNormalization } from "../compute/contract.ts";
import { makeFolder, replaceFile } from "../runtime/files.ts";
import type { HookPoint } from "../vit/hooks.ts";
import { folderSidecarName, sidecarSuffix, writeSidecar } from "./normalization_file.ts";
import type { Sae } from "./sae.ts";

/** Name of the weights within an SAE's folder. */
export const weightsFileName = "sae_weights.safetensors";

/** Name of the configuration within an SAE's folder. */
export const configFileName = "cfg.json";

/** SAELens's names of the rules. It knows `batchtopk` while it trains only, and refuses to run it otherwise. */
const architectures = { relu: "standard", topK: "topk", jumpRelu: "jumprelu", batchTopK: "batchtopk" } as const;

/**
 * Names of the normalizations in `cfg.json`. SAELens knows `none`, `layer_norm` and `constant_norm_rescale`; it refuses
 * the others by name, which is better than latents of activations that were not normalized.
 */
const normalizationNames = {
  none: "none",
  layerNorm: "layer_norm",
  constantNorm: "constant_norm_rescale",
  affine: "affine",
  batch: "batch",
} as const;

/** TransformerLens's names of the hook points, as `metadata.hook_name` has them after `blocks.<layer>.`. */
const hookNames: Readonly<Record<HookPoint, string>> = {
  residPre: "hook_resid_pre",
  residPost: "hook_resid_post",
  attnOut: "hook_attn_out",
  mlpOut: "hook_mlp_out",
};

// The first version of the configuration's form: without one, SAELens takes the file for older and drops the metadata.
const SAE_LENS_VERSION = "6.0.0";

// SAELens's epsilon of layer_norm.
const LAYER_NORM_EPSILON = 1e-5;

/** Saves an SAE into `directory`, which is made if it is missing. The weights come last, so no half is ever opened. */
export async function saveSae(sae: Sae, directory: string): Promise<void> {
  const { dModel, dSae, wEnc, bEnc, wDec, bDec, rule, normalization = { kind: "none" } } = sae;
  const weights = writeSafetensors({
    W_enc: { shape: [dModel, dSae], data: wEnc },
    b_enc: { shape: [dSae], data: bEnc },
    W_dec: { shape: [dSae, dModel], data: wDec },
    b_dec: { shape: [dModel], data: bDec },
    ...(rule.kind === "jumpRelu" ? { threshold: { shape: [dSae], data: rule.threshold } } : {}),
  });
  const sidecarPath = join(directory, folderSidecarName);
  await makeFolder(directory);
  // Those of an SAE that was here before would be taken for this one's.
  await rm(join(directory, weightsFileName + sidecarSuffix), { force: true });
  if (needsSidecar(normalization)) {
    await writeSidecar(sidecarPath, { normalization, file: weightsFileName, fileBytes: weights.length });
  } else {
    await rm(sidecarPath, { force: true });
  }
  await replaceFile(join(directory, configFileName), JSON.stringify(toConfig(sae), undefined, 2) + "\n");
  await replaceFile(join(directory, weightsFileName), weights);
}

/** Whether `cfg.json` cannot say all of a normalization. */
function needsSidecar(normalization: InputNormalization): boolean {
  const { kind } = normalization;
  return kind === "affine" || kind === "batch" ||
    (kind === "layerNorm" && normalization.epsilon !== LAYER_NORM_EPSILON);
}

/** What `cfg.json` says. Names on disk and names in code meet here and where `loadSae()` parses it. */
function toConfig(sae: Sae): Record<string, unknown> {
  const { rule, provenance, normalization = { kind: "none" } } = sae;
  const { model, layer, hook = "residPost", tokens, training } = provenance;
  const notes = notesFor(sae);
  return {
    architecture: architectures[rule.kind],
    d_in: sae.dModel,
    d_sae: sae.dSae,
    ...(rule.kind === "topK" ? { k: rule.k, topk_relu: rule.relu, rescale_acts_by_decoder_norm: false } : {}),
    ...(rule.kind === "batchTopK" ? { k: rule.k } : {}),
    dtype: "float32",
    device: "cpu",
    apply_b_dec_to_input: sae.subtractBDec,
    normalize_activations: normalizationNames[normalization.kind],
    reshape_activations: "none",
    sae_lens_version: SAE_LENS_VERSION,
    metadata: {
      // SAELens would take its own version for the one that trained.
      sae_lens_training_version: null,
      model_name: model?.name,
      model_sha256: model?.sha256,
      hook_name: layer === undefined ? undefined : `blocks.${layer}.${hookNames[hook]}`,
      hook_layer: layer,
      tokens,
      notes: notes.length > 0 ? notes : undefined,
      training,
    },
  };
}

/** What another reader of `cfg.json` would get wrong, or not run at all. */
function notesFor({ rule, normalization = { kind: "none" } }: Sae): string[] {
  return [
    ...(rule.kind === "topK" && !rule.relu
      ? ["TopK keeps negative values (topk_relu is false); SAELens does not read that and drops them"]
      : []),
    ...(rule.kind === "batchTopK" ? ["The k largest of the whole batch are kept, negative ones too"] : []),
    ...(needsSidecar(normalization)
      ? [`Activations are normalized as ${folderSidecarName} says; SAELens does not read it`]
      : []),
  ];
}
