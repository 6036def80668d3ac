/**
 * Reads SAEs in the layout of HugoFry's `mats_sae_training_for_ViTs` and of PatchSAE: one torch file of `cfg` and
 * `state_dict`, with SAELens's names of tensors. ReLU; `b_dec` is subtracted; activations are taken as they are. Only
 * files whose `cfg` is plain data open: most hold an object of a Python class, which is refused by its name.
 *
 * @module
 */
import { CheckpointConfig } from "./config.ts";
import { type Checkpoint, type CheckpointDictionary, type CheckpointOrigin, originOfHook } from "./dictionary.ts";
import { readWeights } from "./raw_weights.ts";

const prefixes = ["state_dict.", ""] as const;

/** Whether a checkpoint has a state dict of SAELens's names within it. */
export function isHugoFry({ file: { entries } }: Checkpoint): boolean {
  return ["W_enc", "b_enc", "W_dec", "b_dec"].every((name) => entries.has(`state_dict.${name}`));
}

/**
 * Reads an SAE of this layout.
 *
 * @throws {RangeError} If its tensors do not fit each other.
 */
export async function readHugoFry({ file }: Checkpoint): Promise<CheckpointDictionary> {
  const prefix = prefixes.find((candidate) => file.entries.has(`${candidate}W_enc`)) ?? prefixes[0];
  const training = Object.fromEntries(
    [...file.values].filter(([name]) => name.startsWith("cfg.")).map(([name, value]) => [name.slice(4), value]),
  );
  return {
    weights: {
      ...await readWeights(file, {
        wEnc: `${prefix}W_enc`,
        bEnc: `${prefix}b_enc`,
        wDec: `${prefix}W_dec`,
        bDec: `${prefix}b_dec`,
      }),
      subtractBDec: true,
      rule: { kind: "relu" },
    },
    format: "state dict in the layout of HugoFry",
    decisions: [
      { about: "bias", sentence: "b_dec is subtracted from the input, as this layout's projects do" },
      { about: "rule", sentence: "ReLU, as this layout's projects have it" },
    ],
    origin: readOrigin(new CheckpointConfig(training, "cfg")),
    training,
  };
}

function readOrigin(config: CheckpointConfig): CheckpointOrigin {
  const name = config.text("model_name");
  const layer = config.index("block_layer") ?? config.index("hook_point_layer");
  return {
    ...(name !== undefined && { model: { name } }),
    ...originOfHook(config.text("hook_point") ?? ""),
    ...(layer !== undefined && { layer }),
  };
}
