/**
 * The folder of a training run: what its files are called, what `recipe.json` says, and whether a run that is asked for
 * is the one in it.
 *
 * @module
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder, replaceFile } from "../runtime/files.ts";
import type { TokenKind } from "../shards/read.ts";
import { readTrainerState } from "./checkpoint.ts";
import { checkRecipe } from "../train/check_recipe.ts";
import { chooseRecipe, inSnakeCase, type RecipeOptions } from "../train/choose_recipe.ts";
import { defaultPoolBytes } from "../train/shuffle.ts";
import type { TokenSource } from "../train/source.ts";
import type { TrainOptions } from "../train/train.ts";
import type { TrainerState } from "../train/start.ts";

/** Names of the files in the folder of a run. */
export const runFiles = {
  /** What is trained, on what. */
  recipe: "recipe.json",
  log: "log.jsonl",
  checkpoint: "checkpoint.safetensors",
  /** Folder of the finished SAE. */
  sae: "sae",
  /** Every metric on held-out tokens. */
  metrics: "metrics.json",
  report: "report.html",
  /** Written last: a run that has it is finished. */
  result: "result.json",
} as const;

const RUN_VERSION = 2;

/** What a run has to agree with to be gone on with, as `recipe.json` has it. */
export interface RunSettings extends Readonly<Record<string, unknown>> {
  /** Of the preset, or "custom". */
  readonly name: string;
  /** All of the recipe, with the numbers that were given in place of its own. */
  readonly recipe: Readonly<Record<string, unknown>>;
  readonly layer: number;
  readonly tokens: TokenKind;
  readonly source: SourceId;
}

/** Which tokens. */
export interface SourceId {
  readonly kind: TokenSource["kind"];
  readonly location: string;
  /** Of all that it says of itself, but for paths. */
  readonly sha256: string;
  /** Which of its images: "all", or a digest of their indices. */
  readonly selection: string;
  readonly model: string;
  readonly n_images: number;
  readonly d_model: number;
}

/** What `result.json` says. */
export interface RunResult {
  readonly n_steps: number;
  readonly n_tokens: number;
  readonly seconds: number;
  /** What `metrics.json` was measured on, if there is one. */
  readonly held_out: SourceId | null;
}

/** What a folder holds of a run. */
export interface FoundRun {
  /** Where to go on. */
  readonly state?: TrainerState;
  /** Of a run that is finished. */
  readonly result?: RunResult;
}

/** What {@linkcode describeRun} needs. */
export interface DescribeRunOptions
  extends RecipeOptions, Pick<TrainOptions, "layer" | "dSae" | "tokens" | "poolBytes"> {
  logEvery: number;
  /**
   * Seed of the order of the tokens.
   *
   * @default the recipe's
   */
  dataSeed?: number;
}

/**
 * What a run with these options trains, known before it begins.
 *
 * @throws {RangeError} If the recipe is unknown, out of range or has no `k`, or there is no such layer.
 */
export function describeRun(source: TokenSource, options: DescribeRunOptions): RunSettings {
  const { recipe: chosen = "top-k", tokens = "patches", dSae, poolBytes = defaultPoolBytes, logEvery } = options;
  const recipe = checkRecipe(chooseRecipe(options), dSae);
  return {
    format_version: RUN_VERSION,
    name: typeof chosen === "string" ? chosen : "custom",
    recipe: inSnakeCase(recipe) as Record<string, unknown>,
    layer: source.resolveLayer(options.layer),
    hook: source.hook,
    tokens,
    d_sae: dSae,
    data_seed: options.dataSeed ?? recipe.seed,
    pool_bytes: poolBytes,
    log_every: logEvery,
    source: identifySource(source),
  };
}

/** Tells sources of tokens apart, wherever they lie. */
export function identifySource({ kind, location, fingerprint, selection, nImages, info }: TokenSource): SourceId {
  const { model, d_model } = info;
  return { kind, location, sha256: fingerprint, selection, model: model.sha256, n_images: nImages, d_model };
}

/** Whether two are of the same tokens. */
export function isSameSource(a: SourceId | null, b: SourceId | null): boolean {
  return a?.kind === b?.kind && a?.sha256 === b?.sha256 && a?.selection === b?.selection;
}

/**
 * Opens the folder of a run, or makes it. Where nothing but settings is in it, new settings take their place.
 *
 * @throws {Error} If it holds another run, or what is no run, or cannot be written.
 * @throws {SyntaxError} If a file in it is damaged.
 */
export async function openRunFolder(directory: string, settings: RunSettings): Promise<FoundRun> {
  await makeFolder(directory);
  const names = await readdir(directory);
  const has = (file: keyof typeof runFiles) => names.includes(runFiles[file]);
  const isBegun = has("checkpoint") || has("result") || has("sae");
  if (isBegun && !has("recipe")) {
    throw new Error(
      `Cannot train into ${directory}: it must be empty or hold a run, it holds no ${runFiles.recipe}; choose another ` +
        `folder`,
    );
  }
  if (!isBegun) {
    await replaceFile(join(directory, runFiles.recipe), JSON.stringify(settings, undefined, 2) + "\n");
    return {};
  }
  checkSame(directory, await readJson(join(directory, runFiles.recipe)), settings);
  return {
    state: has("checkpoint") ? await readTrainerState(join(directory, runFiles.checkpoint)) : undefined,
    result: has("result")
      ? await readJson(join(directory, runFiles.result)) as Record<string, unknown> & RunResult
      : undefined,
  };
}

/** Reads a file of JSON. */
export async function readJson(path: string): Promise<Record<string, unknown>> {
  const text = await readFile(path, "utf8");
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError(`Cannot read ${path}: it must be JSON`, { cause });
  }
}

function checkSame(directory: string, stored: Record<string, unknown>, settings: RunSettings): void {
  const [before, now] = [flatten(stored), flatten(settings)];
  const differing = [...new Set([...before.keys(), ...now.keys()])].filter((name) => before.get(name) !== now.get(name))
    .map((name) => `${name} (${before.get(name) ?? "none"} there, ${now.get(name) ?? "none"} now)`);
  if (differing.length === 0) return;
  throw new Error(
    `Cannot train into ${directory}: it must be empty or hold the same run, the one in it differs in ` +
      `${differing.join(", ")}; choose another folder or delete it`,
  );
}

/** The values of nested records as JSON, by dotted path. Where tokens lie does not count: they may have moved. */
function flatten(record: object, prefix = ""): Map<string, string> {
  return new Map(
    Object.entries(record).flatMap(([name, value]): [string, string][] => {
      if (prefix === "source." && name === "location") return [];
      if (typeof value === "object" && value !== null) return [...flatten(value, `${prefix}${name}.`)];
      const text = JSON.stringify(value);
      return text === undefined ? [] : [[prefix + name, text]];
    }),
  );
}
