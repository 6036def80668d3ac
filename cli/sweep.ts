/**
 * `sweep`: several SAEs side by side off one pass over a recording, and which of them no other beats.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Command } from "commander";
import { type Progress, trackProgress } from "../lib/notebook/progress.ts";
import { textTable } from "../lib/notebook/table.ts";
import { sweepFiles, type SweepRun, trainSweep } from "../lib/runs/sweep.ts";
import { expandSweep } from "../lib/runs/sweep_config.ts";
import { type CommandContext, path, printResult } from "./report.ts";
import { addRunOptions, openRecordings } from "./runs.ts";

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
  const command = new Command("sweep")
    .description("Train several SAEs side by side off one pass over the data. A stopped sweep is resumed.");
  return addRunOptions(command)
    .requiredOption("--config <file>", "what to train", path)
    .requiredOption("--out <dir>", "folder of the sweep; each run has one in it", path)
    .addHelpText("after", example)
    .action(async (options) => {
      const { out, json, config, shards: folder, heldOut: heldOutFolder, ...rest } = options;
      const runs = await readConfig(config);
      await using open = new AsyncDisposableStack();
      const { shards, heldOut } = await openRecordings({ shards: folder, heldOut: heldOutFolder }, open);
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
