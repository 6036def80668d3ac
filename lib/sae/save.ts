/**
 * Saves SAEs as a folder of `sae_weights.safetensors` and `cfg.json`, with the names that SAELens gives them
 * (https://github.com/decoderesearch/SAELens), so that its readers find their way. What is particular to vision is under
 * `metadata`.
 *
 * @module
 */
import { join } from "node:path";
import { writeSafetensors } from "../checkpoints/safetensors.ts";
import { makeFolder, replaceFile } from "../runtime/files.ts";
import type { Sae } from "./sae.ts";

/** Name of the weights within an SAE's folder. */
export const weightsFileName = "sae_weights.safetensors";

/** Name of the configuration within an SAE's folder. */
export const configFileName = "cfg.json";

/** SAELens's names of the rules. */
export const architectures = { relu: "standard", topK: "topk", jumpRelu: "jumprelu", batchTopK: "batchtopk" } as const;

/** Saves an SAE into `directory`, which is made if it is missing. The weights come last, so no half is ever opened. */
export async function saveSae(sae: Sae, directory: string): Promise<void> {
  const { dModel, dSae, wEnc, bEnc, wDec, bDec, rule } = sae;
  const weights = writeSafetensors({
    W_enc: { shape: [dModel, dSae], data: wEnc },
    b_enc: { shape: [dSae], data: bEnc },
    W_dec: { shape: [dSae, dModel], data: wDec },
    b_dec: { shape: [dModel], data: bDec },
    ...(rule.kind === "jumpRelu" ? { threshold: { shape: [dSae], data: rule.threshold } } : {}),
  });
  await makeFolder(directory);
  await replaceFile(join(directory, configFileName), JSON.stringify(toConfig(sae), undefined, 2) + "\n");
  await replaceFile(join(directory, weightsFileName), weights);
}

/** What `cfg.json` says. Names on disk and names in code meet here and in {@linkcode parseConfig} only. */
function toConfig(sae: Sae): Record<string, unknown> {
  const { rule, provenance } = sae;
  return {
    architecture: architectures[rule.kind],
    d_in: sae.dModel,
    d_sae: sae.dSae,
    ...(rule.kind === "topK" ? { k: rule.k, topk_relu: rule.relu, rescale_acts_by_decoder_norm: false } : {}),
    dtype: "float32",
    device: "cpu",
    apply_b_dec_to_input: sae.subtractBDec,
    normalize_activations: "none",
    reshape_activations: "none",
    metadata: {
      model_name: provenance.model?.name,
      model_sha256: provenance.model?.sha256,
      hook_name: provenance.layer === undefined ? undefined : `blocks.${provenance.layer}.hook_resid_post`,
      hook_layer: provenance.layer,
      tokens: provenance.tokens,
      training: provenance.training,
    },
  };
}
