/**
 * Trains several SAEs side by side off one pass over the data, each in a folder of its own, and compares them: sparse or
 * faithful. Reading and shuffling is paid for once; a run that goes astray does not take the others along.
 *
 * @module
 */
import { join } from "node:path";
import { saveFigure } from "../figures/figure.ts";
import { paretoFront, plotParetoFront } from "../figures/pareto_plot.ts";
import { makeFolder, replaceFile } from "../runtime/files.ts";
import { createSae, type Sae } from "../sae/sae.ts";
import type { Shards, TokenKind } from "../shards/read.ts";
import { checkRecipe } from "../train/check_recipe.ts";
import { chooseRecipe, describeRecipe, type RecipeOptions } from "../train/choose_recipe.ts";
import type { RunStep } from "./log.ts";
import { type OpenRun, openRun, type TrainedRun, type TrainRunOptions } from "./open_run.ts";
import { openPasses, type Passes } from "../train/passes.ts";
import type { TrainRecipe } from "../train/recipe.ts";
import { provenanceOf, type TokenSource, toTokenSource } from "../train/source.ts";
import { makeTrainer, type Trainer } from "../train/trainer.ts";

/** One configuration of a sweep. */
export interface SweepRun extends RecipeOptions {
  /** Name of its folder: letters, digits and `._=,+-`. */
  name: string;
  /** Number of latents. */
  dSae: number;
}

/** Options of {@linkcode trainSweep}. */
export interface TrainSweepOptions extends
  Pick<
    TrainRunOptions,
    "layer" | "tokens" | "poolBytes" | "logEvery" | "checkpointEvery" | "heldOut" | "threads" | "backend" | "signal"
  > {
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

interface Member {
  readonly run: SweepRun;
  readonly recipe: TrainRecipe;
  readonly folder: OpenRun;
  readonly nSteps: number;
  trainer?: Trainer;
  /** Steps done. */
  step: number;
  result?: TrainedRun;
  error?: string;
}

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
  const { directory, runs, tokens = "patches", poolBytes, threads, signal } = options;
  const source = toTokenSource(data);
  const recipes = runs.map((run) => checkRecipe(chooseRecipe(run), run.dSae));
  checkRuns(runs, recipes);
  const layer = source.resolveLayer(options.layer);
  const seed = options.seed ?? recipes[0].seed;
  const { batchSize } = recipes[0];
  const passes = openPasses(source, { layer, tokens, batchSize, poolBytes, seed, signal });
  const members: Member[] = [];
  await makeFolder(directory);
  try {
    for (const [i, run] of runs.entries()) {
      const folder = await openRun(source, {
        ...run,
        directory: join(directory, run.name),
        layer,
        tokens,
        dataSeed: seed,
        ...pick(options, ["poolBytes", "logEvery", "checkpointEvery", "heldOut", "threads", "signal"]),
      });
      const { state, finished: result } = folder;
      const nSteps = passes.countSteps(recipes[i].length);
      members.push({ run, recipe: recipes[i], folder, nSteps, step: state?.step ?? 0, result });
    }
    const unfinished = members.filter(({ result }) => result === undefined);
    const isNew = unfinished.some(({ folder }) => folder.state === undefined);
    const sample = isNew ? await passes.readSample() : undefined;
    for (const member of unfinished) {
      const { recipe, folder: { state }, nSteps, run: { dSae } } = member;
      const sizes = { dModel: source.info.d_model, dSae, nSteps, threads, backend: options.backend };
      member.trainer = await makeTrainer(recipe, { ...sizes, state, sample: state ? undefined : sample });
    }
    await trainTogether(unfinished, { batches: passes.batches, onStep: options.onStep, signal });
    for (const member of unfinished) {
      if (member.error === undefined) {
        member.result = await member.folder.finish(await toSae(member, source, { layer, tokens }));
      }
    }
  } catch (error) {
    if (signal?.aborted && error === signal.reason) await keepStates(members);
    throw error;
  } finally {
    for (const { folder, trainer } of members) {
      await folder.close();
      await trainer?.close();
    }
  }
  return await compare(directory, members);
}

/** Gives each batch to every run that has not seen it. */
async function trainTogether(
  members: readonly Member[],
  { batches, onStep, signal }: Pick<TrainSweepOptions, "onStep" | "signal"> & Pick<Passes, "batches">,
): Promise<void> {
  const isGoing = ({ step, nSteps, error }: Member) => error === undefined && step < nSteps;
  const first = Math.min(...members.filter(isGoing).map(({ step }) => step));
  if (first === Infinity) return;
  for await (const { index, x } of batches(first)) {
    for (const member of members) {
      if (!isGoing(member) || member.step > index) continue;
      const { folder, trainer, run } = member;
      const step = await trainer!.step(x);
      member.step = step.step;
      let logged: RunStep;
      try {
        logged = folder.addStep(step);
      } catch (error) {
        member.error = (error as Error).message;
        continue;
      }
      onStep?.(logged, run.name);
      if (step.step % folder.checkpointEvery === 0 || !isGoing(member)) await folder.addState(await trainer!.state());
      signal?.throwIfAborted();
    }
    if (!members.some(isGoing)) return;
  }
}

/** Writes a checkpoint of each run that has one to write. Between two steps its state is whole. */
async function keepStates(members: readonly Member[]): Promise<void> {
  for (const { trainer, folder, step, error } of members) {
    if (trainer !== undefined && step > 0 && error === undefined) await folder.addState(await trainer.state());
  }
}

/** The SAE as `trainSae()` makes it. */
async function toSae(
  { trainer, recipe, run }: Member,
  source: TokenSource,
  where: { layer: number; tokens: TokenKind },
): Promise<Sae> {
  return createSae(await trainer!.weights(), {
    ...provenanceOf(source, where),
    training: describeRecipe(recipe, run.recipe),
  });
}

/** Writes what the runs have come to, and draws it. */
async function compare(directory: string, members: readonly Member[]): Promise<SweptRun[]> {
  const ends = members.map(({ run: { name, dSae }, result, error }) => {
    const last = result?.steps.at(-1);
    const { l0 = last?.l0 ?? NaN, normalized_mse: normalizedMse = last?.normalizedMse ?? NaN } = result?.metrics ?? {};
    return {
      ...{ name, dSae, l0: Number(l0), normalizedMse: Number(normalizedMse) },
      ...{ nDead: last?.nDead ?? NaN, nTokens: last?.nTokens ?? 0, ...(error !== undefined && { error }) },
    };
  });
  const front = paretoFront(ends).map(({ name }) => name);
  const swept = ends.map((end) => ({ ...end, isOnFront: front.includes(end.name) }));
  const rows = swept.map(({ name, dSae, l0, normalizedMse, nDead, nTokens, isOnFront, error }) => ({
    ...{ name, d_sae: dSae, l0, normalized_mse: normalizedMse, n_dead: nDead, n_tokens: nTokens },
    ...{ is_on_front: isOnFront, error: error ?? null },
  }));
  const measuredOn = members.some(({ result }) => result?.metrics) ? "held-out tokens" : "last batch";
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

function pick<T, K extends keyof T>(record: T, names: readonly K[]): Pick<T, K> {
  return Object.fromEntries(names.map((name) => [name, record[name]])) as Pick<T, K>;
}
