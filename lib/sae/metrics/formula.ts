/**
 * What a metric of an SAE is: a name, a formula in words and in code, and whose convention it is. The same name means
 * different numbers in different papers, so none is given without its formula.
 *
 * Letters: activations `x`, reconstruction `x̂`, error `δ = x − x̂`, latents `f`; `mean` and `Σ` are over all tokens and
 * dimensions, `mean_t` over tokens and `Σ_d` over dimensions; `x̄` is the mean of each dimension over all tokens.
 *
 * @module
 */
import type { MetricSums } from "./sums.ts";

/** Names of the metrics in code; on disk they are the same in snake_case. */
export type MetricKey =
  | "mse"
  | "mseSum"
  | "mseOverNorm"
  | "safeMse"
  | "safeMseOverNorm"
  | "mseOverSquares"
  | "mseSaeLens"
  | "normalizedMse"
  | "explainedVariance"
  | "r2"
  | "explainedVarianceCentered"
  | "explainedVarianceScalar"
  | "explainedVariancePerToken"
  | "explainedVarianceLegacy"
  | "cosineSimilarity"
  | "inputNorm"
  | "outputNorm"
  | "l2Ratio"
  | "reconstructionBias"
  | "l0"
  | "l0NonZero"
  | "l0Above"
  | "l1"
  | "l1Signed"
  | "nDead"
  | "nDeadWindow"
  | "deadCounter"
  | "nAlmostDead"
  | "nDense"
  | "dictionaryCoherence"
  | "meanDecoderNorm";

/** What a metric is. */
export interface MetricDefinition {
  readonly key: MetricKey;
  /** For people. */
  readonly name: string;
  readonly formula: string;
  /** Who publishes it, and under which name. */
  readonly source: string;
}

/** What metrics are made of. */
export interface MetricInputs {
  readonly sums: MetricSums;
  /** Tokens without activation after which a latent counts as dead. */
  readonly deadWindowTokens: number;
  /** NaN where it was not measured. */
  readonly dictionaryCoherence: number;
  readonly meanDecoderNorm: number;
}

/** A metric with its formula as code. */
export interface MetricFormula extends MetricDefinition {
  compute(inputs: MetricInputs): number;
}
