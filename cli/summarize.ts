/**
 * `summarize`: what an SAE's latents respond to, over a recording.
 *
 * @module
 */
import { join } from "node:path";
import { Command, Option } from "commander";
import { openBackend } from "../lib/compute/select.ts";
import { makeFolder } from "../lib/runtime/files.ts";
import { openShards } from "../lib/shards/read.ts";
import { saveSummary } from "../lib/summary/file.ts";
import { summarize } from "../lib/summary/summarize.ts";
import { deadLatents, viewSummary } from "../lib/summary/summary.ts";
import { addSaeOptions, loadSaeForShards } from "./conventions.ts";
import {
  type CommandContext,
  computeOptions,
  count,
  jsonOption,
  layerNumber,
  path,
  printResult,
  stepProgress,
} from "./report.ts";

const example = `
Example:
  deno run -A cli.ts summarize --shards out/shards --layer 3 --sae my_sae/ --out out/summary`;

/** Name of the summary within its folder. */
export const summaryFileName = "summary.arrow";

/** Makes the command. */
export function summarizeCommand({ signal, steps }: CommandContext): Command {
  const command = new Command("summarize")
    .description("Find the top images and statistics of every latent in one pass over a recording.")
    .requiredOption("--shards <dir>", "folder made by record", path)
    .requiredOption("--layer <n>", "recorded layer that the SAE belongs to; -1 is the last one recorded", layerNumber)
    .requiredOption("--out <dir>", "folder for summary.arrow", path)
    .addOption(
      new Option("--tokens <which>", "tokens to count").choices(["patches", "cls", "all"]).default("patches"),
    )
    .option("--images-per-latent <n>", "top images to keep for each latent", count, 16);
  addSaeOptions(command);
  computeOptions().forEach((option) => command.addOption(option));
  return command.addOption(jsonOption()).addHelpText("after", example).action(async (options) => {
    const { json } = options;
    await using open = new AsyncDisposableStack();
    const { layer, tokens } = options;
    const sae = await loadSaeForShards(options, { layer, tokens, signal, steps });
    const shards = open.adopt(await openShards(options.shards), (shards) => shards.close());
    const out = join(options.out, summaryFileName);
    await makeFolder(options.out);
    const { backend: choice, threads } = options;
    const backend = open.adopt(await openBackend({ backend: choice, threads }), (backend) => backend.close());
    const progress = stepProgress("Summarize", { steps, json, unit: "images" });
    const stored = await summarize(shards, sae, {
      backend,
      layer,
      tokens,
      imagesPerLatent: options.imagesPerLatent,
      saePath: options.sae,
      onProgress: progress,
      signal,
    });
    await progress.finish();
    await saveSummary(stored, out);
    const summary = viewSummary(stored.accumulated, stored.source);
    const { nImages, nTokens, meanL0, dSae } = summary;
    const nDead = deadLatents(summary, { minTokens: 0 }).length;
    printResult({ out, n_images: nImages, n_tokens: nTokens, d_sae: dSae, n_dead: nDead, mean_l0: meanL0 }, {
      json,
      lines: [
        `Summarized ${nImages} images, ${nTokens} tokens, on ${backend.device}`,
        `${dSae - nDead} of ${dSae} latents were active, ${meanL0.toFixed(1)} a token; saved to ${out}`,
      ],
    });
  });
}
