/**
 * `summarize`: what an SAE's latents respond to, over a recording.
 *
 * @module
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Command, Option } from "commander";
import { writeError } from "../lib/arrow/file_writer.ts";
import { openBackend } from "../lib/compute/select.ts";
import { loadSae } from "../lib/sae/files.ts";
import { openShards } from "../lib/shards/read.ts";
import { saveSummary } from "../lib/summary/file.ts";
import { summarize } from "../lib/summary/summarize.ts";
import { deadLatents, viewSummary } from "../lib/summary/summary.ts";
import {
  type CommandContext,
  computeOptions,
  count,
  integer,
  jsonOption,
  printResult,
  stepProgress,
} from "./report.ts";

/** Name of the summary within its folder. */
export const summaryFileName = "summary.arrow";

/** Makes the command. */
export function summarizeCommand({ signal }: CommandContext): Command {
  const command = new Command("summarize")
    .description("Find the top images and statistics of every latent in one pass over a recording.")
    .requiredOption("--shards <dir>", "folder made by record")
    .requiredOption("--layer <n>", "recorded layer that the SAE belongs to", integer)
    .requiredOption("--sae <path>", "folder or safetensors file of the SAE")
    .requiredOption("--out <dir>", "folder for summary.arrow")
    .addOption(
      new Option("--tokens <which>", "tokens to count").choices(["patches", "cls", "all"]).default("patches"),
    )
    .option("--images-per-latent <n>", "top images to keep for each latent", count, 16);
  computeOptions().forEach((option) => command.addOption(option));
  return command.addOption(jsonOption()).action(async (options) => {
    const { json } = options;
    const sae = await loadSae(options.sae);
    const shards = await openShards(options.shards);
    const out = join(options.out, summaryFileName);
    await mkdir(options.out, { recursive: true }).catch((error) => {
      throw writeError(options.out, error);
    });
    const backend = await openBackend({ backend: options.backend, threads: options.threads });
    const progress = stepProgress("Summarize", { json, unit: "images" });
    try {
      const stored = await summarize(shards, sae, {
        backend,
        layer: options.layer,
        tokens: options.tokens,
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
    } finally {
      await backend.close();
      await shards.close();
    }
  });
}
