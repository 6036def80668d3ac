/**
 * `atlas`: web pages about all latents, to open from disk.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Command } from "commander";
import { openBackend } from "../lib/compute/select.ts";
import { openGallery } from "../lib/figures/gallery.ts";
import { openImages } from "../lib/images/open.ts";
import { loadSae } from "../lib/sae/files.ts";
import { openShards } from "../lib/shards/read.ts";
import { openSummary } from "../lib/summary/file.ts";
import { fingerprintSae } from "../lib/summary/summarize.ts";
import { viewSummary } from "../lib/summary/summary.ts";
import {
  type CommandContext,
  computeOptions,
  count,
  integerList,
  jsonOption,
  printResult,
  stepProgress,
} from "./report.ts";
import { summaryFileName } from "./summarize.ts";

/** Makes the command. */
export function atlasCommand({ signal }: CommandContext): Command {
  const command = new Command("atlas")
    .description("Write web pages about the latents: grids with heat maps, plots, statistics. They open from disk.")
    .requiredOption("--shards <dir>", "folder made by record")
    .requiredOption("--summary <path>", "folder made by summarize, or the summary.arrow in it")
    .requiredOption("--sae <path>", "folder or safetensors file of the SAE")
    .requiredOption("--out <dir>", "folder for the pages")
    .option("--images <path>", "where the images are now, if they have moved")
    .option("--latents <list>", "latents to show, such as 12,7 (default: all that were active)", integerList)
    .option("--images-per-page <n>", "images on the page of a latent", count, 12)
    .option("--title <text>", "title of the pages", "Latent atlas");
  computeOptions().forEach((option) => command.addOption(option));
  return command.addOption(jsonOption()).action(async (options) => {
    const { json } = options;
    const isFolder = await stat(options.summary).then((found) => found.isDirectory(), () => false);
    const stored = await openSummary(isFolder ? join(options.summary, summaryFileName) : options.summary);
    const sae = await loadSae(options.sae);
    if (fingerprintSae(sae) !== stored.source.sae.sha256) {
      throw new Error(
        `Cannot write atlas: the SAE must be the one that was summarized, ${options.sae} is another than ${
          stored.source.sae.path || "that one"
        }`,
      );
    }
    const shards = await openShards(options.shards);
    const images = await openImages(options.images ?? shards.metadata.dataset.location);
    const backend = await openBackend({ backend: options.backend, threads: options.threads });
    try {
      const summary = viewSummary(stored.accumulated, stored.source);
      const gallery = openGallery({ images, shards, sae, summary, backend });
      const heatmaps = stepProgress("Heat maps", { json, unit: "batches" });
      const pages = stepProgress("Atlas", { json, unit: "images and pages" });
      const { indexPath, nPages, nImages } = await gallery.writeAtlas({
        out: options.out,
        title: options.title,
        latents: options.latents,
        imagesPerPage: options.imagesPerPage,
        onHeatmapProgress: heatmaps,
        onProgress: pages,
        signal,
      });
      await pages.finish();
      printResult({ index: indexPath, n_pages: nPages, n_images: nImages }, {
        json,
        lines: [`Wrote ${nPages} pages about ${nImages} images; open ${indexPath}`],
      });
    } finally {
      await backend.close();
      await shards.close();
    }
  });
}
