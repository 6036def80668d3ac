/**
 * The SAEs in folders that `train` and `sweep` leave.
 *
 * @module
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { readJson, runFiles } from "../lib/runs/run_folder.ts";
import { sweepFiles } from "../lib/runs/sweep.ts";

/** A run that is finished. */
export interface TrainedSae {
  /** Name of its folder. */
  readonly name: string;
  /** Folder of its SAE. */
  readonly sae: string;
  /** Tokens without activation after which a latent was dead in its training. */
  readonly deadAfterTokens: number;
}

/** What a folder holds. */
export interface TrainedSaes {
  readonly kind: "run" | "sweep";
  /** In the order of the sweep. */
  readonly finished: readonly TrainedSae[];
  /** Names of the sweep's other runs: stopped, or given up. */
  readonly unfinished: readonly string[];
}

/**
 * Finds the SAEs of a run or a sweep.
 *
 * @returns `undefined` if the folder is neither, or there is no such folder.
 * @throws {Error} If no run in it is finished.
 */
export async function findTrainedSaes(folder: string): Promise<TrainedSaes | undefined> {
  if (await isRun(folder)) {
    const run = await readFinished(folder);
    if (run === undefined) throw notFinished(folder, "the run in it");
    return { kind: "run", finished: [run], unfinished: [] };
  }
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const names: string[] = [];
  for (const entry of entries) {
    if (entry.isDirectory() && await isRun(join(folder, entry.name))) names.push(entry.name);
  }
  if (names.length === 0) return undefined;
  const order = await readOrder(folder);
  const place = (name: string) => order.includes(name) ? order.indexOf(name) : order.length;
  names.sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  const finished: TrainedSae[] = [];
  const unfinished: string[] = [];
  for (const name of names) {
    const run = await readFinished(join(folder, name));
    if (run === undefined) unfinished.push(name);
    else finished.push({ ...run, name });
  }
  if (finished.length === 0) throw notFinished(folder, "a run of the sweep");
  return { kind: "sweep", finished, unfinished };
}

async function isRun(folder: string): Promise<boolean> {
  return (await namesIn(folder)).includes(runFiles.recipe);
}

async function readFinished(folder: string): Promise<TrainedSae | undefined> {
  if (!(await namesIn(folder)).includes(runFiles.result)) return undefined;
  const { recipe } = await readJson(join(folder, runFiles.recipe)) as { recipe: { dead: { after_tokens: number } } };
  return { name: folder, sae: join(folder, runFiles.sae), deadAfterTokens: recipe.dead.after_tokens };
}

/** Names of the runs in the order in which the sweep was given them; none before it has ended. */
async function readOrder(folder: string): Promise<string[]> {
  if (!(await namesIn(folder)).includes(sweepFiles.result)) return [];
  const { runs } = await readJson(join(folder, sweepFiles.result)) as { runs: { name: string }[] };
  return runs.map(({ name }) => name);
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch(() => []);
}

function notFinished(folder: string, what: string): Error {
  return new Error(
    `Cannot evaluate ${folder}: ${what} must be finished, there is no ${runFiles.result}; go on with the command that ` +
      `trained it`,
  );
}
