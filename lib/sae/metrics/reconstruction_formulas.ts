/**
 * Formulas of how well activations are reconstructed: errors, shares of variance, directions and norms. The letters are
 * those of `metric_formulas.ts`.
 *
 * @module
 */
import type { MetricFormula } from "./formula.ts";
import type { MetricSums } from "./sums.ts";

const total = (numbers: Float64Array) => numbers.reduce((sum, number) => sum + number, 0);
const squaredError = ({ sumErrorSquares }: MetricSums) => total(sumErrorSquares);
/** `Σ(x_d − x̄_d)²` of a dimension. */
const spreadOf = ({ sumX, sumXX, nTokens }: MetricSums, d: number) => sumXX[d] - sumX[d] * sumX[d] / nTokens;
const spread = (sums: MetricSums) => sums.sumX.reduce((sum, _, d) => sum + spreadOf(sums, d), 0);

/** Formulas of the reconstruction. */
export const reconstructionFormulas: readonly MetricFormula[] = [
  {
    key: "mse",
    name: "MSE",
    formula: "mean δ²",
    source: "saev mse, CLIP-Scope mse",
    compute: ({ sums }) => squaredError(sums) / (sums.nTokens * sums.dModel),
  },
  {
    key: "mseSum",
    name: "MSE, summed",
    formula: "mean_t Σ_d δ²",
    source: "CLIP-Scope sum_mse (its README's MSE)",
    compute: ({ sums }) => squaredError(sums) / sums.nTokens,
  },
  {
    key: "mseOverNorm",
    name: "MSE over norm",
    formula: "mean δ² / √(Σ_d x²) + 1e-9",
    source: "CLIP-Scope variance_proportional_mse",
    compute: ({ sums }) => sums.errorOverNorm.mean + 1e-9,
  },
  {
    key: "safeMse",
    name: "safe MSE",
    // Dividing by u keeps float32 from overflowing. The sums here are float64, where it changes nothing.
    formula: "mean (x̂/u − x/u)² u², u = max |x|",
    source: "saev loss (equals MSE)",
    compute: ({ sums }) => squaredError(sums) / (sums.nTokens * sums.dModel),
  },
  {
    key: "safeMseOverNorm",
    name: "safe MSE over norm",
    formula: "mean (x̂/u − x/u)² u / (‖x/u‖ + 1e-12)",
    source: "saev loss, norm=True; u of the batch",
    // The sums hold Σ_d δ² / (d · u) over (‖x‖/u + 1e-12): one u of the square cancels against the factor.
    compute: ({ sums }) => sums.safeErrorOverNorm.mean,
  },
  {
    key: "mseOverSquares",
    name: "MSE over squares",
    formula: "mean_t (Σ_d δ² / Σ_d x²)",
    source: "OpenAI normalized_mean_squared_error",
    compute: ({ sums }) => sums.errorOverSquares.mean,
  },
  {
    key: "mseSaeLens",
    name: "MSE of SAELens",
    formula: "mean_t (Σ_d δ² / tokens of the batch)",
    source: "SAELens mse",
    compute: ({ sums }) => sums.errorOverBatchTokens / sums.nTokens,
  },
  {
    key: "normalizedMse",
    name: "normalized MSE",
    formula: "Σ δ² / Σ (x − x̄)²",
    source: "saev normalized_mse, sparsify FVU",
    compute: ({ sums }) => squaredError(sums) / spread(sums),
  },
  {
    key: "explainedVariance",
    name: "explained variance",
    formula: "1 − Σ δ² / Σ (x − x̄)²",
    source: "SAELens explained_variance",
    compute: ({ sums }) => 1 - squaredError(sums) / spread(sums),
  },
  {
    key: "r2",
    name: "R²",
    formula: "mean_d (1 − Σ_t δ² / Σ_t (x − x̄)²)",
    source: "scikit-learn r2_score",
    compute: ({ sums }) => {
      const dimensions = [...sums.sumX.keys()].filter((d) => spreadOf(sums, d) > 0);
      const unexplained = dimensions.map((d) => sums.sumErrorSquares[d] / spreadOf(sums, d));
      return 1 - unexplained.reduce((sum, share) => sum + share, 0) / dimensions.length;
    },
  },
  {
    key: "explainedVarianceCentered",
    name: "EV, error centered",
    formula: "1 − Σ_d var_t(δ) / Σ_d var_t(x)",
    source: "dictionary_learning frac_variance_explained",
    compute: ({ sums }) => {
      const bias = sums.sumError.reduce((sum, error) => sum + error * error, 0) / sums.nTokens;
      return 1 - (squaredError(sums) - bias) / spread(sums);
    },
  },
  {
    key: "explainedVarianceScalar",
    name: "EV, one mean",
    formula: "1 − var(δ) / var(x), of all numbers",
    source: "saev metrics/explained_variance",
    compute: ({ sums }) => {
      const nNumbers = sums.nTokens * sums.dModel;
      const means = sums.sumX.map((sum, d) => sum / sums.nTokens + sums.origin[d]);
      const grand = total(means) / sums.dModel;
      const between = means.reduce((sum, mean) => sum + (mean - grand) ** 2, 0) * sums.nTokens;
      const error = squaredError(sums) - total(sums.sumError) ** 2 / nNumbers;
      return 1 - error / (spread(sums) + between);
    },
  },
  {
    key: "explainedVariancePerToken",
    name: "EV, a token's own",
    formula: "mean_t (1 − Σ_d δ² / Σ_d (x − mean_d x)²)",
    source: "CLIP-Scope explained_variance",
    compute: ({ sums }) => 1 - sums.errorOverOwnSpread.mean,
  },
  {
    key: "explainedVarianceLegacy",
    name: "EV, legacy",
    formula: "mean_t (1 − Σ_d δ² / Σ_d (x − batch mean)²)",
    source: "SAELens explained_variance_legacy",
    compute: ({ sums }) => 1 - sums.errorOverBatchSpread.mean,
  },
  {
    key: "cosineSimilarity",
    name: "cosine similarity",
    formula: "mean_t (x·x̂ / (‖x‖ ‖x̂‖))",
    source: "SAELens cossim",
    compute: ({ sums }) => sums.cosine.mean,
  },
  {
    key: "inputNorm",
    name: "norm of x",
    formula: "mean_t ‖x‖",
    source: "SAELens l2_norm_in",
    compute: ({ sums }) => sums.inputNorm / sums.nTokens,
  },
  {
    key: "outputNorm",
    name: "norm of x̂",
    formula: "mean_t ‖x̂‖",
    source: "SAELens l2_norm_out",
    compute: ({ sums }) => sums.outputNorm / sums.nTokens,
  },
  {
    key: "l2Ratio",
    name: "L2 ratio",
    formula: "mean_t (‖x̂‖ / ‖x‖)",
    source: "SAELens l2_ratio",
    compute: ({ sums }) => sums.normRatio.mean,
  },
  {
    key: "reconstructionBias",
    name: "reconstruction bias",
    formula: "mean_t ‖x̂‖² / mean_t x·x̂",
    source: "SAELens relative_reconstruction_bias",
    compute: ({ sums }) => sums.outputSquares / sums.inputTimesOutput,
  },
];
