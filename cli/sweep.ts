/**
 * `sweep`: several SAEs side by side off one pass over a recording, and which of them no other beats.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Command, Option } from "commander";
import { type Progress, trackProgress } from "../lib/notebook/progress.ts";
import { textTable } from "../lib/notebook/table.ts";
import { openShards } from "../lib/shards/read.ts";
import { sweepFiles, type SweepRun, trainSweep } from "../lib/runs/sweep.ts";
import { expandSweep } from "../lib/runs/sweep_config.ts";
import { type CommandContext, count, jsonOption, layerNumber, path, printResult, threadCount } from "./report.ts";

const example = `
The configuration is a JSON file, with a grid, a list, or both:
  { "recipe": "top-k", "d_sae": 1536, "epochs": 3, "grid": { "k": [8, 16, 32] } }
  { "d_sae": 1536, "batch_size": 512, "runs": [{ "recipe": "saev" }, { "recipe": "top-k" }] }
or a TypeScript or JavaScript module whose default export is that, or a list of runs as
trainSweep() takes them.

Example:
  deno run -A cli.ts sweep --config sweep.json --shards out/shards --layer 3 --out out/sweep`;

/** Makes the command. */
export function sweepCommand({ signal, steps: bars }: CommandContext): Command {
  return new Command("sweep")
    .description("Train several SAEs side by side off one pass over the data. A stopped sweep is resumed.")
    .requiredOption("--config <file>", "what to train", path)
    .requiredOption("--shards <dir>", "folder made by record", path)
    .requiredOption("--layer <n>", "recorded layer to train on; -1 is the last one recorded", layerNumber)
    .requiredOption("--out <dir>", "folder of the sweep; each run has one in it", path)
    .addOption(
      new Option("--tokens <which>", "tokens to train on").choices(["patches", "cls", "all"]).default("patches"),
    )
    .option("--held-out <dir>", "recording of other images by the same model, to measure on at the end", path)
    .option("--log-every <n>", "steps between lines of the logs", count, 25)
    .option("--checkpoint-every <n>", "steps between checkpoints", count, 500)
    .option("--threads <n>", "threads, 0 for every core", threadCount, 0)
    .addOption(jsonOption())
    .addHelpText("after", example)
    .action(async (options) => {
      const { out, json, config, shards: folder, heldOut: heldOutFolder, ...rest } = options;
      const runs = await readConfig(config);
      await using open = new AsyncDisposableStack();
      const shards = open.adopt(await openShards(folder), (opened) => opened.close());
      const heldOut = heldOutFolder === undefined
        ? undefined
        : open.adopt(await openShards(heldOutFolder), (opened) => opened.close());
      let progress: Progress | undefined;
      const finish = async () => {
        await progress?.finish();
      };
      bars.push(Object.assign(() => {}, { finish }));
      const done = new Map<string, [step: number, nSteps: number]>();
      const swept = await trainSweep(shards, {
        ...rest,
        directory: out,
        runs,
        heldOut,
        signal,
        onStep({ step, nSteps }, name) {
          // Shown is the run that has furthest to go.
          done.set(name, [step, nSteps]);
          const [furthest, total] = [...done.values()].reduce((a, b) => b[1] - b[0] > a[1] - a[0] ? b : a);
          progress ??= trackProgress("Sweep", { total, unit: "steps", initial: furthest - 1, quiet: json });
          progress.update(furthest, `${done.size} runs`);
        },
      });
      await finish();
      const rows = swept.map(({ name, dSae, l0, normalizedMse, nDead, isOnFront, error }) => ({
        ...{ run: name, "d_sae": dSae, "L0": l0, "normalized MSE": normalizedMse, "dead": nDead },
        "front": error ?? (isOnFront ? "yes" : ""),
      }));
      printResult(JSON.parse(await readFile(join(out, sweepFiles.result), "utf8")), {
        json,
        lines: [
          textTable(rows, { maxRows: rows.length }),
          "",
          `Measured on ${heldOut ? "held-out tokens" : "the last batch"}; saved to ${out}: ` +
          Object.values(sweepFiles).join(", "),
        ],
      });
    });
}

/** Runs as a file says them. */
async function readConfig(file: string): Promise<SweepRun[]> {
  if (/\.[cm]?[jt]s$/.test(file)) {
    const { default: config } = await import(pathToFileURL(resolve(file)).href);
    return Array.isArray(config) ? config : expandSweep(config);
  }
  const text = await readFile(file, "utf8").catch((cause) => {
    throw new Error(`Cannot read ${file}: the file must be readable (${cause.code ?? cause.message})`, { cause });
  });
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError(`Cannot read ${file}: it must be JSON, or a module by its ending (.ts, .js)`, { cause });
  }
  return expandSweep(config);
}
