/**
 * Reads dictionaries of dictionary_learning (https://github.com/saprmarks/dictionary_learning): `ae.pt`, a state dict,
 * beside a `config.json` that names the class. Without it, the class is told by the names of the tensors.
 *
 * Scales of activations are folded in when these are saved. Latents of the gated and the JumpReLU class are measured in
 * norms of their decoder rows, as `encode()` there gives them; the norms are folded into the encoder.
 *
 * @module
 */
import type { ActivationRule } from "../compute/contract.ts";
import type { CheckpointConfig } from "./config.ts";
import {
  type Checkpoint,
  type CheckpointDictionary,
  type CheckpointOrigin,
  type Decision,
  originOfHook,
} from "./dictionary.ts";
import { foldGate, measureInDecoderNorms } from "./latent_scale.ts";
import { type RawWeights, readShaped, readWeights, type WeightNames } from "./raw_weights.ts";
import type { TensorFile } from "../tensors/tensor_file.ts";

/** Names of the tensors of each class, of the decoder bias, and whether that is subtracted from the input. */
const layouts = {
  AutoEncoder: { isLinear: true, bDec: "bias", subtracts: true },
  AutoEncoderNew: { isLinear: true, bDec: "decoder.bias", subtracts: false },
  GatedAutoEncoder: { isLinear: true, bDec: "decoder_bias", subtracts: true },
  AutoEncoderTopK: { isLinear: true, bDec: "b_dec", subtracts: true },
  BatchTopKSAE: { isLinear: true, bDec: "b_dec", subtracts: true },
  MatryoshkaBatchTopKSAE: { isLinear: false, bDec: "b_dec", subtracts: true },
  JumpReluAutoEncoder: { isLinear: false, bDec: "b_dec", subtracts: false },
} as const;

const linearNames: WeightNames = {
  wEnc: "encoder.weight",
  bEnc: "encoder.bias",
  wDec: "decoder.weight",
  transposed: ["wEnc", "wDec"],
};
const matrixNames: WeightNames = { wEnc: "W_enc", bEnc: "b_enc", wDec: "W_dec" };

type ClassName = keyof typeof layouts;
const classNames = Object.keys(layouts) as ClassName[];

/** Whether a checkpoint is one of dictionary_learning. */
export async function isDictionaryLearning(checkpoint: Checkpoint): Promise<boolean> {
  const { entries, format } = checkpoint.file;
  const isLinear = entries.has("encoder.weight") && entries.has("decoder.weight") && !entries.has("latent_bias");
  if (isLinear && Object.values(layouts).some(({ bDec }) => entries.has(bDec))) return true;
  if (!entries.has("W_enc") || !entries.has("W_dec") || format === "safetensors") return false;
  return entries.has("threshold") || (await checkpoint.config())?.child("trainer") !== undefined;
}

/**
 * Reads a dictionary of dictionary_learning.
 *
 * @throws {TypeError} If it is of a class that is not supported.
 * @throws {RangeError} If its tensors do not fit each other.
 */
export async function readDictionaryLearning(checkpoint: Checkpoint): Promise<CheckpointDictionary> {
  const { file } = checkpoint;
  const trainer = (await checkpoint.config())?.child("trainer");
  const decisions: Decision[] = [];
  const named = trainer?.oneOf("dict_class", classNames);
  const className = named ?? guessClass(file, decisions);
  const { isLinear, bDec, subtracts } = layouts[className];
  decisions.push({
    about: "bias",
    sentence: `${bDec} is ${subtracts ? "" : "not "}subtracted from the input, as ${className} does`,
  });
  const weights = await readWeights(file, {
    ...(isLinear ? linearNames : matrixNames),
    bDec,
    ...(className === "GatedAutoEncoder" && { bEnc: undefined }),
  });
  const rule = await readRule(file, { className, weights, trainer, decisions });
  return {
    weights: { ...weights, subtractBDec: subtracts, rule },
    format: `dictionary_learning, ${className}`,
    decisions,
    origin: trainer && readOrigin(trainer),
    training: trainer?.values,
  };
}

function guessClass({ entries }: TensorFile, decisions: Decision[]): ClassName {
  const has = (name: string) => entries.has(name);
  const className: ClassName = has("W_enc")
    ? (has("group_sizes") ? "MatryoshkaBatchTopKSAE" : "JumpReluAutoEncoder")
    : has("gate_bias")
    ? "GatedAutoEncoder"
    : has("decoder.bias")
    ? "AutoEncoderNew"
    : has("bias")
    ? "AutoEncoder"
    : "AutoEncoderTopK";
  const others = className === "AutoEncoderTopK" && has("threshold")
    ? ", but BatchTopKSAE has the same ones: name the class in config if it is that"
    : "";
  decisions.push({ about: "rule", sentence: `Read as ${className}, by the names of its tensors${others}` });
  return className;
}

async function readRule(
  file: TensorFile,
  { className, weights, trainer, decisions }: {
    className: ClassName;
    weights: RawWeights;
    trainer: CheckpointConfig | undefined;
    decisions: Decision[];
  },
): Promise<ActivationRule> {
  const { dSae } = weights;
  const vector = (name: string) => readShaped(file, name, [dSae]);
  const scalar = async (name: string) => (await readShaped(file, name, []))[0];
  const decide = (sentence: string, rule: ActivationRule): ActivationRule => {
    decisions.push({ about: "rule", sentence });
    return rule;
  };
  const inNorms = "latents are measured in norms of their decoder rows, which are folded into the encoder";
  switch (className) {
    case "AutoEncoder":
    case "AutoEncoderNew":
      return { kind: "relu" };
    case "GatedAutoEncoder": {
      const [rMag, bMag, bGate] = await Promise.all([vector("r_mag"), vector("mag_bias"), vector("gate_bias")]);
      const threshold = foldGate(weights, { rMag, bMag, bGate });
      measureInDecoderNorms(weights, threshold);
      return decide(`Gates are read as thresholds of a JumpReLU, which is the same function; ${inNorms}`, {
        kind: "jumpRelu",
        threshold,
      });
    }
    case "JumpReluAutoEncoder": {
      const threshold = await vector("threshold");
      measureInDecoderNorms(weights, threshold);
      return decide(`JumpReLU; ${inNorms}`, { kind: "jumpRelu", threshold });
    }
    case "AutoEncoderTopK": {
      const k = file.entries.has("k") ? await scalar("k") : trainer?.integer("k");
      if (k === undefined) throw new RangeError("Cannot read dictionary: k must be in ae.pt or in config.json");
      return decide(`TopK with k = ${k} drops negative values`, { kind: "topK", k, relu: true });
    }
    case "BatchTopKSAE":
    case "MatryoshkaBatchTopKSAE": {
      const threshold = await scalar("threshold");
      return decide(`BatchTopK is a threshold at inference, ${threshold}`, {
        kind: "jumpRelu",
        threshold: new Float32Array(dSae).fill(threshold),
      });
    }
  }
}

function readOrigin(trainer: CheckpointConfig): CheckpointOrigin {
  const name = trainer.text("lm_name");
  const layer = trainer.index("layer");
  return {
    ...(name !== undefined && { model: { name } }),
    ...originOfHook(trainer.text("submodule_name") ?? ""),
    ...(layer !== undefined && { layer }),
  };
}
