/**
 * Notices that a training run has gone astray: its loss is no number any more, or its error grows without end.
 *
 * @module
 */
import type { TrainStep } from "../train/step.ts";

// An error ten times that of the mean, and a hundred times the run's own best, for so many steps, is no spike.
const TIMES_MEAN = 10;
const TIMES_LOWEST = 100;
const N_STEPS = 10;

/**
 * Makes a watch that is shown each step.
 *
 * @param earlier Steps of the run before, of which it remembers the lowest error.
 * @throws {Error} From the watch, with the step and the cause, if the loss is not finite, or once the error has been far
 * above its lowest for ten steps in a row.
 */
export function watchDivergence(earlier: readonly TrainStep[], learningRate: number): (step: TrainStep) => void {
  let lowest = earlier.reduce((least, { mse }) => Math.min(least, mse), Infinity);
  let nHigh = 0;
  return ({ step, loss, mse, normalizedMse }) => {
    if (!Number.isFinite(loss)) {
      throw new Error(
        `Cannot go on training: the loss must be a number, it is ${loss} at step ${
          step - 1
        }; lower the learning rate ` +
          `from ${learningRate}, or record the activations again if they hold numbers that are not finite`,
      );
    }
    lowest = Math.min(lowest, mse);
    const isHigh = normalizedMse > TIMES_MEAN && mse > TIMES_LOWEST * lowest;
    nHigh = isHigh ? nHigh + 1 : 0;
    if (nHigh < N_STEPS) return;
    throw new Error(
      `Cannot go on training: the error must not grow without end, normalized MSE is ${normalizedMse.toPrecision(4)} ` +
        `at step ${step}, MSE ${mse.toPrecision(4)} after ${lowest.toPrecision(4)} at best; lower the learning rate ` +
        `from ${learningRate}`,
    );
  };
}
