/**
 * What a sweep trains, as a file says it: a list of runs, a grid of values, or both, on top of what all share.
 *
 * ```json
 * { "recipe": "top-k", "d_sae": 1536, "epochs": 3, "grid": { "k": [8, 16, 32], "learning_rate": [3e-4, 1e-3] } }
 * ```
 *
 * @module
 */
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

/**
 * The runs of a configuration: every combination of the values of its `grid`, the last name counting fastest, then each
 * of its list `runs`. Runs without a `name` are named after what they set.
 *
 * @throws {TypeError} If a part is of the wrong kind, or there is a name that means nothing.
 * @throws {RangeError} If there is an unknown recipe, or no run.
 */
export function expandSweep(config: unknown): SweepRun[] {
  const { grid = {}, runs = [], ...shared } = record(config, "the configuration");
  const list = array(runs, "runs").map((run, i) => record(run, `run ${i + 1}`));
  const axes = Object.entries(record(grid, "grid")).map(([name, values]) => [name, array(values, name)] as const);
  const combinations = axes.length === 0 ? [] : axes.reduce<Settings[]>(
    (settings, [name, values]) => settings.flatMap((some) => values.map((value) => ({ ...some, [name]: value }))),
    [{}],
  );
  const all = [...combinations, ...list];
  if (all.length === 0) throw new RangeError("Cannot read sweep: there must be a grid or runs, there is neither");
  return all.map((own) => toRun({ ...shared, ...own }, own));
}

function toRun({ name, ...settings }: Settings, own: Settings): SweepRun {
  const values = Object.entries(settings).map(([key, value]) => {
    if (!Object.hasOwn(fields, key)) {
      const known = Object.keys(fields).join(", ");
      throw new TypeError(`Cannot read sweep: names must be among name, grid, runs, ${known}, current value is ${key}`);
    }
    const wanted = key === "recipe" ? "string" : "number";
    const found = typeof value;
    if (found !== wanted) {
      throw new TypeError(
        `Cannot read sweep: ${key} must be a ${wanted}, current value is ${JSON.stringify(value)}`,
      );
    }
    return [fields[key as keyof typeof fields], value];
  });
  const run = Object.fromEntries(values) as { recipe?: PresetName; dSae?: number };
  if (run.recipe !== undefined && !Object.hasOwn(presets, run.recipe)) {
    const names = Object.keys(presets).join(", ");
    throw new RangeError(`Cannot read sweep: recipe must be one of ${names}, current value is ${run.recipe}`);
  }
  if (run.dSae === undefined) throw new TypeError("Cannot read sweep: d_sae must be given for every run");
  const described = Object.entries(own).filter(([key]) => key !== "name").map(([key, value]) => `${key}=${value}`);
  return { ...run, dSae: run.dSae, name: typeof name === "string" ? name : described.join(",") };
}

function record(value: unknown, what: string): Settings {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Settings;
  throw new TypeError(`Cannot read sweep: ${what} must be an object, current value is ${JSON.stringify(value)}`);
}

function array(value: unknown, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw new TypeError(`Cannot read sweep: ${what} must be a list, current value is ${JSON.stringify(value)}`);
}
