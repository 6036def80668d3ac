/**
 * What every reader of published checkpoints is given and what it hands over: weights in one form, and what was decided
 * on the way. Files leave out what a reader has to know (whether a bias is subtracted, how activations were normalized,
 * which rule follows), so each reader says what it took and why, and every decision can be overruled.
 *
 * @module
 */
import type { ActivationRule, InputNormalization, SaeWeights } from "../compute/contract.ts";
import type { HubOptions } from "../hub/hub.ts";
import type { HookPoint } from "../vit/hooks.ts";
import type { CheckpointConfig } from "./config.ts";
import type { TensorFile } from "../tensors/tensor_file.ts";

/** A checkpoint that is open for its reader. */
export interface Checkpoint {
  readonly file: TensorFile;
  /** Where it is: the path, URL or name on the Hub of the file of weights. */
  readonly location: string;
  /** The configuration that was given or is beside it, `undefined` if there is none; read when first asked for. */
  config(): Promise<CheckpointConfig | undefined>;
  /** Bytes of another file beside it, `undefined` if there is none. */
  sibling(name: string): Promise<Uint8Array | undefined>;
}

/** A decision of a reader. */
export interface Decision {
  /** What it is about: one about what an option overrules is not repeated. */
  readonly about: "bias" | "normalization" | "rule" | "weights";
  /** What was decided and why. */
  readonly sentence: string;
}

/** Where an SAE belongs, as far as a checkpoint tells. */
export interface CheckpointOrigin {
  readonly model?: { readonly name: string; readonly sha256?: string };
  readonly layer?: number;
  readonly hook?: HookPoint;
  readonly tokens?: "patches" | "cls" | "all";
}

/** A dictionary out of a checkpoint. */
export interface CheckpointDictionary {
  readonly weights: SaeWeights;
  /** Name of the format, such as `"saev, schema 5"`; absent for our own, which says everything itself. */
  readonly format?: string;
  readonly decisions: readonly Decision[];
  readonly origin?: CheckpointOrigin;
  /** What the file says about training, as it says it. */
  readonly training?: Readonly<Record<string, unknown>>;
}

/** Names of the formats that are read. */
export const checkpointFormats = [
  "saev",
  "clip-scope",
  "sae-lens",
  "vit-prisma",
  "dictionary-learning",
  "sparsify",
  "openai",
  "sdxl-unbox",
  "msae",
  "overcomplete",
  "hugofry",
] as const;

/** Name of a format that is read. */
export type CheckpointFormatName = typeof checkpointFormats[number];

/** How to read a checkpoint, and decisions that can be overruled. */
export interface DictionaryOptions {
  /**
   * Whether the decoder bias is subtracted from the input.
   *
   * @default what the SAE was trained with
   */
  subtractBDec?: boolean;
  /**
   * Active latents a token, for TopK.
   *
   * @default what the file says
   */
  k?: number;
  /**
   * Activation rule.
   *
   * @default what the SAE was trained with; for BatchTopK, its threshold
   */
  rule?: ActivationRule;
  /**
   * How activations are normalized before they are encoded.
   *
   * @default what the SAE was trained with, as far as its files tell
   */
  normalization?: InputNormalization;
  /**
   * Format of the checkpoint.
   *
   * @default the one that its tensors and its configuration show
   */
  format?: CheckpointFormatName;
  /**
   * Configuration in place of `config.json` or `cfg.json`, with the same names.
   *
   * @default the one beside the weights
   */
  config?: Readonly<Record<string, unknown>>;
  /**
   * How files of the Hugging Face Hub are fetched.
   *
   * @default the cache and the settings of `huggingface_hub`
   */
  hub?: HubOptions;
  /**
   * Stops requests to servers.
   *
   * @default never
   */
  signal?: AbortSignal;
}

/** Where a name such as `blocks.9.hook_resid_post` or `layers.9.mlp` places an SAE. */
export function originOfHook(name: string): Pick<CheckpointOrigin, "layer" | "hook"> {
  const layer = /(?:^|[._/])(?:blocks?|layers?|h)[._](\d+)(?:\D|$)/.exec(name)?.[1];
  const places: readonly [RegExp, HookPoint][] = [
    [/resid_pre/, "residPre"],
    [/mlp_out|[._]mlp$/, "mlpOut"],
    [/attn_out|[._](self_)?attn$|[._]attention$/, "attnOut"],
  ];
  const hook = places.find(([pattern]) => pattern.test(name))?.[1];
  return { ...(layer !== undefined && { layer: Number(layer) }), ...(hook && { hook }) };
}
