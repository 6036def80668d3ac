/**
 * What is told of a step of training.
 *
 * @module
 */

/** How training stands after a step. Losses are of this step's batch, before its update. */
export interface TrainStep {
  /** Steps done. */
  readonly step: number;
  /** Steps of the run. */
  readonly nSteps: number;
  /** Tokens seen. */
  readonly nTokens: number;
  /** Sum of the next three. */
  readonly loss: number;
  /** Of the prefixes, as the recipe measures it. */
  readonly reconstruction: number;
  /** With its coefficient, as far as it has risen. */
  readonly sparsity: number;
  /** AuxK with its weight, or the loss of the gates. */
  readonly aux: number;
  /** Mean square of what the whole dictionary leaves over, on activations as the recipe normalizes them. */
  readonly mse: number;
  /** Share of the batch's variance that is not explained. */
  readonly normalizedMse: number;
  /** Mean over tokens of the number of latents that are not zero. */
  readonly l0: number;
  /** Mean over tokens of the sum of absolute latents. */
  readonly l1: number;
  /** Latents that are dead. */
  readonly nDead: number;
  /** Norm of all gradients before clipping. */
  readonly gradientNorm: number;
  /** Learning rate of this step. */
  readonly learningRate: number;
}

/** Mean over tokens of the number of values that are not zero, and of their absolute sum. */
export function measureSparsity(values: Float32Array, nTokens: number): { l0: number; l1: number } {
  let [count, sum] = [0, 0];
  for (const value of values) {
    if (value !== 0) count++;
    sum += Math.abs(value);
  }
  return { l0: count / nTokens, l1: sum / nTokens };
}

/** Sum of squared distances from the mean of the batch. */
export function squaresAroundMean(x: Float32Array, dModel: number): number {
  const [sums, squares] = [new Float64Array(dModel), new Float64Array(dModel)];
  for (let start = 0; start < x.length; start += dModel) {
    for (let d = 0; d < dModel; d++) sums[d] += x[start + d];
  }
  const nTokens = x.length / dModel;
  for (let start = 0; start < x.length; start += dModel) {
    for (let d = 0; d < dModel; d++) squares[d] += (x[start + d] - sums[d] / nTokens) ** 2;
  }
  return squares.reduce((total, square) => total + square, 0);
}
