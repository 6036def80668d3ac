/**
 * `train`: an SAE from a recording or from images, after a recipe, in a folder that a stopped run goes on in.
 *
 * @module
 */
import { join } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { type Progress, trackProgress } from "../lib/notebook/progress.ts";
import type { RunStep } from "../lib/runs/log.ts";
import { presets } from "../lib/train/presets.ts";
import { trainRun } from "../lib/runs/run.ts";
import { runFiles } from "../lib/runs/run_folder.ts";
import { type CommandContext, count, path, printResult } from "./report.ts";
import { addRunOptions, openRunData } from "./runs.ts";

const example = `
Writes recipe.json, log.jsonl, checkpoint.safetensors, sae/, report.html, result.json, and with
--held-out metrics.json. Ctrl-C writes a checkpoint; the same command goes on from it.

Example:
  deno run -A cli.ts train --shards out/shards --layer 3 --d-sae 1536 --k 16 --out out/run
  deno run -A cli.ts train --vit vit.onnx --images photos.arrow --where split=train \\
    --held-out-where split=test --layer 3 --d-sae 1536 --out out/run`;

/** Makes the command. */
export function trainCommand(context: CommandContext): Command {
  const { signal, steps: bars } = context;
  const command = new Command("train")
    .description(
      "Train an SAE on a recording, or on images that a vision tower looks at meanwhile. A stopped run is resumed, with " +
        "the same result to the last bit.",
    );
  return addRunOptions(command)
    .requiredOption("--d-sae <n>", "number of latents", count)
    .requiredOption("--out <dir>", "folder of the run", path)
    .addOption(new Option("--recipe <name>", "how to train").choices(Object.keys(presets)).default("top-k"))
    .option("--k <n>", "active latents a token, of recipes that have such a number", count)
    .option("--epochs <n>", "passes over the images", count)
    .option("--batch-size <n>", "tokens a step", count)
    .option("--learning-rate <x>", "highest learning rate", positive)
    .option("--dead-after <n>", "a latent is dead once it has not fired for this many tokens", count)
    .option("--k-aux <n>", "dead latents that explain what is left over of a token, 0 for none", natural)
    .option("--seed <n>", "seed of every random choice", natural)
    .addHelpText("after", example)
    .action(async (options) => {
      const { out, json, dSae, recipe, k, epochs, batchSize, learningRate, deadAfter, kAux, seed } = options;
      await using open = new AsyncDisposableStack();
      const data = await openRunData(options, { context, open });
      const bar = trainingBar({ json, bars });
      const run = await trainRun(data.source, {
        ...data.options,
        ...{ dSae, recipe, k, epochs, batchSize, learningRate, deadAfterTokens: deadAfter, kAux, seed },
        directory: out,
        onStep(step) {
          data.beginTraining();
          bar.onStep(step);
        },
        signal,
      });
      await bar.finish();
      const last = run.steps[run.steps.length - 1];
      const { metrics } = run;
      printResult({
        out,
        was_finished: run.wasFinished,
        started_at: run.startedAt,
        n_steps: last.nSteps,
        n_tokens: last.nTokens,
        seconds: run.seconds,
        loss: last.loss,
        normalized_mse: last.normalizedMse,
        l0: last.l0,
        n_dead: last.nDead,
        metrics: metrics ?? null,
      }, {
        json,
        lines: [
          run.wasFinished
            ? `The run in ${out} was finished already: ${last.nSteps} steps, ${last.nTokens} tokens`
            : `Trained ${last.nSteps} steps, ${last.nTokens} tokens${
              run.startedAt > 0 ? `, going on from step ${run.startedAt}` : ""
            }, in ${run.seconds.toFixed(0)} s`,
          `At the end: ${describeStep(last)}`,
          ...(metrics
            ? [
              `On held-out tokens: normalized MSE ${short(metrics.normalized_mse)}, L0 ${short(metrics.l0)}, ` +
              `${metrics.n_dead} of ${run.sae.dSae} latents never active`,
            ]
            : []),
          `Saved the SAE to ${join(out, runFiles.sae)}, the report to ${join(out, runFiles.report)}`,
        ],
      });
    });
}

/** A bar of steps that also tells the speed in tokens and how well it goes. */
export function trainingBar(
  { json, bars }: { json?: boolean; bars: CommandContext["steps"] },
): { onStep(step: RunStep): void; finish(): Promise<void> } {
  let progress: Progress | undefined;
  const finish = async () => {
    await progress?.finish();
  };
  bars.push(Object.assign(() => {}, { finish }));
  return {
    finish,
    onStep(step) {
      const { nSteps: total, tokensPerSecond } = step;
      progress ??= trackProgress("Train", { total, unit: "steps", initial: step.step - 1, quiet: json });
      const speed = tokensPerSecond === undefined ? "" : `${Math.round(tokensPerSecond)} tokens/s, `;
      progress.update(step.step, speed + describeStep(step));
    },
  };
}

function describeStep({ loss, normalizedMse, l0, nDead }: RunStep): string {
  return `loss ${short(loss)}, normalized MSE ${short(normalizedMse)}, L0 ${short(l0)}, ${nDead} dead`;
}

function short(value: unknown): string {
  return typeof value === "number" ? String(Number(value.toPrecision(3))) : String(value);
}

function positive(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value > 0 && Number.isFinite(value))) {
    throw new InvalidArgumentError("It must be a number above 0, such as 3e-4.");
  }
  return value;
}

function natural(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value >= 2 ** 32) {
    throw new InvalidArgumentError("It must be an integer from 0 to 2^32 − 1.");
  }
  return value;
}
