/**
 * Takes the weights of an SAE out of a file of tensors, whatever their names there: shapes are checked against each other
 * first, then all are read at once, matrices of linear layers transposed on the way.
 *
 * @module
 */
import type { TensorFile } from "../tensors/tensor_file.ts";

/** Weights as they came out of a file, row-major. They belong to the reader that asked for them. */
export interface RawWeights {
  readonly dModel: number;
  readonly dSae: number;
  /** Shape `[dModel, dSae]`. */
  readonly wEnc: Float32Array;
  /** Shape `[dSae]`. */
  readonly bEnc: Float32Array;
  /** Shape `[dSae, dModel]`. */
  readonly wDec: Float32Array;
  /** Shape `[dModel]`. */
  readonly bDec: Float32Array;
}

/** Names of the weights in a file. */
export interface WeightNames {
  readonly wEnc: string;
  readonly wDec: string;
  /**
   * Name of the encoder bias.
   *
   * @default none, which is zeros
   */
  readonly bEnc?: string;
  /**
   * Name of the decoder bias.
   *
   * @default none, which is zeros
   */
  readonly bDec?: string;
  /**
   * Matrices that the file has the other way round, as linear layers do.
   *
   * @default {[]}
   */
  readonly transposed?: readonly ("wEnc" | "wDec")[];
  /**
   * Sizes that a configuration tells.
   *
   * @default those of the encoder
   */
  readonly sizes?: { readonly dModel: number; readonly dSae: number };
}

/**
 * Reads the weights of an SAE.
 *
 * @throws {RangeError} If one is missing, empty, or does not fit the others.
 */
export async function readWeights(file: TensorFile, names: WeightNames): Promise<RawWeights> {
  const { sizes, transposed = [] } = names;
  const isTransposed = { wEnc: transposed.includes("wEnc"), wDec: transposed.includes("wDec") };
  const swap = (shape: (number | undefined)[], matrix: "wEnc" | "wDec") =>
    isTransposed[matrix] ? shape.toReversed() : shape;
  const encoder = checkShape(file, names.wEnc, swap([sizes?.dModel, sizes?.dSae], "wEnc"));
  const [dModel, dSae] = isTransposed.wEnc ? encoder.toReversed() : encoder;
  checkShape(file, names.wDec, swap([dSae, dModel], "wDec"));
  if (names.bEnc !== undefined) checkShape(file, names.bEnc, [dSae]);
  if (names.bDec !== undefined) checkShape(file, names.bDec, [dModel]);
  const [wEnc, wDec, bEnc, bDec] = await Promise.all([
    file.read(names.wEnc, { transpose: isTransposed.wEnc }),
    file.read(names.wDec, { transpose: isTransposed.wDec }),
    names.bEnc === undefined ? new Float32Array(dSae) : file.read(names.bEnc),
    names.bDec === undefined ? new Float32Array(dModel) : file.read(names.bDec),
  ]);
  return { dModel, dSae, wEnc, bEnc, wDec, bDec };
}

/**
 * Reads a tensor that has to have a shape.
 *
 * @throws {RangeError} If there is none, or one of another shape.
 */
export async function readShaped(file: TensorFile, name: string, shape: readonly number[]): Promise<Float32Array> {
  checkShape(file, name, shape);
  return await file.read(name);
}

/** The shape of a tensor, or an error that names both; `undefined` stands for any size of 1 or more. */
function checkShape(file: TensorFile, name: string, shape: readonly (number | undefined)[]): readonly number[] {
  const entry = file.entries.get(name);
  const fits = entry?.shape.length === shape.length &&
    shape.every((size, axis) => size === undefined ? entry.shape[axis] > 0 : size === entry.shape[axis]);
  if (entry === undefined || !fits) {
    throw new RangeError(
      `Cannot read SAE: tensor ${name} must have shape [${shape.map((size) => size ?? "any").join(", ")}], ` +
        (entry ? `current shape is [${entry.shape.join(", ")}]` : "the file has none of that name"),
    );
  }
  return entry.shape;
}
