/**
 * The loop of training runs: each batch goes to every run that has not seen it, so reading and shuffling is paid for
 * once. A run alone is the case of one; a run that goes astray does not take the others along.
 *
 * @module
 */
import { createSae, type Sae } from "../sae/sae.ts";
import type { TokenKind } from "../shards/read.ts";
import { checkRecipe } from "../train/check_recipe.ts";
import { chooseRecipe, describeRecipe, type RecipeOptions } from "../train/choose_recipe.ts";
import { openPasses, type Passes } from "../train/passes.ts";
import type { TrainRecipe } from "../train/recipe.ts";
import { provenanceOf, type TokenSource, toTokenSource } from "../train/source.ts";
import { makeTrainer, type Trainer } from "../train/trainer.ts";
import { measureSample, readHeldOutSample } from "./held_out.ts";
import type { RunStep } from "./log.ts";
import { type OpenRun, openRun, type TrainedRun, type TrainRunOptions } from "./open_run.ts";

/** A run that is wanted. */
export interface WantedRun extends RecipeOptions {
  /** Its folder. */
  directory: string;
  /** Number of latents. */
  dSae: number;
  /** Called after each of its steps. */
  onStep?: (step: RunStep) => void;
}

/** Options that runs which are trained together share; those of one run. */
export interface SharedRunOptions extends
  Pick<
    TrainRunOptions,
    | "layer"
    | "tokens"
    | "poolBytes"
    | "logEvery"
    | "checkpointEvery"
    | "heldOut"
    | "heldOutEvery"
    | "threads"
    | "backend"
    | "signal"
  > {}

/** What {@linkcode trainTogether} needs. */
export interface TrainTogetherOptions extends SharedRunOptions {
  /** All with the same batch size. */
  runs: readonly WantedRun[];
  /**
   * Seed of the order of the tokens, which all runs share.
   *
   * @default the first run's
   */
  seed?: number;
}

/** How a run ended: with its result, or with what it was given up for. */
export type RunEnd = { readonly result: TrainedRun; readonly error?: undefined } | {
  readonly result?: undefined;
  readonly error: Error;
};

interface Member {
  readonly run: WantedRun;
  readonly recipe: TrainRecipe;
  readonly folder: OpenRun;
  readonly nSteps: number;
  trainer?: Trainer;
  /** Steps done. */
  step: number;
  result?: TrainedRun;
  error?: Error;
}

/**
 * Trains runs side by side, or goes on with them, each from its own checkpoint.
 *
 * @returns How each ended, in the order given.
 * @throws {RangeError} If a recipe cannot be followed or an option is out of range.
 * @throws {Error} If a folder holds another run or cannot be written.
 */
export async function trainTogether(source: TokenSource, options: TrainTogetherOptions): Promise<RunEnd[]> {
  const { runs, tokens = "patches", poolBytes, threads, backend, signal } = options;
  const recipes = runs.map((run) => checkRecipe(chooseRecipe(run), run.dSae));
  const layer = source.resolveLayer(options.layer);
  const [{ batchSize, seed: firstSeed }] = recipes;
  const seed = options.seed ?? firstSeed;
  const passes = openPasses(source, { layer, tokens, batchSize, poolBytes, seed, signal });
  const members: Member[] = [];
  try {
    for (const [i, run] of runs.entries()) {
      const { runs: _, seed: _seed, ...shared } = options;
      const folder = await openRun(source, { ...shared, ...run, layer, tokens, dataSeed: seed });
      const nSteps = passes.countSteps(recipes[i].length);
      const { state, finished: result } = folder;
      members.push({ run, recipe: recipes[i], folder, nSteps, step: state?.step ?? 0, result });
    }
    const unfinished = members.filter(({ result }) => result === undefined);
    const isNew = unfinished.some(({ folder }) => folder.state === undefined);
    const sample = isNew ? await passes.readSample() : undefined;
    for (const member of unfinished) {
      const { recipe, folder: { state }, nSteps, run: { dSae } } = member;
      const sizes = { dModel: source.info.d_model, dSae, nSteps, threads, backend };
      member.trainer = await makeTrainer(recipe, { ...sizes, state, sample: state ? undefined : sample });
    }
    await takeSteps(unfinished, { ...options, layer, tokens, batches: passes.batches });
    for (const member of unfinished) {
      if (member.error) continue;
      member.result = await member.folder.finish(await toSae(member, source, { layer, tokens }));
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
  return members.map(({ result, error }) => error ? { error } : { result: result! });
}

/** Gives each batch to every run that has not seen it. */
async function takeSteps(
  members: readonly Member[],
  options: TrainTogetherOptions & Required<Pick<TrainTogetherOptions, "tokens">> & Pick<Passes, "batches">,
): Promise<void> {
  const { layer, tokens, heldOut, heldOutEvery = 0, threads, batches, signal } = options;
  const isGoing = ({ step, nSteps, error }: Member) => error === undefined && step < nSteps;
  const first = Math.min(...members.filter(isGoing).map(({ step }) => step));
  if (first === Infinity) return;
  const sample = heldOut && heldOutEvery > 0
    ? await readHeldOutSample(toTokenSource(heldOut), { layer, tokens, signal })
    : undefined;
  for await (const { index, x } of batches(first)) {
    for (const member of members) {
      if (!isGoing(member) || member.step > index) continue;
      const { folder, nSteps } = member;
      const trainer = member.trainer!;
      const trained = await trainer.step(x);
      const { step } = trained;
      member.step = step;
      let timed: RunStep;
      try {
        timed = folder.timeStep(trained);
      } catch (error) {
        member.error = error as Error;
        continue;
      }
      const isMeasured = sample && (step % heldOutEvery === 0 || step === nSteps);
      // No signal may come between a step and its line of the log.
      const measured = isMeasured && await measureSample(await trainer.weights(), sample, { threads });
      folder.addStep({ ...timed, ...(measured && { heldOut: measured }) });
      if (step % folder.checkpointEvery === 0 || step === nSteps) await folder.addState(await trainer.state());
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
