/**
 * The parameters of an SAE while it is trained, and the SAE that they become.
 *
 * @module
 */
import type { ActivationRule, InputNormalization, SaeWeights } from "../compute/contract.ts";

/** Arrays that the optimizer changes. The encoder is stored like the decoder: row `i` belongs to latent `i`. */
export interface Parameters {
  /** Shape `[dSae, dModel]`. */
  readonly wEnc: Float32Array;
  /** Shape `[dSae]`; of a gated SAE the bias of the gate. */
  readonly bEnc: Float32Array;
  /** Shape `[dSae, dModel]`. */
  readonly wDec: Float32Array;
  /** Shape `[dModel]`. */
  readonly bDec: Float32Array;
  /** Of a JumpReLU SAE: logarithm of each threshold, shape `[dSae]`. */
  readonly logThreshold?: Float32Array;
  /** Of a gated SAE: logarithm of what turns a gate's product into a magnitude's, shape `[dSae]`. */
  readonly rMag?: Float32Array;
  /** Of a gated SAE: bias of the magnitude, shape `[dSae]`. */
  readonly bMag?: Float32Array;
}

/** Name of a parameter array. */
export type ParameterName = keyof Parameters;

/** The parameters that are no matrices. */
export type ParameterVectors = Omit<Parameters, "wEnc" | "wDec">;

/** Names of the arrays that are there, in one order. */
export function parameterNames(parameters: Partial<Parameters>): ParameterName[] {
  const names = ["wEnc", "bEnc", "wDec", "bDec", "logThreshold", "rMag", "bMag"] as const;
  return names.filter((name) => parameters[name] !== undefined);
}

/** Arrays of zeros in the shape of `like`: gradients, or an optimizer's moments. */
export function zerosLike<P extends Partial<Parameters>>(like: P): P {
  return Object.fromEntries(
    parameterNames(like).map((name) => [name, new Float32Array(like[name]!.length)]),
  ) as unknown as P;
}

/** The parameters that are no matrices; the same arrays. */
export function vectorsOf({ wEnc: _wEnc, wDec: _wDec, ...vectors }: Parameters): ParameterVectors {
  return vectors;
}

/** Makes a row of a matrix of length 1, in place; a row of zeros stays. */
export function normalizeRow(matrix: Float32Array, row: number, dModel: number): void {
  let squares = 0;
  for (let i = row * dModel; i < (row + 1) * dModel; i++) squares += matrix[i] * matrix[i];
  if (squares === 0) return;
  const factor = 1 / Math.sqrt(squares);
  for (let i = row * dModel; i < (row + 1) * dModel; i++) matrix[i] *= factor;
}

/** What {@linkcode toWeights} needs beside the parameters. */
export interface ToWeightsOptions {
  dModel: number;
  dSae: number;
  /**
   * What activations were divided by, to be multiplied into the biases: scaling commutes with the encoder, with every
   * rule (thresholds are scaled, too) and with the decoder.
   *
   * @default {1}
   */
  scale?: number;
  /**
   * What else was done to them.
   *
   * @default {{ kind: "none" }}
   */
  normalization?: InputNormalization;
  subtractBDec: boolean;
  rule: ActivationRule;
}

/** Weights for use: the scale multiplied into the biases, the encoder turned to `[dModel, dSae]`, a gate folded. */
export function toWeights(parameters: Parameters, options: ToWeightsOptions): SaeWeights {
  const { dModel, dSae, scale = 1, normalization, subtractBDec, rule } = options;
  const { rMag, bMag } = parameters;
  const factors = rMag?.map(Math.exp);
  const wEnc = new Float32Array(dModel * dSae);
  for (let latent = 0; latent < dSae; latent++) {
    const factor = factors?.[latent] ?? 1;
    for (let d = 0; d < dModel; d++) wEnc[d * dSae + latent] = factor * parameters.wEnc[latent * dModel + d];
  }
  return {
    dModel,
    dSae,
    wEnc,
    bEnc: (bMag ?? parameters.bEnc).map((b) => b * scale),
    wDec: parameters.wDec.slice(),
    bDec: parameters.bDec.map((b) => b * scale),
    subtractBDec,
    ...(normalization !== undefined && normalization.kind !== "none" && { normalization }),
    rule: rule.kind === "jumpRelu" ? { kind: "jumpRelu", threshold: rule.threshold.map((t) => t * scale) } : rule,
  };
}
