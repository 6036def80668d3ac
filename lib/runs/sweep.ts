/**
 * Trains several SAEs side by side off one pass over the data, each in a folder of its own, and compares them: sparse or
 * faithful. Reading and shuffling is paid for once; a run that goes astray does not take the others along.
 *
 * @module
 */
import { join } from "node:path";
import { saveFigure } from "../figures/figure.ts";
import { paretoFront, plotParetoFront } from "../figures/pareto_plot.ts";
import { replaceFile } from "../runtime/files.ts";
import type { Shards } from "../shards/read.ts";
import { checkRecipe } from "../train/check_recipe.ts";
import { chooseRecipe, type RecipeOptions } from "../train/choose_recipe.ts";
import type { RunStep } from "./log.ts";
import type { TrainRecipe } from "../train/recipe.ts";
import { type TokenSource, toTokenSource } from "../train/source.ts";
import { type RunEnd, type SharedRunOptions, trainTogether } from "./train_together.ts";

/** One configuration of a sweep. */
export interface SweepRun extends RecipeOptions {
  /** Name of its folder: letters, digits and `._=,+-`. */
  name: string;
  /** Number of latents. */
  dSae: number;
}

/** Options of {@linkcode trainSweep}. */
export interface TrainSweepOptions extends SharedRunOptions {
  /** Folder of the sweep; made if it is missing. A stopped sweep in it goes on. */
  directory: string;
  /** What to train, all with the same batch size. */
  runs: readonly SweepRun[];
  /**
   * Seed of the order of the tokens, which all runs share.
   *
   * @default the first run's
   */
  seed?: number;
  /** Called after each step of each run. */
  onStep?: (step: RunStep, name: string) => void;
}

/** Where a run of a sweep ended up. */
export interface SweptRun {
  /** Name of its folder. */
  readonly name: string;
  /** Number of latents. */
  readonly dSae: number;
  /** On held-out tokens if there are any, else on the last batch; NaN if it failed. */
  readonly l0: number;
  /** The same. */
  readonly normalizedMse: number;
  /** Latents that are dead at the end of training. */
  readonly nDead: number;
  /** Tokens seen. */
  readonly nTokens: number;
  /** Whether no other run is as good at both and better at one. */
  readonly isOnFront: boolean;
  /** Why it was given up. */
  readonly error?: string;
}

/** Files of a sweep beside the folders of its runs. */
export const sweepFiles = { result: "sweep.json", svg: "pareto.svg", png: "pareto.png" } as const;

/**
 * Trains a sweep, or goes on with it. A run whose seed is that of the sweep ends with the bytes that it has alone.
 *
 * @param data What to train on, as of `trainSae()`.
 * @returns The runs, in the order given.
 * @throws {RangeError} If names are not fit for folders or not different, batch sizes differ, or a recipe cannot be
 *   followed.
 * @throws {Error} If a folder holds another run or cannot be written.
 */
export async function trainSweep(data: Shards | TokenSource, options: TrainSweepOptions): Promise<SweptRun[]> {
  const { directory, runs, onStep, ...shared } = options;
  checkRuns(runs, runs.map((run) => checkRecipe(chooseRecipe(run), run.dSae)));
  const ends = await trainTogether(toTokenSource(data), {
    ...shared,
    runs: runs.map(({ name, ...run }) => ({
      ...run,
      directory: join(directory, name),
      onStep: (step) => onStep?.(step, name),
    })),
  });
  return await compare(directory, { runs, ends });
}

/** Writes what the runs have come to, and draws it. */
async function compare(
  directory: string,
  { runs, ends }: { runs: readonly SweepRun[]; ends: readonly RunEnd[] },
): Promise<SweptRun[]> {
  const found = ends.map(({ result, error }, i) => {
    const { name, dSae } = runs[i];
    const last = result?.steps.at(-1);
    const { l0 = last?.l0 ?? NaN, normalized_mse: normalizedMse = last?.normalizedMse ?? NaN } = result?.metrics ?? {};
    return {
      ...{ name, dSae, l0: Number(l0), normalizedMse: Number(normalizedMse) },
      ...{ nDead: last?.nDead ?? NaN, nTokens: last?.nTokens ?? 0, ...(error && { error: error.message }) },
    };
  });
  const front = paretoFront(found).map(({ name }) => name);
  const swept = found.map((end) => ({ ...end, isOnFront: front.includes(end.name) }));
  const rows = swept.map(({ name, dSae, l0, normalizedMse, nDead, nTokens, isOnFront, error }) => ({
    ...{ name, d_sae: dSae, l0, normalized_mse: normalizedMse, n_dead: nDead, n_tokens: nTokens },
    ...{ is_on_front: isOnFront, error: error ?? null },
  }));
  const measuredOn = ends.some(({ result }) => result?.metrics) ? "held-out tokens" : "last batch";
  const text = JSON.stringify({ measured_on: measuredOn, front, runs: rows }, undefined, 2);
  await replaceFile(join(directory, sweepFiles.result), text + "\n");
  const figure = plotParetoFront(swept);
  await saveFigure(figure, join(directory, sweepFiles.svg));
  await saveFigure(figure, join(directory, sweepFiles.png));
  return swept;
}

function checkRuns(runs: readonly SweepRun[], recipes: readonly TrainRecipe[]): void {
  if (runs.length === 0) throw new RangeError("Cannot train sweep: there must be at least one run, there is none");
  for (const [i, { name }] of runs.entries()) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._=,+-]*$/.test(name)) {
      throw new RangeError(
        `Cannot train sweep: the name of a run must be of letters, digits and ._=,+- only, current value is "${name}"`,
      );
    }
    if (runs.findIndex((other) => other.name === name) !== i) {
      throw new RangeError(`Cannot train sweep: names of runs must be different, ${name} is there twice`);
    }
  }
  if (recipes.some(({ batchSize }) => batchSize !== recipes[0].batchSize)) {
    const sizes = runs.map(({ name }, i) => `${recipes[i].batchSize} (${name})`).join(", ");
    throw new RangeError(
      `Cannot train sweep: batchSize must be the same for all runs, as they share each batch, current values are ${sizes}`,
    );
  }
}
