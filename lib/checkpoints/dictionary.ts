/**
 * What every reader of published checkpoints hands over: weights in one form, and what was decided on the way. Files
 * leave out what a reader has to know (whether a bias is subtracted, which rule follows), so each reader says what it
 * took and why, and every decision can be overruled.
 *
 * @module
 */
import type { ActivationRule, SaeWeights } from "../compute/contract.ts";
import type { TensorFile } from "./tensor_file.ts";

/** A dictionary out of a checkpoint. */
export interface CheckpointDictionary {
  readonly weights: SaeWeights;
  /** Name of the format, such as `"saev, schema 5"`. */
  readonly format: string;
  /** What was decided and why, a sentence each. */
  readonly decisions: readonly string[];
  /** What the file says about training, as it says it. */
  readonly training: Readonly<Record<string, unknown>>;
}

/** Decisions that can be overruled. */
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
}

/** Reads a tensor that has to have a shape; `undefined` in the shape stands for any size. */
export async function readShaped(
  file: TensorFile,
  name: string,
  shape: readonly (number | undefined)[],
): Promise<{ data: Float32Array; shape: readonly number[] }> {
  const entry = file.entries.get(name);
  const fits = entry?.shape.length === shape.length &&
    shape.every((size, axis) => size === undefined || size === entry.shape[axis]);
  if (entry === undefined || !fits) {
    throw new RangeError(
      `Cannot read SAE: tensor ${name} must have shape [${shape.map((size) => size ?? "any").join(", ")}], ` +
        (entry ? `current shape is [${entry.shape.join(", ")}]` : "the file has none of that name"),
    );
  }
  return { data: await file.read(name), shape: entry.shape };
}
