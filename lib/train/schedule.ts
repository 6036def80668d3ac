/**
 * The learning rate and the weight of the sparsity loss over a run.
 *
 * @module
 */
import type { TrainSchedule } from "./recipe.ts";

/** Where a step is in a run. */
export interface RunPosition {
  /** Steps done before it. */
  readonly step: number;
  /** Steps of the run. */
  readonly nSteps: number;
}

/** Share of the highest learning rate at a step, 0 to 1. */
export function learningRateShare(schedule: TrainSchedule, position: RunPosition): number {
  const { warmUp, warmUpShape = "linear", warmUpFrom = 0, decay, decayFrom = warmUp } = schedule;
  const { step, nSteps } = position;
  const warmSteps = inSteps(warmUp, nSteps);
  if (step < warmSteps) {
    const rise = warmUpShape === "linear" ? step / warmSteps : (1 - Math.cos(Math.PI * step / warmSteps)) / 2;
    return warmUpFrom + (1 - warmUpFrom) * rise;
  }
  const start = inSteps(decayFrom, nSteps);
  if (decay === "none" || step < start) return 1;
  if (step >= nSteps) return 0;
  const progress = (step - start) / (nSteps - start);
  return decay === "linear" ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
}

/** Share of the sparsity coefficient at a step, 0 to 1. */
export function sparsityShare(warmUp: number, position: RunPosition): number {
  const warmSteps = inSteps(warmUp, position.nSteps);
  return warmSteps > 0 ? Math.min(1, position.step / warmSteps) : 1;
}

function inSteps(steps: number, nSteps: number): number {
  return steps < 1 ? steps * nSteps : steps;
}
