/**
 * What a sweep trains, as a file says it, in JSON or TOML (https://toml.io): a list of runs, a grid of values, or both,
 * on top of what all share.
 *
 * ```json
 * { "recipe": "top-k", "d_sae": 1536, "epochs": 3, "grid": { "k": [8, 16, 32], "learning_rate": [3e-4, 1e-3] } }
 * ```
 *
 * @module
 */
import { parse as parseToml, TomlError } from "smol-toml";
import { type PresetName, presets } from "../train/presets.ts";
import type { SweepRun } from "./sweep.ts";

/** Names in a file of what a run can set. */
const fields = {
  recipe: "recipe",
  d_sae: "dSae",
  k: "k",
  epochs: "epochs",
  batch_size: "batchSize",
  learning_rate: "learningRate",
  dead_after_tokens: "deadAfterTokens",
  k_aux: "kAux",
  aux_weight: "auxWeight",
  seed: "seed",
} as const;

type Settings = Record<string, unknown>;

/** Options of {@linkcode expandSweep} and {@linkcode parseSweep}. */
export interface SweepConfigOptions {
  /**
   * Name of the file, for messages.
   *
   * @default {"sweep"}
   */
  file?: string;
}

/**
 * The runs that a file says: TOML if `file` ends with `.toml`, else JSON.
 *
 * @throws {SyntaxError} If it is not; with the line and the column.
 * @throws {TypeError | RangeError} As {@linkcode expandSweep} does.
 */
export function parseSweep(text: string, options: SweepConfigOptions = {}): SweepRun[] {
  const { file = "sweep" } = options;
  return expandSweep(file.endsWith(".toml") ? readToml(text, file) : readJson(text, file), options);
}

/**
 * The runs of a configuration: every combination of the values of its `grid`, the last name counting fastest, then each
 * of its list `runs`. Runs without a `name` are named after what they set.
 *
 * @throws {TypeError} If a part is of the wrong kind, or there is a name that means nothing.
 * @throws {RangeError} If there is an unknown recipe, a name of the grid without values, or no run.
 */
export function expandSweep(config: unknown, options: SweepConfigOptions = {}): SweepRun[] {
  const { file = "sweep" } = options;
  const { grid = {}, runs = [], ...shared } = record(config, { file, what: "the configuration" });
  const list = array(runs, { file, what: "runs" }).map((run, i) => record(run, { file, what: `run ${i + 1}` }));
  const axes = Object.entries(record(grid, { file, what: "grid" })).map(([name, values]) => {
    checkName(name, file);
    const list = array(values, { file, what: name });
    if (list.length > 0) return [name, list] as const;
    throw new RangeError(`Cannot read ${file}: ${name} of the grid must have a value or more, it has none`);
  });
  const combinations = axes.length === 0 ? [] : axes.reduce<Settings[]>(
    (settings, [name, values]) => settings.flatMap((some) => values.map((value) => ({ ...some, [name]: value }))),
    [{}],
  );
  const all = [...combinations, ...list];
  if (all.length === 0) throw new RangeError(`Cannot read ${file}: there must be a grid or runs, there is neither`);
  return all.map((own) => toRun({ ...shared, ...own }, { own, file }));
}

function toRun(settings: Settings, { own, file }: { own: Settings; file: string }): SweepRun {
  for (const [key, value] of Object.entries(settings)) {
    checkName(key, file);
    const wanted = key === "recipe" || key === "name" ? "string" : "number";
    const found = typeof value;
    if (found === wanted) continue;
    const hint = Array.isArray(value) ? "; lists of values go into the grid" : "";
    throw new TypeError(
      `Cannot read ${file}: ${key} must be a ${wanted}, current value is ${JSON.stringify(value)}${hint}`,
    );
  }
  const { name, ...rest } = settings as { name?: string } & Settings;
  const values = Object.entries(rest).map(([key, value]) => [fields[key as keyof typeof fields], value]);
  const run = Object.fromEntries(values) as { recipe?: PresetName; dSae?: number };
  if (run.recipe !== undefined && !Object.hasOwn(presets, run.recipe)) {
    const names = Object.keys(presets).join(", ");
    throw new RangeError(`Cannot read ${file}: recipe must be one of ${names}, current value is ${run.recipe}`);
  }
  if (run.dSae === undefined) throw new TypeError(`Cannot read ${file}: d_sae must be given for every run`);
  const described = Object.entries(own).map(([key, value]) => `${key}=${value}`);
  return { ...run, dSae: run.dSae, name: name ?? described.join(",") };
}

function checkName(key: string, file: string): void {
  if (key === "name" || Object.hasOwn(fields, key)) return;
  const known = Object.keys(fields).join(", ");
  throw new TypeError(
    `Cannot read ${file}: names must be among name, grid, runs, ${known}, current value is ${key}`,
  );
}

function readToml(text: string, file: string): unknown {
  try {
    return parseToml(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    // What follows the first line shows the place.
    const reason = cause.message.split("\n")[0].replace(/^Invalid TOML document: /, "");
    throw new SyntaxError(
      `Cannot read ${file}: it must be TOML, line ${cause.line}, column ${cause.column}: ${reason}`,
      { cause },
    );
  }
}

function readJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const { message } = cause as Error;
    // Engines give the place as an offset, and none for a text that ends too early.
    const before = text.slice(0, Number(/at position (\d+)/.exec(message)?.[1] ?? text.length)).split("\n");
    const reason = message.replace(/ in JSON at position.*/s, "");
    throw new SyntaxError(
      `Cannot read ${file}: it must be JSON, or by its ending TOML (.toml) or a module (.ts, .js), ` +
        `line ${before.length}, column ${before.at(-1)!.length + 1}: ${reason[0].toLowerCase()}${reason.slice(1)}`,
      { cause },
    );
  }
}

function record(value: unknown, { file, what }: { file: string; what: string }): Settings {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Settings;
  throw new TypeError(`Cannot read ${file}: ${what} must be an object, current value is ${JSON.stringify(value)}`);
}

function array(value: unknown, { file, what }: { file: string; what: string }): unknown[] {
  if (Array.isArray(value)) return value;
  throw new TypeError(`Cannot read ${file}: ${what} must be a list, current value is ${JSON.stringify(value)}`);
}
