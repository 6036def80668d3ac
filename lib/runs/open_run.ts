/**
 * A training run in a folder, as whoever trains sees it: it is told of each step and of the state after it, writes the
 * log and the checkpoints, and at the end the SAE, its metrics on held-out images and the report.
 *
 * @module
 */
import { join } from "node:path";
import { writeTrainingReport } from "../figures/training_report.ts";
import { replaceFile } from "../runtime/files.ts";
import { loadSae } from "../sae/load.ts";
import { type Metrics, metricsToJson } from "../sae/metrics/metrics.ts";
import { describeRule, type Sae } from "../sae/sae.ts";
import { saveSae } from "../sae/save.ts";
import type { Shards } from "../shards/read.ts";
import { writeTrainerState } from "./checkpoint.ts";
import { chooseRecipe, type RecipeOptions } from "../train/choose_recipe.ts";
import { watchDivergence } from "./divergence.ts";
import { checkHeldOut, measureHeldOut } from "./held_out.ts";
import { openRunLog, readRunLog, type RunStep, startClock } from "./log.ts";
import {
  describeRun,
  identifySource,
  isSameSource,
  openRunFolder,
  readJson,
  runFiles,
  type RunResult,
  type RunSettings,
} from "./run_folder.ts";
import { type TokenSource, toTokenSource } from "../train/source.ts";
import type { TrainStep } from "../train/step.ts";
import type { TrainOptions } from "../train/train.ts";
import type { TrainerState } from "../train/start.ts";

/** A finished run. */
export interface TrainedRun {
  /** What was trained. */
  readonly sae: Sae;
  /** The log. */
  readonly steps: readonly RunStep[];
  /** Time spent on it, that before stops included, in seconds. */
  readonly seconds: number;
  /** Metrics on held-out tokens, as `metrics.json` has them. */
  readonly metrics?: Readonly<Record<string, unknown>>;
  /** Step that this call began at. */
  readonly startedAt: number;
  /** Whether there was nothing left to do. */
  readonly wasFinished: boolean;
}

/** Options of `trainRun()`: those of `trainSae()`, and where and how often things are written. */
export interface TrainRunOptions
  extends RecipeOptions, Pick<TrainOptions, "layer" | "dSae" | "tokens" | "poolBytes" | "threads" | "backend"> {
  /** Folder of the run; made if it is missing. A stopped run in it goes on. */
  directory: string;
  /**
   * Steps between lines of the log. The first and the last step are always there.
   *
   * @default {25}
   */
  logEvery?: number;
  /**
   * Steps between checkpoints: a killed run loses at most so many.
   *
   * @default {500}
   */
  checkpointEvery?: number;
  /**
   * Other images, or a recording of some by the same model, to measure the SAE on at the end.
   *
   * @default none
   */
  heldOut?: Shards | TokenSource;
  /**
   * Steps between measurements on held-out tokens while training, each of which gets a line of the log; the last step is
   * among them. Up to 8,192 of the tokens are measured, the same each time; 0 to measure only at the end, on all.
   *
   * @default {0}
   */
  heldOutEvery?: number;
  /** Stops between steps. A checkpoint is written first. */
  signal?: AbortSignal;
  /** Called after each step. */
  onStep?: (step: RunStep) => void;
}

/** Options of {@linkcode openRun}. */
export interface OpenRunOptions extends TrainRunOptions {
  /**
   * Seed of the order of the tokens.
   *
   * @default the recipe's
   */
  dataSeed?: number;
}

/** A run that is open. */
export interface OpenRun {
  /** Where to go on. */
  readonly state?: TrainerState;
  /** What there is, if nothing is left to do. */
  readonly finished?: TrainedRun;
  /** Steps between checkpoints. */
  readonly checkpointEvery: number;
  /**
   * Tells how long a step took.
   *
   * @throws {Error} If the loss is not finite, or the error grows without end.
   */
  timeStep(step: TrainStep): RunStep;
  /** Takes a step down. */
  addStep(step: RunStep): void;
  /** Writes a checkpoint, unless there is one of that step or a later one. */
  addState(state: TrainerState): Promise<void>;
  /** Writes all that a finished run has. */
  finish(sae: Sae): Promise<TrainedRun>;
  close(): Promise<void>;
}

/**
 * Opens a run in its folder.
 *
 * @throws {RangeError} If an option is out of range, or held-out activations are of another model, layer or width.
 * @throws {Error} If the folder holds another run or cannot be written.
 */
export async function openRun(source: TokenSource, options: OpenRunOptions): Promise<OpenRun> {
  const { directory, logEvery = 25, checkpointEvery = 500, heldOutEvery = 0, signal } = options;
  for (const [name, value] of Object.entries({ logEvery, checkpointEvery })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new RangeError(`Cannot train SAE: ${name} must be an integer of 1 or more, current value is ${value}`);
  }
  if (!(Number.isInteger(heldOutEvery) && heldOutEvery >= 0)) {
    throw new RangeError(
      `Cannot train SAE: heldOutEvery must be an integer of 0 or more, current value is ${heldOutEvery}`,
    );
  }
  if (heldOutEvery > 0 && options.heldOut === undefined) {
    throw new RangeError(
      `Cannot train SAE: heldOutEvery must be 0 where nothing is held out, current value is ${heldOutEvery}`,
    );
  }
  const at = (file: keyof typeof runFiles) => join(directory, runFiles[file]);
  const settings = describeRun(source, { ...options, logEvery });
  const { optimizer, dead } = chooseRecipe(options);
  const heldOut = options.heldOut && toTokenSource(options.heldOut);
  const heldOutId = heldOut ? identifySource(heldOut) : null;
  if (heldOut !== undefined) checkHeldOut(heldOut, source, settings);
  const { state, result } = await openRunFolder(directory, settings);
  const isFinished = result && (heldOutId === null || isSameSource(result.held_out, heldOutId));
  const startedAt = state?.step ?? 0;
  const log = await openRunLog(at("log"), { lastStep: isFinished ? Infinity : startedAt });
  const { steps } = log;
  const checkDivergence = watchDivergence(steps, optimizer.learningRate);
  const clock = startClock(steps.at(-1));
  let savedStep = startedAt;
  let logging = Promise.resolve();
  return {
    state,
    checkpointEvery,
    finished: isFinished ? await readFinished(directory, result) : undefined,
    timeStep(trained) {
      const step = { ...trained, ...clock.read(trained.nTokens) };
      checkDivergence(step);
      return step;
    },
    addStep(step) {
      options.onStep?.(step);
      const isMarked = step.step === 1 || step.step % logEvery === 0 || step.step === step.nSteps;
      if (!isMarked && step.heldOut === undefined) return;
      clock.mark(step.nTokens);
      logging = logging.then(() => log.add(step));
      logging.catch(() => {}); // thrown where it is awaited
    },
    async addState(state) {
      if (state.step <= savedStep) return;
      // A checkpoint must not be ahead of its log, even if the power fails.
      await logging;
      await log.sync();
      await writeTrainerState(at("checkpoint"), state);
      savedStep = state.step;
    },
    async finish(sae) {
      await saveSae(sae, at("sae"));
      const { layer, tokens } = settings;
      const { threads } = options;
      const metrics = heldOut &&
        await measureHeldOut(sae, heldOut, { layer, tokens, deadWindowTokens: dead.afterTokens, threads, signal });
      const metricsJson = metrics && metricsToJson(metrics);
      if (metricsJson) await replaceFile(at("metrics"), toText(metricsJson));
      await writeReport(at("report"), { sae, steps, settings, metrics });
      const { nSteps, nTokens, seconds } = steps[steps.length - 1];
      const result: RunResult = { n_steps: nSteps, n_tokens: nTokens, seconds, held_out: heldOutId };
      await replaceFile(at("result"), toText(result));
      return { sae, steps, seconds, metrics: metricsJson, startedAt, wasFinished: false };
    },
    async close() {
      await logging.catch(() => {});
      await log.close();
    },
  };
}

async function readFinished(directory: string, result: RunResult): Promise<TrainedRun> {
  return {
    sae: await loadSae(join(directory, runFiles.sae)),
    steps: await readRunLog(join(directory, runFiles.log)),
    seconds: result.seconds,
    metrics: result.held_out ? await readJson(join(directory, runFiles.metrics)) : undefined,
    startedAt: result.n_steps,
    wasFinished: true,
  };
}

/** The page about a run. */
async function writeReport(
  path: string,
  run: { sae: Sae; steps: readonly RunStep[]; settings: RunSettings; metrics?: Metrics },
): Promise<void> {
  const { sae, steps, settings, metrics } = run;
  const { layer, source, name, tokens } = settings;
  await writeTrainingReport(path, {
    points: steps,
    dSae: sae.dSae,
    densities: metrics?.density,
    facts: {
      Recipe: name,
      Dictionary: `${sae.dSae} latents, ${describeRule(sae.rule)}`,
      Activations: `layer ${layer}, ${tokens} of ${source.n_images} images`,
      Seconds: Math.round(steps[steps.length - 1].seconds),
      ...(metrics && {
        "Held-out tokens": metrics.nTokens,
        "Held-out normalized MSE": metrics.normalizedMse.toPrecision(4),
        "Held-out L0": metrics.l0.toPrecision(4),
        "Held-out dead latents": metrics.nDead,
      }),
    },
  });
}

function toText(value: unknown): string {
  return JSON.stringify(value, undefined, 2) + "\n";
}
