/**
 * A training run on disk: a folder with a log that grows, checkpoints to go on from with the same bits, and at the end
 * the SAE, its metrics on held-out images and a report. Asked for again, a run that was stopped goes on, whatever
 * stopped it, and one that is finished is handed out as it is.
 *
 * @module
 */
import type { Shards } from "../shards/read.ts";
import { type TokenSource, toTokenSource } from "../train/source.ts";
import type { TrainedRun, TrainRunOptions } from "./open_run.ts";
import { trainTogether } from "./train_together.ts";

export type { RunStep } from "./log.ts";
export type { TrainedRun, TrainRunOptions } from "./open_run.ts";

/**
 * Trains an SAE in a folder, or goes on with it. When `signal` aborts, a checkpoint is written first.
 *
 * @param data What to train on, as of `trainSae()`.
 * @throws {RangeError} As `trainSae()` does, or if held-out activations are of another model, layer or width.
 * @throws {Error} If the folder holds another run or cannot be written, or the loss stops being a number or grows without
 *   end.
 */
export async function trainRun(data: Shards | TokenSource, options: TrainRunOptions): Promise<TrainedRun> {
  const [{ result, error }] = await trainTogether(toTokenSource(data), { ...options, runs: [options] });
  if (error) throw error;
  return result;
}
