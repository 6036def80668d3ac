/**
 * `demo`: the whole way of the data on what the kit brings along: images, ViT, shards, SAE, summary, atlas.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Command } from "commander";
import { type BackendChoice, openBackend } from "../lib/compute/select.ts";
import { embeddedPaths } from "../lib/embedded.ts";
import { tallyLabels } from "../lib/figures/atlas/tally.ts";
import { openGallery } from "../lib/figures/gallery.ts";
import { openImages } from "../lib/images/open.ts";
import { selectImages } from "../lib/images/select.ts";
import type { ImageSource } from "../lib/images/source.ts";
import { textTable } from "../lib/notebook/table.ts";
import { loadSae } from "../lib/sae/load.ts";
import { measureReconstruction } from "../lib/sae/metrics/reconstruction.ts";
import { openShards } from "../lib/shards/read.ts";
import { writeShards } from "../lib/shards/write.ts";
import { saveSummary } from "../lib/summary/file.ts";
import { summarize } from "../lib/summary/summarize.ts";
import { deadLatents, type LatentSummary, type Summary, viewSummary } from "../lib/summary/summary.ts";
import { openVit } from "../lib/vit/vit.ts";
import { type CommandContext, computeOptions, jsonOption, path, printResult, stepProgress } from "./report.ts";
import { summaryFileName } from "./summarize.ts";

interface DemoOptions {
  out: string;
  backend: BackendChoice;
  threads: number;
  json?: boolean;
}

/** Makes the command. */
export function demoCommand(context: CommandContext): Command {
  const command = new Command("demo")
    .description("Record, summarize and draw the atlas of the embedded model on embedded emoji. Needs nothing else.")
    .option("--out <dir>", "folder for all that is made", path, "out/demo");
  computeOptions().forEach((option) => command.addOption(option));
  return command.addOption(jsonOption()).action((options) => runDemo(options, context));
}

async function runDemo(
  { out, backend: choice, threads, json }: DemoOptions,
  { signal, steps }: CommandContext,
): Promise<void> {
  const started = performance.now();
  await using open = new AsyncDisposableStack();
  const paths = embeddedPaths();
  const { layer } = paths;
  const images = await openImages(paths.images);
  const vit = await openVit(paths.vit, { threads });
  const sae = await loadSae(paths.sae);

  // Skin tones repeat a drawing up to five times: one of each makes better grids.
  const imageIndices = selectImages(images, (info) => info.tags.skin_tone === "none");
  const directory = join(out, "shards");
  const recording = stepProgress("Record activations", { steps, json, unit: "images" });
  await writeShards(vit, images, { directory, layers: [layer], imageIndices, signal, onProgress: recording });
  await recording.finish();

  const shards = open.adopt(await openShards(directory), (shards) => shards.close());
  const backend = open.adopt(await openBackend({ backend: choice, threads }), (backend) => backend.close());
  const reading = stepProgress("Summarize latents", { steps, json, unit: "images" });
  const stored = await summarize(shards, sae, { backend, layer, saePath: paths.sae, signal, onProgress: reading });
  await reading.finish();
  await saveSummary(stored, join(out, summaryFileName));
  const summary = viewSummary(stored.accumulated, stored.source);

  const loaded = await backend.load(sae);
  const { explainedVariance } = await measureReconstruction(loaded, sampleActivations());
  await loaded.dispose();

  const gallery = openGallery({ images, shards, sae, summary, backend });
  const heatmaps = stepProgress("Heat maps", { steps, json, unit: "batches" });
  const pages = stepProgress("Atlas", { steps, json, unit: "images and pages" });
  const atlas = await gallery.writeAtlas({
    out: join(out, "atlas"),
    title: "Emoji atlas",
    facts: { "Explained variance": `${(100 * explainedVariance).toFixed(1)} %` },
    onHeatmapProgress: heatmaps,
    onProgress: pages,
    signal,
  });
  await pages.finish();

  const nDead = deadLatents(summary, { minTokens: 0 }).length;
  const seconds = (performance.now() - started) / 1000;
  printResult({
    index: resolve(atlas.indexPath),
    n_images: summary.nImages,
    n_tokens: summary.nTokens,
    d_sae: summary.dSae,
    n_dead: nDead,
    mean_l0: summary.meanL0,
    explained_variance: explainedVariance,
    backend: backend.device,
    seconds,
  }, {
    json,
    lines: [
      "",
      `${summary.nImages} emoji, ${summary.nTokens} patches after block ${layer}`,
      `${summary.dSae - nDead} of ${summary.dSae} latents active, ${summary.meanL0.toFixed(1)} a patch`,
      `${(100 * explainedVariance).toFixed(1)} % of the variance explained`,
      `Computed on ${backend.device}`,
      "",
      "Some latents that mostly keep to one group of emoji:",
      textTable(purestLatents(summary, images)),
      "",
      `Open the atlas: ${pathToFileURL(resolve(atlas.indexPath))}`,
      `Took ${seconds.toFixed(0)} s`,
    ],
  });

  // Every 16th batch is plenty for three digits.
  async function* sampleActivations(): AsyncIterable<Float32Array> {
    const order = Array.from({ length: Math.ceil(shards.nBatches / 16) }, (_, i) => 16 * i);
    for await (const { activations } of shards.readBatches({ layer, order, signal })) yield activations;
  }
}

/**
 * Latents whose top images are mostly of one subgroup of emoji, the most frequent ones first, one a subgroup. Without
 * dense latents: they are active on nearly every image, whatever the strongest few are.
 */
function purestLatents(summary: Summary, images: ImageSource): Record<string, string>[] {
  const subgroupOf = ({ topImages }: LatentSummary) => {
    const [first] = tallyLabels(topImages.map(({ imageIndex }) => images.info(imageIndex).tags.subgroup));
    return first?.share >= 0.75 ? first.label : undefined;
  };
  const rows = new Map<string, Record<string, string>>();
  const latents = Array.from({ length: summary.dSae }, (_, i) => summary.latent(i))
    .filter(({ topImages, density }) => topImages.length === summary.imagesPerLatent && density < 0.1)
    .sort((a, b) => b.nActive - a.nActive);
  for (const latent of latents) {
    const subgroup = subgroupOf(latent);
    if (subgroup === undefined || rows.has(subgroup)) continue;
    const emoji = latent.topImages.map(({ imageIndex }) => images.info(imageIndex).tags.emoji);
    rows.set(subgroup, {
      latent: String(latent.latent),
      "lights up on": subgroup,
      density: `${(100 * latent.density).toFixed(2)} %`.padStart(7),
      // Last, because terminals disagree about how wide some emoji are.
      "top images": [...new Set(emoji)].slice(0, 8).join(" "),
    });
    if (rows.size === 8) break;
  }
  return [...rows.values()];
}
