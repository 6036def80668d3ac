/**
 * `atlas`: web pages about all latents, to open from disk.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Command } from "commander";
import { openBackend } from "../lib/compute/select.ts";
import { openGallery } from "../lib/figures/gallery.ts";
import { openImages } from "../lib/images/open.ts";
import type { RecordingMetadata } from "../lib/shards/format.ts";
import { openShards } from "../lib/shards/read.ts";
import type { SummarySource } from "../lib/summary/accumulate.ts";
import { openSummary } from "../lib/summary/file.ts";
import { fingerprintSae } from "../lib/summary/summarize.ts";
import { viewSummary } from "../lib/summary/summary.ts";
import { addSaeOptions, loadSaeForShards } from "./conventions.ts";
import {
  type CommandContext,
  computeOptions,
  count,
  jsonOption,
  latentList,
  path,
  printResult,
  stepProgress,
} from "./report.ts";
import { summaryFileName } from "./summarize.ts";

const example = `
Example:
  deno run -A cli.ts atlas --shards out/shards --summary out/summary --sae my_sae/ --out out/atlas`;

/** Makes the command. */
export function atlasCommand({ signal, steps }: CommandContext): Command {
  const command = new Command("atlas")
    .description("Write web pages about the latents: grids with heat maps, plots, statistics. They open from disk.")
    .requiredOption("--shards <dir>", "folder made by record", path)
    .requiredOption("--summary <path>", "folder made by summarize, or the summary.arrow in it", path)
    .requiredOption("--out <dir>", "folder for the pages", path)
    .option("--images <path>", "where the images are now, if they have moved", path)
    .option("--latents <list>", "latents to show, such as 12,7 (default: all that were active)", latentList)
    .option("--images-per-page <n>", "images on the page of a latent", count, 12)
    .option("--title <text>", "title of the pages", "Latent atlas");
  addSaeOptions(command);
  computeOptions().forEach((option) => command.addOption(option));
  return command.addOption(jsonOption()).addHelpText("after", example).action(async (options) => {
    const { json } = options;
    await using open = new AsyncDisposableStack();
    const isFolder = await stat(options.summary).then((found) => found.isDirectory(), () => false);
    const stored = await openSummary(isFolder ? join(options.summary, summaryFileName) : options.summary);
    const { layer, tokens } = stored.source;
    const sae = await loadSaeForShards(options, { layer, tokens, signal, steps });
    const shards = open.adopt(await openShards(options.shards), (shards) => shards.close());
    checkSameOrigin(stored.source, { sae: fingerprintSae(sae), recording: shards.metadata });
    const images = await openImages(options.images ?? shards.metadata.dataset.location).catch((error) => {
      if (options.images !== undefined) throw error;
      throw new Error(`${error.message}; if the images have moved, say where with --images`, { cause: error });
    });
    const { backend: choice, threads } = options;
    const backend = open.adopt(await openBackend({ backend: choice, threads }), (backend) => backend.close());
    const summary = viewSummary(stored.accumulated, stored.source);
    if (options.latents?.every((latent: number) => summary.latent(latent).nActive === 0)) {
      throw new RangeError(
        `Cannot write atlas: one of the latents at least must have been active, none of ${options.latents} was`,
      );
    }
    const gallery = openGallery({ images, shards, sae, summary, backend });
    const heatmaps = stepProgress("Heat maps", { steps, json, unit: "batches" });
    const pages = stepProgress("Atlas", { steps, json, unit: "images and pages" });
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
    printResult({ index: resolve(indexPath), n_pages: nPages, n_images: nImages }, {
      json,
      lines: [
        `Wrote ${nPages} pages about latents, with ${nImages} images`,
        `Open the atlas: ${pathToFileURL(resolve(indexPath))}`,
      ],
    });
  });
}

/** An atlas of parts that do not belong together would look right and be wrong. */
function checkSameOrigin(source: SummarySource, parts: { sae: string; recording: RecordingMetadata }): void {
  const { sae, recording: { model, dataset } } = parts;
  const rules: [part: string, made: boolean, from: string][] = [
    ["SAE", source.sae.sha256 === sae, source.sae.path],
    ["recording's model", source.model.sha256 === model.sha256, source.model.path],
    ["recording's images", source.dataset.fingerprint === dataset.fingerprint, source.dataset.location],
  ];
  for (const [part, isSame, from] of rules) {
    if (isSame) continue;
    throw new Error(`Cannot write atlas: the ${part} must be what the summary was made from, ${from || "another"}`);
  }
}
