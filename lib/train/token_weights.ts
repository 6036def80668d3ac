/**
 * From squared errors to a loss.
 *
 * @module
 */
import type { ReconstructionLoss } from "./recipe.ts";

/** What each token's sum of squares counts in the loss. */
export function tokenWeights(
  target: Float32Array,
  options: { dModel: number; loss: ReconstructionLoss },
): Float64Array {
  const { dModel, loss } = options;
  const nTokens = target.length / dModel;
  if (loss !== "tokenNorm") return new Float64Array(nTokens).fill(1 / (loss === "mean" ? target.length : nTokens));
  return Float64Array.from({ length: nTokens }, (_, token) => {
    let squares = 0;
    for (let i = token * dModel; i < (token + 1) * dModel; i++) squares += target[i] * target[i];
    // A token of zeros has no length to measure by: its error counts as it is.
    return 1 / (target.length * (Math.sqrt(squares) || 1));
  });
}
