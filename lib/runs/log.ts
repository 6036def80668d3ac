/**
 * The log of a training run on disk: one JSON object a line, the first of which says what each number is and in what
 * unit. A line that was cut short by a kill is left out when the log is read; a run that goes on from a checkpoint cuts
 * its log back to that step, so that it ends up as the log of a run that was never stopped.
 *
 * @module
 */
import { open, readFile } from "node:fs/promises";
import type { HeldOutValues } from "../figures/training_point.ts";
import { replaceFile } from "../runtime/files.ts";
import type { TrainStep } from "../train/step.ts";

/** A step, how long it took, and what was measured after it. */
export interface RunStep extends TrainStep {
  /** Speed since the last logged step; `undefined` for the first step after a start. */
  readonly tokensPerSecond?: number;
  /** Time spent on the run until now, that before a stop included, in seconds. */
  readonly seconds: number;
  /** What the SAE gave on held-out tokens after this step, if it was measured. */
  readonly heldOut?: HeldOutValues;
}

/** Names on disk, in order, and what the units line says of each. */
const fields: readonly [key: Exclude<keyof RunStep, "heldOut">, name: string, unit: string][] = [
  ["step", "step", "steps done"],
  ["nSteps", "n_steps", "steps of the run"],
  ["nTokens", "n_tokens", "tokens seen, repeated ones included"],
  ["loss", "loss", "reconstruction + sparsity + aux, of this batch before its update"],
  ["reconstruction", "reconstruction", "loss of the reconstruction, as the recipe measures it"],
  ["sparsity", "sparsity", "loss of the sparsity, with its coefficient"],
  ["aux", "aux", "auxiliary loss, with its weight"],
  ["mse", "mse", "mean over tokens and dimensions of squared errors, of activations as the recipe normalizes them"],
  ["normalizedMse", "normalized_mse", "share of the batch's variance that is not explained"],
  ["l0", "l0", "latents a token that are not zero, mean over tokens"],
  ["l1", "l1", "sum of absolute latents of a token, mean over tokens"],
  ["nDead", "n_dead", "latents that are dead, by the recipe's rule"],
  ["learningRate", "learning_rate", "of this step"],
  ["gradientNorm", "gradient_norm", "Euclidean norm of all gradients, before clipping"],
  ["tokensPerSecond", "tokens_per_second", "tokens/s since the last line; null in the first one after a start"],
  ["seconds", "seconds", "s, time spent on the run"],
];

/** The same of what is measured on held-out tokens. */
const heldOutFields: readonly [key: keyof HeldOutValues, name: string, unit: string][] = [
  ["normalizedMse", "normalized_mse", "share of the held-out tokens' variance that is not explained, after the update"],
  ["l0", "l0", "latents a token that are not zero, mean over the held-out tokens"],
  ["nDead", "n_dead", "latents that are above zero on none of the held-out tokens"],
];

const unitsLine = JSON.stringify({
  units: {
    ...Object.fromEntries(fields.map(([, name, unit]) => [name, unit])),
    explained_variance: "1 − normalized_mse",
    held_out: Object.fromEntries(heldOutFields.map(([, name, unit]) => [name, unit])),
  },
});

/** A log that grows. */
export interface RunLog {
  /** All of it, in the order of the steps. */
  readonly steps: readonly RunStep[];
  /** Adds a line. */
  add(step: RunStep): Promise<void>;
  /** Waits until all lines are on disk. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens the log of a run, cut back to `lastStep`.
 *
 * @throws {Error} If it cannot be written.
 * @throws {SyntaxError} If a line that is whole is not JSON.
 */
export async function openRunLog(path: string, { lastStep }: { lastStep: number }): Promise<RunLog> {
  const steps = (await readRunLog(path)).filter(({ step }) => step <= lastStep);
  const kept = [unitsLine, ...steps.map(toLine)].map((line) => line + "\n").join("");
  if (await readFile(path, "utf8").catch(() => undefined) !== kept) await replaceFile(path, kept);
  const file = await open(path, "a");
  return {
    steps,
    async add(step) {
      steps.push(step);
      await file.write(toLine(step) + "\n");
    },
    sync: () => file.sync(),
    close: () => file.close(),
  };
}

/**
 * Reads the log of a run; empty if there is none.
 *
 * @throws {SyntaxError} If a line that is whole is not JSON.
 */
export async function readRunLog(path: string): Promise<RunStep[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  // What follows the last line break was cut short.
  return text.split("\n").slice(0, -1).flatMap((line, i) => {
    let entry: LogEntry;
    try {
      entry = JSON.parse(line);
    } catch (cause) {
      throw new SyntaxError(`Cannot read ${path}: line ${i + 1} must be JSON`, { cause });
    }
    return "step" in entry ? [fromLine(entry)] : [];
  });
}

/** A line of numbers, and perhaps of those on held-out tokens. */
type LogEntry = Record<string, number | null> & { held_out?: Record<string, number | null> };

function toLine(step: RunStep): string {
  const { heldOut } = step;
  return JSON.stringify({
    ...Object.fromEntries(fields.map(([key, name]) => [name, step[key] ?? null])),
    explained_variance: 1 - step.normalizedMse,
    ...(heldOut && { held_out: Object.fromEntries(heldOutFields.map(([key, name]) => [name, heldOut[key]])) }),
  });
}

/** JSON has no word for NaN: such a number was written as null. */
function fromLine(entry: LogEntry): RunStep {
  const { held_out: heldOut } = entry;
  const values = fields.map(([key, name]) => [key, entry[name] ?? (key === "tokensPerSecond" ? undefined : NaN)]);
  return Object.fromEntries([
    ...values,
    ...(heldOut
      ? [["heldOut", Object.fromEntries(heldOutFields.map(([key, name]) => [key, heldOut[name] ?? NaN]))]]
      : []),
  ]);
}

/** Time since a run began, and its speed since the last mark. */
export interface RunClock {
  read(nTokens: number): Pick<RunStep, "seconds" | "tokensPerSecond">;
  mark(nTokens: number): void;
}

/** Starts the clock of a run, or goes on after its last logged step. */
export function startClock(last?: RunStep): RunClock {
  const startMs = performance.now() - 1000 * (last?.seconds ?? 0);
  let marked: { nTokens: number; ms: number } | undefined;
  return {
    read(nTokens) {
      const nowMs = performance.now();
      const seconds = (nowMs - startMs) / 1000;
      if (marked !== undefined) {
        return { seconds, tokensPerSecond: 1000 * (nTokens - marked.nTokens) / (nowMs - marked.ms) };
      }
      // What came before the first step was no training.
      marked = { nTokens, ms: nowMs };
      return { seconds };
    },
    mark(nTokens) {
      marked = { nTokens, ms: performance.now() };
    },
  };
}
