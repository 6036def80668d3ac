/**
 * Reads autoencoders of OpenAI (https://github.com/openai/sparse_autoencoder): a torch file of a state dict that names
 * its activation, and those of sdxl-unbox (https://github.com/surkovv/sdxl-unbox), which have the same tensors beside a
 * `config.json`.
 *
 * OpenAI's layer-normalize each token exactly when they are TopK: their own loader goes by that. sdxl-unbox normalizes
 * nothing; the `mean.pt` and `std.pt` beside its weights are those of latents.
 *
 * @module
 */
import type { ActivationRule } from "../compute/contract.ts";
import type { Checkpoint, CheckpointDictionary, Decision } from "./dictionary.ts";
import { readWeights, type WeightNames } from "./raw_weights.ts";
import type { TensorFile } from "../tensors/tensor_file.ts";

// What OpenAI adds to a token's deviation.
const LAYER_NORM_EPSILON = 1e-5;

const bias: Decision = { about: "bias", sentence: "pre_bias is subtracted from the input and added to the output" };

/** Whether a checkpoint is one of OpenAI's. */
export function isOpenAi({ file: { entries } }: Checkpoint): boolean {
  return ["pre_bias", "encoder.weight", "latent_bias"].every((name) => entries.has(name));
}

/** Whether a checkpoint is one of sdxl-unbox: one of OpenAI's, by its tensors, that does not name its activation. */
export async function isSdxlUnbox(checkpoint: Checkpoint): Promise<boolean> {
  if (!isOpenAi(checkpoint) || checkpoint.file.values.has("activation")) return false;
  return (await checkpoint.config())?.get("n_dirs_local") !== undefined;
}

/**
 * Reads an autoencoder of OpenAI.
 *
 * @throws {TypeError} If its activation is not known.
 * @throws {RangeError} If its tensors do not fit each other.
 */
export async function readOpenAi(checkpoint: Checkpoint): Promise<CheckpointDictionary> {
  const { file } = checkpoint;
  const config = await checkpoint.config();
  const activation = file.values.get("activation") ?? "ReLU";
  if (activation !== "TopK" && activation !== "ReLU") {
    throw new TypeError(
      `Cannot read OpenAI checkpoint: activation must be one of ReLU, TopK, current value is ${String(activation)}`,
    );
  }
  const isTopK = activation === "TopK";
  const normalizes = config?.boolean("normalize") ?? isTopK;
  const decisions: Decision[] = [bias, {
    about: "normalization",
    sentence: `Each token is ${normalizes ? "" : "not "}layer-normalized: ` +
      (config?.get("normalize") === undefined ? `OpenAI's ${activation} autoencoders are so` : "config says so"),
  }];
  const rule: ActivationRule = isTopK ? readTopK(file) : { kind: "relu" };
  return {
    weights: {
      ...await readWeights(file, namesIn(file)),
      subtractBDec: true,
      ...(normalizes && { normalization: { kind: "layerNorm", epsilon: LAYER_NORM_EPSILON } }),
      rule,
    },
    format: "OpenAI",
    decisions,
    training: config?.values,
  };
}

/**
 * Reads an autoencoder of sdxl-unbox.
 *
 * @throws {RangeError} If its tensors do not fit each other.
 */
export async function readSdxlUnbox(checkpoint: Checkpoint): Promise<CheckpointDictionary> {
  const config = await checkpoint.config();
  const k = config?.integer("k");
  if (k === undefined) throw new TypeError("Cannot read sdxl-unbox checkpoint: k must be in its config.json");
  return {
    weights: {
      ...await readWeights(checkpoint.file, namesIn(checkpoint.file)),
      subtractBDec: true,
      rule: { kind: "topK", k, relu: true },
    },
    format: "sdxl-unbox",
    decisions: [
      bias,
      { about: "rule", sentence: `TopK with k = ${k} drops negative values` },
      {
        about: "normalization",
        sentence: "Activations are taken as they are: mean.pt and std.pt are statistics of the latents",
      },
    ],
    training: config?.values,
  };
}

function readTopK({ values }: TensorFile): ActivationRule {
  const k = values.get("activation_state_dict.k");
  const after = values.get("activation_state_dict.postact_fn") ?? "ReLU";
  if (typeof k !== "number") {
    throw new TypeError(
      `Cannot read OpenAI checkpoint: k of its activation must be a number, current value is ${String(k)}`,
    );
  }
  if (after !== "ReLU" && after !== "Identity") {
    throw new TypeError(
      `Cannot read OpenAI checkpoint: postact_fn must be one of ReLU, Identity, current value is ${String(after)}`,
    );
  }
  return { kind: "topK", k, relu: after === "ReLU" };
}

/** Names of the weights; one that is tied has no decoder but its encoder. */
function namesIn({ entries }: TensorFile): WeightNames {
  const names = { wEnc: "encoder.weight", bEnc: "latent_bias", bDec: "pre_bias" };
  return entries.has("decoder.weight")
    ? { ...names, wDec: "decoder.weight", transposed: ["wEnc", "wDec"] }
    : { ...names, wDec: "encoder.weight", transposed: ["wEnc"] };
}
