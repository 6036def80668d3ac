/**
 * Reads SAEs of sparsify (https://github.com/EleutherAI/sparsify): a folder a hook point, with `sae.safetensors` and
 * `cfg.json`. TopK of the positive pre-activations; `b_dec` is subtracted.
 *
 * @module
 */
import { type Checkpoint, type CheckpointDictionary, type Decision, originOfHook } from "./dictionary.ts";
import { readWeights } from "./raw_weights.ts";

/** Whether a checkpoint is one of sparsify: its encoder is a linear layer, its decoder is not. */
export function isSparsify({ file: { entries } }: Checkpoint): boolean {
  return entries.has("encoder.weight") && entries.has("encoder.bias") && entries.has("W_dec");
}

/**
 * Reads an SAE of sparsify.
 *
 * @throws {Error} If there is no configuration.
 * @throws {TypeError} If it is a transcoder, has a skip connection, or an activation other than TopK.
 * @throws {RangeError} If its tensors do not fit each other.
 */
export async function readSparsify(checkpoint: Checkpoint): Promise<CheckpointDictionary> {
  const { file, location } = checkpoint;
  const config = await checkpoint.config();
  if (config === undefined) {
    throw new Error(
      "Cannot read sparsify checkpoint: it must hold cfg.json beside the weights, or config must be given",
    );
  }
  for (const name of ["transcode", "skip_connection", "signed"]) {
    if (config.boolean(name)) {
      throw new TypeError(`Cannot read sparsify checkpoint: ${name} in ${config.name} must be false, it is true`);
    }
  }
  if (file.entries.has("W_skip")) {
    throw new TypeError("Cannot read sparsify checkpoint: it must have no skip connection, it has W_skip");
  }
  config.oneOf("activation", ["topk"]);
  const k = config.integer("k");
  if (k === undefined) {
    throw new TypeError(`Cannot read sparsify checkpoint: k in ${config.name} must be an integer of 1 or more`);
  }
  const decisions: Decision[] = [
    { about: "bias", sentence: "b_dec is subtracted from the input, as sparsify does" },
    { about: "rule", sentence: `TopK with k = ${k} drops negative values, as sparsify does` },
  ];
  if (config.boolean("multi_topk")) {
    decisions.push({ about: "rule", sentence: "multi_topk added a loss in training, latents are the TopK of k" });
  }
  return {
    weights: {
      ...await readWeights(file, {
        wEnc: "encoder.weight",
        bEnc: "encoder.bias",
        wDec: "W_dec",
        bDec: "b_dec",
        transposed: ["wEnc"],
      }),
      subtractBDec: true,
      rule: { kind: "topK", k, relu: true },
    },
    format: "sparsify",
    decisions,
    // Folders have the names of their hook points, such as layers.24.mlp.
    origin: originOfHook(location.split(/[/\\]/).at(-2) ?? ""),
    training: config.values,
  };
}
