/**
 * The losses of training written out plainly in float64, with every choice (which latents are active, what is left
 * over for dead ones) held fixed, so that finite differences along them are gradients.
 *
 * @module
 */
import type { ReconstructionLoss, TrainActivation } from "../../lib/train/recipe.ts";

/** Parameters in float64, row `i` of the matrices of latent `i`. */
export type PlainParameters = Readonly<Record<string, Float64Array>>;

/** What is fixed. */
export interface PlainOptions {
  readonly kind: TrainActivation["kind"];
  readonly dModel: number;
  readonly dSae: number;
  readonly prefixes: readonly number[];
  readonly loss: ReconstructionLoss;
  readonly coefficient: number;
  readonly subtractBDec: boolean;
  /** Active latents of each token. */
  readonly active: readonly (readonly number[])[];
  /** Parameters that the loss of the gates decodes with. */
  readonly frozen: PlainParameters;
  readonly aux?: {
    readonly latents: readonly (readonly number[])[];
    readonly residual: readonly Float64Array[];
    readonly weight: number;
    readonly bias: boolean;
    readonly over: "mean" | "residualVariance";
  };
}

const sumOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

/** Product of a token with an encoder row, without any bias. */
export function plainProduct(p: PlainParameters, x: Float64Array, latent: number, options: PlainOptions): number {
  const { dModel, subtractBDec } = options;
  let z = 0;
  for (let d = 0; d < dModel; d++) z += (x[d] - (subtractBDec ? p.bDec[d] : 0)) * p.wEnc[latent * dModel + d];
  return z;
}

function plainDecode(p: PlainParameters, latents: ReadonlyMap<number, number>, bias: boolean, dModel: number) {
  const y = bias ? p.bDec.slice() : new Float64Array(dModel);
  for (const [latent, value] of latents) {
    for (let d = 0; d < dModel; d++) y[d] += value * p.wDec[latent * dModel + d];
  }
  return y;
}

const squaredDistance = (a: Float64Array, b: Float64Array) => sumOf(Array.from(a, (value, d) => (value - b[d]) ** 2));

/** Reconstruction, sparsity and auxiliary loss of a batch. */
export function plainLosses(
  p: PlainParameters,
  xs: readonly Float64Array[],
  options: PlainOptions,
): { reconstruction: number; sparsity: number; aux: number; residual: Float64Array[] } {
  const { kind, dModel, prefixes, coefficient, active, aux, frozen } = options;
  let [reconstruction, penalty, gateLoss, auxLoss] = [0, 0, 0, 0];
  const residuals: Float64Array[] = [];
  xs.forEach((x, token) => {
    const scale = options.loss === "sum" ? 1 : options.loss === "mean" ? 1 / dModel : 1 / (dModel * Math.hypot(...x));
    const gates = new Map<number, number>();
    const values = new Map<number, number>();
    for (const latent of active[token]) {
      const z = plainProduct(p, x, latent, options);
      gates.set(latent, z + p.bEnc[latent]);
      values.set(
        latent,
        kind === "gated" ? Math.max(0, z * Math.exp(p.rMag[latent]) + p.bMag[latent]) : z + p.bEnc[latent],
      );
    }
    for (const prefix of prefixes) {
      const shortened = new Map([...values].filter(([latent]) => latent < prefix));
      reconstruction += scale * squaredDistance(x, plainDecode(p, shortened, true, dModel)) / prefixes.length;
    }
    const whole = plainDecode(p, values, true, dModel);
    residuals.push(x.map((value, d) => value - whole[d]));
    if (kind === "gated") {
      gateLoss += scale * squaredDistance(x, plainDecode(frozen, gates, true, dModel));
      penalty += sumOf([...gates.values()]);
    } else penalty += kind === "jumpRelu" ? values.size : sumOf([...values.values()].map(Math.abs));
    if (aux !== undefined) {
      const dead = aux.latents[token].map((latent) =>
        [latent, plainProduct(p, x, latent, options) + p.bEnc[latent]] as const
      );
      auxLoss += squaredDistance(aux.residual[token], plainDecode(p, new Map(dead), aux.bias, dModel));
    }
  });
  if (aux !== undefined) {
    const mean = new Float64Array(dModel).map((_, d) => sumOf(aux.residual.map((r) => r[d])) / xs.length);
    const variance = sumOf(aux.residual.map((r) => squaredDistance(r, mean)));
    auxLoss *= aux.weight / (aux.over === "mean" ? xs.length * dModel : variance);
  }
  return {
    reconstruction: reconstruction / xs.length + (options.loss === "tokenNorm" ? 1e-9 : 0),
    sparsity: coefficient * penalty / xs.length,
    aux: kind === "gated" ? gateLoss / xs.length : auxLoss,
    residual: residuals,
  };
}
