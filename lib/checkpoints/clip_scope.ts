/**
 * Reads checkpoints of CLIP-Scope (https://github.com/Lewington-pitsos/clipscope), published ones and raw training
 * checkpoints alike: a torch file of one dict with `model_state_dict.{pre_b, enc, dec}`.
 *
 * `pre_b` is subtracted from the input and added to the output, there is no encoder bias, and TopK keeps negative
 * values. The decoder is stored column by column, which the tensor's strides say and its shape does not. Training
 * standardized every batch, which the published code for inference leaves out.
 *
 * @module
 */
import type { Checkpoint, CheckpointDictionary, Decision, DictionaryOptions } from "./dictionary.ts";
import { readWeights } from "./raw_weights.ts";

const prefix = "model_state_dict.";

// What training adds to deviations.
const EPSILON = 1e-6;

/** Whether a checkpoint is one of CLIP-Scope. */
export function isClipScope({ file }: Checkpoint): boolean {
  return ["pre_b", "enc", "dec"].every((name) => file.entries.has(prefix + name));
}

/**
 * Reads a CLIP-Scope checkpoint.
 *
 * @throws {RangeError} If its tensors do not fit each other, or the file does not tell `k` and no option does.
 */
export async function readClipScope(
  { file, location }: Checkpoint,
  options: DictionaryOptions = {},
): Promise<CheckpointDictionary> {
  const k = options.k ?? file.values.get("k");
  if (typeof k !== "number" && options.rule === undefined) {
    throw new RangeError(
      "Cannot read CLIP-Scope checkpoint: k must be given, the file does not tell it; published ones have 32",
    );
  }
  const decisions: Decision[] = [
    { about: "bias", sentence: "pre_b is subtracted from the input, there is no encoder bias" },
    {
      about: "normalization",
      sentence: "Activations are standardized batch by batch, as in training; the published code for inference takes " +
        'them as they are: set normalization to { kind: "none" } for its numbers, or measure the mean and scale of your ' +
        "data for latents that do not depend on the batch",
    },
    { about: "rule", sentence: `TopK with k = ${k} keeps negative values, as CLIP-Scope does` },
  ];
  const known = ["token_count", "n_iter", "log_id", "k"].filter((name) => file.values.has(name));
  const layer = /(\d+)_resid/.exec(`${location} ${file.values.get("log_id") ?? ""}`)?.[1];
  return {
    weights: {
      ...await readWeights(file, { wEnc: `${prefix}enc`, wDec: `${prefix}dec`, bDec: `${prefix}pre_b` }),
      subtractBDec: true,
      normalization: { kind: "batch", epsilon: EPSILON },
      rule: options.rule ?? { kind: "topK", k: k as number, relu: false },
    },
    format: "CLIP-Scope",
    decisions,
    origin: layer === undefined ? {} : { layer: Number(layer), tokens: "all" },
    training: Object.fromEntries(known.map((name) => [name, file.values.get(name)])),
  };
}
