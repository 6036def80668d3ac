/**
 * Reads state dicts of Overcomplete (https://github.com/KempnerInstitute/overcomplete), `torch.save(sae.state_dict())`,
 * of SAEs whose encoder is one linear layer, with or without batch norm, which is folded in.
 *
 * A state dict does not tell its class. Thresholds show a JumpSAE; `k` of a TopKSAE and the running threshold of a
 * BatchTopKSAE are not in it and have to be given. There is no decoder bias. Rows of the dictionary are normalized when
 * they are used, by a rule that is not in the file either: L2, unless `dictionary_normalization` in `config` says other.
 *
 * @module
 */
import type { ActivationRule } from "../compute/contract.ts";
import type { Checkpoint, CheckpointDictionary, Decision, DictionaryOptions } from "./dictionary.ts";
import { scaleEncoder } from "./latent_scale.ts";
import { type RawWeights, readShaped, readWeights } from "./raw_weights.ts";
import type { TensorFile } from "../tensors/tensor_file.ts";

const dictionaryName = "dictionary._weights";
const normalizations = ["l2", "max_l2", "l1", "max_l1", "identity"] as const;

// What Overcomplete adds to norms, and PyTorch to variances.
const NORM_EPSILON = 1e-8;
const BATCH_NORM_EPSILON = 1e-5;

/** Whether a checkpoint is a state dict of Overcomplete. */
export function isOvercomplete({ file: { entries } }: Checkpoint): boolean {
  return entries.has(dictionaryName);
}

/**
 * Reads a state dict of Overcomplete.
 *
 * @throws {TypeError} If its encoder is not one linear layer, or its dictionary is archetypal.
 * @throws {RangeError} If its tensors do not fit each other.
 */
export async function readOvercomplete(
  checkpoint: Checkpoint,
  options: DictionaryOptions = {},
): Promise<CheckpointDictionary> {
  const { file } = checkpoint;
  const decisions: Decision[] = [];
  const weights = await readParts(file, decisions);
  const config = await checkpoint.config();
  const normalization = config?.oneOf("dictionary_normalization", normalizations) ?? "l2";
  normalizeRows(weights, normalization);
  const said = config?.get("dictionary_normalization") === undefined ? "Overcomplete's default" : "config says so";
  decisions.push({ about: "weights", sentence: `The dictionary is normalized (${normalization}): ${said}` });
  return {
    weights: { ...weights, subtractBDec: false, rule: await decideRule(file, { weights, options, decisions }) },
    format: "Overcomplete",
    decisions,
    training: config?.values,
  };
}

async function readParts(file: TensorFile, decisions: Decision[]): Promise<RawWeights> {
  const names = [...file.entries.keys()];
  const other = names.find((name) => name.startsWith("dictionary.") && name !== dictionaryName);
  if (other !== undefined) {
    throw new TypeError(`Cannot read Overcomplete checkpoint: its dictionary must be a plain one, it has ${other}`);
  }
  const layers = names.filter((name) => name.startsWith("encoder.") && file.entries.get(name)!.shape.length >= 2);
  if (layers.length !== 1 || file.entries.get(layers[0])!.shape.length !== 2) {
    const kind = names.some((name) => /attn|attention/.test(name))
      ? "an attention encoder"
      : names.some((name) => /resnet|conv/.test(name))
      ? "a ResNet encoder"
      : "an MLP encoder";
    throw new TypeError(
      `Cannot read Overcomplete checkpoint: its encoder must be one linear layer, it is ${kind} with ${layers.length} ` +
        `weights (${layers.slice(0, 4).join(", ")})`,
    );
  }
  const module = layers[0].replace(/[^.]*$/, "");
  const weights = await readWeights(file, {
    wEnc: layers[0],
    bEnc: file.entries.has(`${module}bias`) ? `${module}bias` : undefined,
    wDec: dictionaryName,
    transposed: ["wEnc"],
  });
  const norm = names.find((name) => name.startsWith("encoder.") && name.endsWith(".running_mean"));
  const known = [`${module}weight`, `${module}bias`, ...(norm === undefined ? [] : normNames(norm))];
  const unknown = names.find((name) => name.startsWith("encoder.") && !known.includes(name));
  if (unknown !== undefined) {
    throw new TypeError(
      `Cannot read Overcomplete checkpoint: its encoder must be one linear layer, with batch norm at most, it has ${unknown}`,
    );
  }
  if (norm !== undefined) {
    await foldBatchNorm(file, norm, weights);
    decisions.push({ about: "weights", sentence: "The encoder's batch norm is folded into its weights" });
  }
  return weights;
}

function normNames(runningMean: string): string[] {
  const module = runningMean.replace(/running_mean$/, "");
  return ["running_mean", "running_var", "weight", "bias", "num_batches_tracked"].map((name) => module + name);
}

async function foldBatchNorm(file: TensorFile, runningMean: string, weights: RawWeights): Promise<void> {
  const { dSae, bEnc } = weights;
  const [meanName, varianceName, weightName, biasName] = normNames(runningMean);
  const read = (name: string) => readShaped(file, name, [dSae]);
  const [mean, variance] = [await read(meanName), await read(varianceName)];
  const gain = file.entries.has(weightName) ? await read(weightName) : new Float32Array(dSae).fill(1);
  const offset = file.entries.has(biasName) ? await read(biasName) : new Float32Array(dSae);
  const factors = Float64Array.from(gain, (value, i) => value / Math.sqrt(variance[i] + BATCH_NORM_EPSILON));
  scaleEncoder(weights, factors);
  bEnc.forEach((value, i) => bEnc[i] = (value - mean[i]) * factors[i] + offset[i]);
}

function normalizeRows({ wDec, dModel, dSae }: RawWeights, kind: typeof normalizations[number]): void {
  if (kind === "identity") return;
  const power = kind.endsWith("l2") ? 2 : 1;
  const norms = new Float64Array(dSae);
  wDec.forEach((value, i) => norms[Math.floor(i / dModel)] += Math.abs(value) ** power);
  norms.forEach((sum, latent) => norms[latent] = sum ** (1 / power));
  const longest = norms.reduce((most, norm) => Math.max(most, norm), 0);
  const isMax = kind.startsWith("max");
  wDec.forEach((value, i) => wDec[i] = value / (isMax ? longest : norms[Math.floor(i / dModel)] + NORM_EPSILON));
}

async function decideRule(
  file: TensorFile,
  { weights: { dSae }, options, decisions }: {
    weights: RawWeights;
    options: DictionaryOptions;
    decisions: Decision[];
  },
): Promise<ActivationRule> {
  if (file.entries.has("thresholds")) {
    const threshold = (await readShaped(file, "thresholds", [dSae])).map(Math.exp);
    decisions.push({ about: "rule", sentence: "JumpReLU, its thresholds are the exponentials of those in the file" });
    return { kind: "jumpRelu", threshold };
  }
  if (options.k !== undefined) return { kind: "topK", k: options.k, relu: true };
  decisions.push({
    about: "rule",
    sentence:
      "Taken as ReLU, as a state dict does not tell: give k for a TopKSAE, or, for a BatchTopKSAE, whose running " +
      "threshold was lost when it was saved, a rule",
  });
  return { kind: "relu" };
}
