/**
 * What the log of a training run says, as far as it can be drawn.
 *
 * @module
 */

/** One line of a training log; fields that a recipe does not have are undefined. */
export interface TrainingPoint {
  /** Optimizer steps done. */
  readonly step: number;
  /** Tokens seen, repeated ones included. */
  readonly nTokens: number;
  /** What the optimizer minimizes, all terms together. */
  readonly loss: number;
  /** Mean squared error of the reconstruction. */
  readonly mse?: number;
  /** Squared error divided by the variance of the input: 0 is perfect, 1 no better than the mean. */
  readonly normalizedMse?: number;
  /** Mean number of active latents a token. */
  readonly l0?: number;
  /** Mean sum of the latents of a token. */
  readonly l1?: number;
  /** Latents that have not been active for some time. */
  readonly nDead?: number;
  /** Learning rate of the step. */
  readonly learningRate?: number;
  /** Norm of all gradients, before clipping. */
  readonly gradientNorm?: number;
  /** Speed. */
  readonly tokensPerSecond?: number;
  /** What the SAE gave on held-out tokens after this step, if it was measured. */
  readonly heldOut?: HeldOutValues;
}

/** Some of the same quantities on held-out tokens. */
export interface HeldOutValues {
  /** As in {@linkcode TrainingPoint}. */
  readonly normalizedMse: number;
  /** Mean number of active latents a token. */
  readonly l0: number;
  /** Latents that are active on none of these tokens. */
  readonly nDead?: number;
}

/** What was measured on held-out tokens, and when. */
export type HeldOutPoint = Partial<TrainingPoint> & Pick<TrainingPoint, "step" | "nTokens">;

/** A quantity that a panel can show. */
export type TrainingField = Exclude<keyof TrainingPoint, "step" | "nTokens" | "heldOut">;

/** All that was measured on held-out tokens: what points of the log carry, and what is given beside them. */
export function heldOutPoints(
  points: readonly TrainingPoint[],
  { heldOut: given = [] }: { heldOut?: readonly TrainingPoint[] },
): HeldOutPoint[] {
  const carried = points.flatMap(({ step, nTokens, heldOut }) => heldOut ? [{ step, nTokens, ...heldOut }] : []);
  return [...carried, ...given].sort((a, b) => a.nTokens - b.nTokens);
}
