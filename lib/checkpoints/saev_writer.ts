/**
 * Writes checkpoints that saev (https://github.com/Imageomics/saev) opens: schema 5, a line of JSON and then a torch
 * archive, with the encoder stored column by column as saev itself stores it.
 *
 * The format knows ReLU, TopK that keeps negative values, and BatchTopK, which is one threshold at inference. It has no
 * word for a normalization of the input, and the decoder bias is never subtracted: what it cannot say is refused.
 *
 * @module
 */
import { jumpReluFloors, type SaeWeights } from "../compute/contract.ts";
import { type TorchValue, writeTorchFile } from "../tensors/torch_writer.ts";

/** Options of {@linkcode writeSaev}. */
export interface WriteSaevOptions {
  /**
   * Active latents a token that the file names. For BatchTopK only, which is a threshold here: saev trains on with `k`.
   *
   * @default none; it must be given for BatchTopK
   */
  k?: number;
  /**
   * Stops the writing; what was there before stays.
   *
   * @default never
   */
  signal?: AbortSignal;
}

interface Activation {
  readonly cls: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Threshold of BatchTopK. */
  readonly threshold?: number;
}

const noSparsity = { cls: "NoSparsity", params: { key: "no-sparsity" } };
const noAux = { cls: "NoAux", params: { key: "no-aux" } };
// saev's defaults, for where training goes on.
const auxK = { cls: "AuxK", params: { key: "auxk", k_aux: 512, alpha: 1 / 32 } };
const MOMENTUM = 0.1;

/**
 * Writes an SAE as a checkpoint of saev.
 *
 * @throws {TypeError} If the format cannot say what the SAE does: the message names each and what helps.
 * @throws {RangeError} If `k` is missing for BatchTopK, or is none.
 * @throws {Error} If the file cannot be written.
 */
export async function writeSaev(weights: SaeWeights, path: string, options: WriteSaevOptions = {}): Promise<void> {
  const { dModel, dSae, wEnc, bEnc, wDec, bDec } = weights;
  const { signal } = options;
  const activation = describeActivation(weights, options.k);
  const header = {
    schema: 5,
    cfg: {
      d_model: dModel,
      d_sae: dSae,
      activation: { cls: activation.cls, params: activation.params },
      reinit_blend: 0.8,
      reinit_enc_dec_tranpose: true,
      remove_parallel_grads: true,
      normalize_w_dec: true,
    },
    commit: "unknown",
    lib: "sparsight",
  };
  const tensors: [string, TorchValue][] = [
    ["W_dec", { shape: [dSae, dModel], data: wDec }],
    ["b_dec", { shape: [dModel], data: bDec }],
    ["W_enc", { shape: [dModel, dSae], data: wEnc, isColumnMajor: true }],
    ["b_enc", { shape: [dSae], data: bEnc }],
  ];
  if (activation.threshold !== undefined) {
    tensors.push(["activation.threshold", { shape: [], data: Float32Array.of(activation.threshold) }]);
  }
  await writeTorchFile(path, new Map(tensors), { headerLine: JSON.stringify(header), signal });
}

function describeActivation(weights: SaeWeights, k: number | undefined): Activation {
  const { rule, normalization, subtractBDec, bDec, dSae } = weights;
  const problems: string[] = [];
  if (normalization !== undefined && normalization.kind !== "none") {
    problems.push(
      `no normalization, current one is ${normalization.kind} (an affine one can be folded: foldNormalization, --fold-normalization)`,
    );
  }
  if (subtractBDec && bDec.some((value) => value !== 0)) {
    problems.push("b_dec that is not subtracted from the input (it can be folded: foldInputBias, --fold-input-bias)");
  }
  if (rule.kind === "topK" && rule.relu) {
    problems.push("TopK that keeps negative values, current one drops them (they can be kept: drop relu, --drop relu)");
  }
  if (rule.kind === "batchTopK") {
    problems.push(
      "BatchTopK with a threshold, current one looks at the whole batch (it can be set: rule, --rule jumprelu=…)",
    );
  }
  const floors = rule.kind === "jumpRelu" ? jumpReluFloors(rule) : new Float32Array(1);
  const [threshold] = floors;
  if (!Number.isFinite(threshold) || floors.some((floor) => floor !== threshold)) {
    problems.push(
      "one finite threshold, current ones differ from latent to latent (it can be set: rule, --rule jumprelu=…)",
    );
  }
  if (problems.length > 0) throw new TypeError(`Cannot write saev checkpoint: it must have ${problems.join("; ")}`);
  if (rule.kind === "topK") {
    return { cls: "TopK", params: { key: "top-k", top_k: rule.k, sparsity: noSparsity, aux: auxK } };
  }
  // saev, too, takes BatchTopK for a plain ReLU where its threshold is not above zero.
  if (threshold === 0) return { cls: "Relu", params: { key: "relu", sparsity: noSparsity, aux: noAux } };
  if (k === undefined || !Number.isInteger(k) || k < 1 || k > dSae) {
    throw new RangeError(
      `Cannot write saev checkpoint: k must be given for BatchTopK (k, --batch-k), an integer between 1 and ${dSae}, ` +
        `current value is ${k}`,
    );
  }
  const params = { key: "batch-top-k", top_k: k, sparsity: noSparsity, momentum: MOMENTUM, aux: auxK };
  return { cls: "BatchTopK", params, threshold };
}
