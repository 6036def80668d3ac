/**
 * Reads checkpoints of CLIP-Scope (https://github.com/Lewington-pitsos/clipscope), published ones and raw training
 * checkpoints alike: a torch file of one dict with `model_state_dict.{pre_b, enc, dec}`.
 *
 * `pre_b` is subtracted from the input and added to the output, there is no encoder bias, and TopK keeps negative
 * values. The decoder is stored column by column, which the tensor's strides say and its shape does not.
 *
 * @module
 */
import { type CheckpointDictionary, type DictionaryOptions, readShaped } from "./dictionary.ts";
import type { TensorFile } from "./tensor_file.ts";

const prefix = "model_state_dict.";

/** Whether a file is a CLIP-Scope checkpoint. */
export function isClipScope(file: TensorFile): boolean {
  return ["pre_b", "enc", "dec"].every((name) => file.entries.has(prefix + name));
}

/**
 * Reads a CLIP-Scope checkpoint.
 *
 * @throws {RangeError} If its tensors do not fit each other, or the file does not tell `k` and no option does.
 */
export async function readClipScope(file: TensorFile, options: DictionaryOptions = {}): Promise<CheckpointDictionary> {
  const { data: wEnc, shape: [dModel, dSae] } = await readShaped(file, `${prefix}enc`, [undefined, undefined]);
  const { data: wDec } = await readShaped(file, `${prefix}dec`, [dSae, dModel]);
  const { data: bDec } = await readShaped(file, `${prefix}pre_b`, [dModel]);
  const decisions = [
    "pre_b is subtracted from the input, there is no encoder bias",
    "It was trained on activations standardized batch by batch, whose mean and deviation are not in the file: give it " +
    "activations that were standardized over your data to have the latents it was trained for",
  ];
  const training = Object.fromEntries(
    ["token_count", "n_iter", "log_id", "k"].filter((name) => file.values.has(name))
      .map((name) => [name, file.values.get(name)]),
  );
  const k = options.k ?? file.values.get("k");
  let rule = options.rule;
  if (rule === undefined) {
    if (typeof k !== "number") {
      throw new RangeError(
        "Cannot read CLIP-Scope checkpoint: k must be given, the file does not tell it; published ones have 32",
      );
    }
    rule = { kind: "topK", k, relu: false };
    decisions.push(`TopK with k = ${k} keeps negative values, as CLIP-Scope does`);
  }
  const subtractBDec = options.subtractBDec ?? true;
  return {
    weights: { dModel, dSae, wEnc, bEnc: new Float32Array(dSae), wDec, bDec, subtractBDec, rule },
    format: "CLIP-Scope",
    decisions,
    training,
  };
}
