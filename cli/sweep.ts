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
import { expandSweep, parseSweep } from "../lib/runs/sweep_config.ts";
import { type CommandContext, path, printResult } from "./report.ts";
import { addRunOptions, openRunData } from "./runs.ts";

const example = `
The configuration is a JSON file, with a grid, a list, or both:
  { "recipe": "top-k", "d_sae": 1536, "epochs": 3, "grid": { "k": [8, 16, 32] } }
  { "d_sae": 1536, "batch_size": 512, "runs": [{ "recipe": "saev" }, { "recipe": "top-k" }] }
or a TOML file (.toml) with the same names, where lists go below [grid] and each run below
[[runs]]:
  d_sae = 1536
  [grid]
  k = [8, 16, 32]
or a TypeScript or JavaScript module whose default export is that, or a list of runs as
trainSweep() takes them. Names: recipe, d_sae, k, epochs, batch_size, learning_rate,
dead_after_tokens, k_aux, aux_weight, seed.

Example:
  deno run -A cli.ts sweep --config sweep.toml --shards out/shards --layer 3 --out out/sweep`;

/** Makes the command. */
export function sweepCommand(context: CommandContext): Command {
  const { signal, steps: bars } = context;
  const command = new Command("sweep")
    .description("Train several SAEs side by side off one pass over the data. A stopped sweep is resumed.");
  return addRunOptions(command)
    .requiredOption("--config <file>", "what to train: .json, .toml, .ts or .js", path)
    .requiredOption("--out <dir>", "folder of the sweep; each run has one in it", path)
    .addHelpText("after", example)
    .action(async (options) => {
      const { out, json, config } = options;
      const runs = await readConfig(config);
      await using open = new AsyncDisposableStack();
      const data = await openRunData(options, { context, open });
      let progress: Progress | undefined;
      const finish = async () => {
        await progress?.finish();
      };
      bars.push(Object.assign(() => {}, { finish }));
      const done = new Map<string, [step: number, nSteps: number]>();
      const swept = await trainSweep(data.source, {
        ...data.options,
        directory: out,
        runs,
        signal,
        onStep({ step, nSteps }, name) {
          data.beginTraining();
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
          `Measured on ${data.options.heldOut ? "held-out tokens" : "the last batch"}; saved to ${out}: ` +
          Object.values(sweepFiles).join(", "),
        ],
      });
    });
}

/** Runs as a file says them. */
async function readConfig(file: string): Promise<SweepRun[]> {
  if (/\.[cm]?[jt]s$/.test(file)) {
    const { default: config } = await import(pathToFileURL(resolve(file)).href);
    return Array.isArray(config) ? config : expandSweep(config, { file });
  }
  const text = await readFile(file, "utf8").catch((cause) => {
    throw new Error(`Cannot read ${file}: the file must be readable (${cause.code ?? cause.message})`, { cause });
  });
  return parseSweep(text, { file });
}
