/**
 * Reads folders as SAELens (https://github.com/decoderesearch/SAELens) writes them, `sae_weights.safetensors` beside a
 * `cfg.json` of its sixth version or an earlier one, and our own, which use the same names.
 *
 * What SAELens leaves to other steps is done here: `rescale_acts_by_decoder_norm` and `finetuning_scaling_factor` are
 * folded into the weights, gates become thresholds, and where activations were scaled to an expected norm, the scale is
 * looked for beside the weights.
 *
 * @module
 */
import type { ActivationRule, InputNormalization } from "../compute/contract.ts";
import { type CheckpointConfig, parseConfig } from "./config.ts";
import {
  type Checkpoint,
  type CheckpointDictionary,
  type CheckpointOrigin,
  type Decision,
  originOfHook,
} from "./dictionary.ts";
import { foldGate, measureInDecoderNorms } from "./latent_scale.ts";
import { type RawWeights, readShaped, readWeights } from "./raw_weights.ts";
import type { TensorFile } from "../tensors/tensor_file.ts";

const architectures = ["standard", "topk", "jumprelu", "gated", "batchtopk", "matryoshka_batchtopk"] as const;
const normalizations = ["none", "layer_norm", "constant_norm_rescale", "expected_average_only_in"] as const;
// Names of ours, of which the numbers are in a sidecar.
const sidecarNormalizations = ["affine", "batch"] as const;

// What SAELens adds to a token's deviation.
const LAYER_NORM_EPSILON = 1e-5;

// Where SAELens notes the scale of activations in checkpoints of training.
const scalerName = "activation_scaler.json";

/** Whether a checkpoint is one of SAELens or our own: its names of tensors are ViT-Prisma's, its container is not. */
export function isSaeLens({ file }: Checkpoint): boolean {
  return file.format === "safetensors" && file.entries.has("W_enc") && file.entries.has("W_dec");
}

/**
 * Reads an SAE of SAELens or our own.
 *
 * @throws {Error} If there is no configuration.
 * @throws {TypeError} If it is of an architecture that is not supported.
 * @throws {RangeError} If its tensors do not fit the configuration.
 */
export async function readSaeLens(checkpoint: Checkpoint): Promise<CheckpointDictionary> {
  const { file } = checkpoint;
  const config = await checkpoint.config();
  if (config === undefined) {
    throw new Error("Cannot read SAE: it must hold cfg.json beside the weights, or config must be given");
  }
  const metadata = config.child("metadata");
  const isOurs = metadata !== undefined && metadata.get("sae_lens_version") === undefined;
  const architecture = config.oneOf("architecture", architectures) ?? (isOurs ? undefined : "standard");
  if (architecture === undefined) {
    throw new TypeError(
      `Cannot read SAE: architecture in ${config.name} must be one of ${architectures.join(", ")}, it is missing`,
    );
  }
  const activation = config.get("activation_fn") ?? config.get("activation_fn_str") ?? "relu";
  if (activation !== "relu" && activation !== "topk") {
    throw new TypeError(
      `Cannot read SAE: activation_fn in ${config.name} must be one of relu, topk, current value is ${activation}`,
    );
  }
  const decisions: Decision[] = [];
  const weights = await readWeights(file, {
    wEnc: "W_enc",
    bEnc: architecture === "gated" ? undefined : "b_enc",
    wDec: "W_dec",
    bDec: "b_dec",
    sizes: sizesOf(config),
  });
  const rule = await readRule(file, { config, architecture, activation, isOurs, weights, decisions });
  const subtractBDec = config.boolean("apply_b_dec_to_input") ?? true;
  const hasBias = config.get("apply_b_dec_to_input") !== undefined;
  decisions.push({
    about: "bias",
    sentence: `b_dec is ${subtractBDec ? "" : "not "}subtracted from the input: ` +
      (hasBias ? `apply_b_dec_to_input says so` : "apply_b_dec_to_input is missing, and true by default"),
  });
  const normalization = await readNormalization(checkpoint, { config, isOurs, dModel: weights.dModel, decisions });
  return {
    weights: { ...weights, subtractBDec, rule, ...(normalization && { normalization }) },
    format: isOurs ? undefined : "SAELens",
    decisions: isOurs ? [] : decisions,
    origin: readOrigin(config, metadata),
    training: isOurs ? metadata.get("training") as Record<string, unknown> | undefined : config.values,
  };
}

function sizesOf(config: CheckpointConfig): { dModel: number; dSae: number } {
  const [dModel, dSae] = ["d_in", "d_sae"].map((name) => {
    const size = config.integer(name);
    if (size === undefined) {
      throw new TypeError(`Cannot read SAE: ${name} in ${config.name} must be an integer of 1 or more, it is missing`);
    }
    return size;
  });
  return { dModel, dSae };
}

interface RuleContext {
  readonly config: CheckpointConfig;
  readonly architecture: typeof architectures[number];
  readonly activation: "relu" | "topk";
  readonly isOurs: boolean;
  readonly weights: RawWeights;
  readonly decisions: Decision[];
}

async function readRule(file: TensorFile, context: RuleContext): Promise<ActivationRule> {
  const { config, architecture, activation, isOurs, weights, decisions } = context;
  const { dSae, wDec, dModel } = weights;
  const vector = (name: string) => readShaped(file, name, [dSae]);
  if (config.get("finetuning_scaling_factor") === true) {
    const name = file.entries.has("scaling_factor") ? "scaling_factor" : "finetuning_scaling_factor";
    const factors = await vector(name);
    wDec.forEach((value, i) => wDec[i] = value * factors[Math.floor(i / dModel)]);
    decisions.push({ about: "weights", sentence: `${name} is folded into the decoder` });
  }
  const rescales = config.boolean("rescale_acts_by_decoder_norm") ?? false;
  if (rescales) {
    decisions.push({
      about: "weights",
      sentence:
        "Latents are measured in norms of their decoder rows, as rescale_acts_by_decoder_norm says: the norms " +
        "are folded into the encoder",
    });
  }
  const rescale = () => rescales && measureInDecoderNorms(weights);
  if (architecture === "gated") {
    const [rMag, bMag, bGate] = await Promise.all([vector("r_mag"), vector("b_mag"), vector("b_gate")]);
    decisions.push({
      about: "rule",
      sentence: "Gates are read as thresholds of a JumpReLU, which is the same function",
    });
    return { kind: "jumpRelu", threshold: foldGate(weights, { rMag, bMag, bGate }) };
  }
  if (architecture === "jumprelu") {
    const isLog = !file.entries.has("threshold") && file.entries.has("log_threshold");
    const threshold = isLog ? (await vector("log_threshold")).map(Math.exp) : await vector("threshold");
    return { kind: "jumpRelu", threshold };
  }
  if (architecture === "standard" && activation === "relu") return { kind: "relu" };
  rescale();
  if (architecture.endsWith("batchtopk")) {
    if (file.entries.has("threshold")) return { kind: "jumpRelu", threshold: await vector("threshold") };
    if (file.entries.has("topk_threshold")) {
      const [threshold] = await readShaped(file, "topk_threshold", []);
      decisions.push({ about: "rule", sentence: `BatchTopK is a threshold at inference, ${threshold}` });
      return { kind: "jumpRelu", threshold: new Float32Array(dSae).fill(threshold) };
    }
  }
  const k = config.integer("k") ?? config.child("activation_fn_kwargs")?.integer("k");
  if (k === undefined) {
    throw new TypeError(`Cannot read SAE: k in ${config.name} must be an integer of 1 or more, it is missing`);
  }
  if (architecture.endsWith("batchtopk")) {
    if (isOurs) return { kind: "batchTopK", k };
    decisions.push({
      about: "rule",
      sentence: `BatchTopK without a threshold is taken as a TopK of each token, k = ${k}`,
    });
  }
  // A name of ours: SAELens always drops negative values.
  return { kind: "topK", k, relu: config.boolean("topk_relu") ?? true };
}

async function readNormalization(
  checkpoint: Checkpoint,
  { config, isOurs, dModel, decisions }: {
    config: CheckpointConfig;
    isOurs: boolean;
    dModel: number;
    decisions: Decision[];
  },
): Promise<InputNormalization | undefined> {
  const value = config.get("normalize_activations");
  const kind = typeof value === "boolean"
    ? (value ? "expected_average_only_in" : "none")
    : config.oneOf("normalize_activations", isOurs ? [...normalizations, ...sidecarNormalizations] : normalizations) ??
      "none";
  if (kind === "none" || kind === "affine" || kind === "batch") return undefined;
  const decide = (sentence: string) => decisions.push({ about: "normalization", sentence });
  if (kind === "layer_norm") {
    decide("Each token is layer-normalized, as normalize_activations says");
    return { kind: "layerNorm", epsilon: LAYER_NORM_EPSILON };
  }
  if (kind === "constant_norm_rescale") {
    decide("Each token is scaled to the norm √dModel, as normalize_activations says");
    return { kind: "constantNorm" };
  }
  const bytes = await checkpoint.sibling(scalerName);
  const factor = bytes && parseConfig(bytes, scalerName).get("scaling_factor");
  if (typeof factor === "number" && factor > 0 && Number.isFinite(factor)) {
    decide(`Activations are multiplied by ${factor}, as ${scalerName} says`);
    return { kind: "affine", mean: new Float32Array(dModel), scale: new Float32Array(dModel).fill(1 / factor) };
  }
  decide(
    "Activations are taken as they are, but it was trained on ones that were scaled to a mean norm of √dModel, by a " +
      "factor that the files lack, unless it was folded in: give normalization, or put normalization.json beside it",
  );
  return undefined;
}

function readOrigin(config: CheckpointConfig, metadata: CheckpointConfig | undefined): CheckpointOrigin {
  // Before the sixth version these stood beside everything else.
  const from = metadata ?? config;
  const name = from.text("model_name");
  const sha256 = from.text("model_sha256");
  const tokens = from.oneOf("tokens", ["patches", "cls", "all"]);
  const layer = from.index("hook_layer") ?? from.index("hook_point_layer");
  return {
    ...(name !== undefined && { model: { name, ...(sha256 !== undefined && { sha256 }) } }),
    ...originOfHook(from.text("hook_name") ?? from.text("hook_point") ?? ""),
    ...(layer !== undefined && { layer }),
    ...(tokens && { tokens }),
  };
}
