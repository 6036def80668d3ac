/**
 * Writes checkpoints that CLIP-Scope (https://github.com/Lewington-pitsos/clipscope) opens, as its authors publish them:
 * one dict with `model_state_dict.{pre_b, enc, dec}`, `k`, `d_in` and `n_features`.
 *
 * The format knows one kind of SAE: TopK that keeps negative values, a bias that is subtracted from the input and added
 * to the output, and none in the encoder. It has no word for the normalization of the input; CLIP-Scope trains on
 * activations that are standardized batch by batch and leaves that to who uses the file.
 *
 * @module
 */
import type { SaeWeights } from "../compute/contract.ts";
import { type TorchValue, writeTorchFile } from "../tensors/torch_writer.ts";

/** Options of {@linkcode writeClipScope}. */
export interface WriteClipScopeOptions {
  /**
   * Whether the decoder is stored row by row. Published files store it column by column, which readers must follow
   * the strides for.
   *
   * @default {false}
   */
  contiguousDecoder?: boolean;
  /**
   * What is known of the training and has a place in the file.
   *
   * @default nothing
   */
  training?: {
    /** Tokens seen. */
    readonly tokenCount?: number;
    /** What the file is named after, the number of tokens in practice. */
    readonly nIter?: number;
    /** Name of the run. */
    readonly logId?: string;
  };
  /**
   * Stops the writing; what was there before stays.
   *
   * @default never
   */
  signal?: AbortSignal;
}

/**
 * Writes an SAE as a checkpoint of CLIP-Scope.
 *
 * @throws {TypeError} If the format cannot say what the SAE does: the message names each and what helps.
 * @throws {Error} If the file cannot be written.
 */
export async function writeClipScope(
  weights: SaeWeights,
  path: string,
  options: WriteClipScopeOptions = {},
): Promise<void> {
  const { contiguousDecoder = false, training = {}, signal } = options;
  const { dModel, dSae, wEnc, wDec, bDec } = weights;
  const k = checkFits(weights);
  const state: [string, TorchValue][] = [
    ["pre_b", { shape: [dModel], data: bDec }],
    ["enc", { shape: [dModel, dSae], data: wEnc }],
    ["dec", { shape: [dSae, dModel], data: wDec, isColumnMajor: !contiguousDecoder }],
  ];
  const { tokenCount, nIter, logId } = training;
  await writeTorchFile(path, {
    model_state_dict: new Map(state),
    ...(tokenCount === undefined ? {} : { token_count: tokenCount }),
    ...(nIter === undefined ? {} : { n_iter: nIter }),
    ...(logId === undefined ? {} : { log_id: logId }),
    d_in: dModel,
    n_features: dSae,
    k,
  }, { signal });
}

/** `k`, if the format can hold the SAE. */
function checkFits({ rule, normalization, subtractBDec, bEnc, bDec }: SaeWeights): number {
  const problems: string[] = [];
  if (rule.kind !== "topK") problems.push(`the rule topK, current one is ${rule.kind}`);
  else if (rule.relu) {
    problems.push("TopK that keeps negative values, current one drops them (they can be kept: drop relu, --drop relu)");
  }
  if (normalization !== undefined && normalization.kind !== "none" && normalization.kind !== "batch") {
    problems.push(
      `normalization none or batch, current one is ${normalization.kind} (an affine one can be folded: foldNormalization, --fold-normalization)`,
    );
  }
  if (bEnc.some((value) => value !== 0)) {
    problems.push("no encoder bias, current b_enc is not 0 (nothing can take its place)");
  }
  if (!subtractBDec && bDec.some((value) => value !== 0)) {
    problems.push("b_dec that is subtracted from the input, current one is not (nothing can take its place)");
  }
  if (rule.kind !== "topK" || problems.length > 0) {
    throw new TypeError(`Cannot write CLIP-Scope checkpoint: it must have ${problems.join("; ")}`);
  }
  return rule.k;
}
