/**
 * Reads SAEs of MSAE (https://github.com/WolodjaZ/MSAE), trained on CLIP embeddings: a torch file with the state dict,
 * `model`, and with it the normalization of its data, `mean_center` and `scaling_factor`. The rest of its configuration
 * is its name: `6144_768_TopKReLU_64_RW_False_False_0.0_….pth` has 6,144 latents for width 768, TopK of 64, encoder and
 * decoder that are not tied, tokens that are not layer-normalized and latents that are not capped.
 *
 * @module
 */
import type { ActivationRule, InputNormalization } from "../compute/contract.ts";
import type { Checkpoint, CheckpointDictionary, Decision, DictionaryOptions } from "./dictionary.ts";
import { readShaped, readWeights } from "./raw_weights.ts";
import type { TensorFile } from "../tensors/tensor_file.ts";

// Published matrices are beside one another in "model"; a bare state dict has no prefix.
const prefix = "model.";

/** Whether a checkpoint is one of MSAE. */
export function isMsae({ file: { entries } }: Checkpoint): boolean {
  return ["encoder", "pre_bias", "latent_bias"].every((name) => entries.has(prefix + name));
}

/**
 * Reads an SAE of MSAE.
 *
 * @throws {TypeError} If its name says what is not supported.
 * @throws {RangeError} If its tensors do not fit each other, or neither name nor options tell the activation.
 */
export async function readMsae(
  { file, location }: Checkpoint,
  options: DictionaryOptions = {},
): Promise<CheckpointDictionary> {
  const isTied = !file.entries.has(`${prefix}decoder`);
  const weights = await readWeights(file, {
    wEnc: `${prefix}encoder`,
    bEnc: `${prefix}latent_bias`,
    wDec: isTied ? `${prefix}encoder` : `${prefix}decoder`,
    bDec: `${prefix}pre_bias`,
    transposed: isTied ? ["wDec"] : [],
  });
  const { dModel, dSae } = weights;
  const decisions: Decision[] = [
    { about: "bias", sentence: "pre_bias is subtracted from the input and added to the output" },
  ];
  const normalization = await readNormalization(file, { dModel, decisions });
  return {
    weights: {
      ...weights,
      subtractBDec: true,
      ...(normalization && { normalization }),
      rule: await decideRule(file, { location, dSae, options, decisions }),
    },
    format: "MSAE",
    decisions,
  };
}

async function readNormalization(
  file: TensorFile,
  { dModel, decisions }: { dModel: number; decisions: Decision[] },
): Promise<InputNormalization | undefined> {
  const numbers = async (name: string): Promise<Float32Array | undefined> => {
    const value = file.values.get(name);
    if (typeof value === "number") return new Float32Array(dModel).fill(value);
    const entry = file.entries.get(name);
    if (entry === undefined) return undefined;
    // One number for all dimensions, or one for each.
    const data = await readShaped(file, name, entry.shape.length === 0 ? [] : [entry.shape[0] === 1 ? 1 : dModel]);
    return data.length === 1 ? new Float32Array(dModel).fill(data[0]) : data;
  };
  const mean = await numbers("mean_center");
  const factor = await numbers("scaling_factor");
  if (mean === undefined && factor === undefined) {
    decisions.push({
      about: "normalization",
      sentence: "Activations are taken as they are: the file has no mean_center",
    });
    return undefined;
  }
  decisions.push({
    about: "normalization",
    sentence: "Activations are centered by mean_center and multiplied by scaling_factor, which are in the file",
  });
  return {
    kind: "affine",
    mean: mean ?? new Float32Array(dModel),
    scale: (factor ?? new Float32Array(dModel).fill(1)).map((value) => 1 / value),
  };
}

async function decideRule(
  file: TensorFile,
  { location, dSae, options, decisions }: {
    location: string;
    dSae: number;
    options: DictionaryOptions;
    decisions: Decision[];
  },
): Promise<ActivationRule> {
  const decide = (sentence: string, rule: ActivationRule): ActivationRule => {
    decisions.push({ about: "rule", sentence });
    return rule;
  };
  const thresholds = [...file.entries.keys()].find((name) => name.startsWith(prefix) && name.endsWith("log_threshold"));
  if (thresholds !== undefined) {
    const { shape } = file.entries.get(thresholds)!;
    const data = await readShaped(file, thresholds, shape.length === 0 ? [] : [dSae]);
    const threshold = data.length === dSae ? data.map(Math.exp) : new Float32Array(dSae).fill(Math.exp(data[0]));
    return decide("JumpReLU, its thresholds are the exponentials of log_threshold", { kind: "jumpRelu", threshold });
  }
  const name = location.split(/[/\\]/).at(-1)!;
  const match = /^\d+_\d+_([A-Za-z]+)(?:_(\d+))?(?:_[A-Z]+)?_(True|False)_(True|False)_([\d.]+)_/.exec(name);
  if (match === null) {
    if (options.rule !== undefined) return options.rule;
    if (options.k !== undefined) return { kind: "topK", k: options.k, relu: true };
    throw new RangeError(
      "Cannot read MSAE checkpoint: rule or k must be given, the file is not named as MSAE names files, such as " +
        "6144_768_TopKReLU_64_RW_False_False_0.0_….pth",
    );
  }
  const [, activation, number, , normalizes, cap] = match;
  if (normalizes === "True" || Number(cap) !== 0) {
    const what = normalizes === "True" ? "layer-normalized tokens" : "a soft cap on latents";
    throw new TypeError(`Cannot read MSAE checkpoint: it must do without ${what}, its name says that it has it`);
  }
  if (/^(Batch)?TopK(ReLU)?$/.test(activation) && number !== undefined) {
    const k = Number(number);
    const relu = activation.endsWith("ReLU");
    const batch = activation.startsWith("Batch") ? " of each token, though training shared k among a batch" : "";
    return decide(`TopK with k = ${k}${batch}, as its name says`, { kind: "topK", k, relu });
  }
  if (activation === "ReLU") return decide("ReLU, as its name says", { kind: "relu" });
  throw new TypeError(
    `Cannot read MSAE checkpoint: the activation in its name must be one of ReLU, TopK, TopKReLU, BatchTopK, ` +
      `BatchTopKReLU, or a JumpReLU with its log_threshold, current value is ${activation}`,
  );
}
