/**
 * `summarize`: what an SAE's latents respond to, over a recording.
 *
 * @module
 */
import { join } from "node:path";
import { Command, Option } from "commander";
import { openImages } from "../lib/images/open.ts";
import { openBackend } from "../lib/compute/select.ts";
import { makeFolder } from "../lib/runtime/files.ts";
import { hookPoints } from "../lib/vit/hooks.ts";
import { openVit } from "../lib/vit/vit.ts";
import { openShards } from "../lib/shards/read.ts";
import { saveSummary, type StoredSummary } from "../lib/summary/file.ts";
import { summarizeImages } from "../lib/summary/summarize_images.ts";
import { summarize } from "../lib/summary/summarize.ts";
import { deadLatents, viewSummary } from "../lib/summary/summary.ts";
import { addSaeOptions, loadNamedSae, loadSaeForShards } from "./conventions.ts";
import {
  type CommandContext,
  computeOptions,
  count,
  hubOptions,
  jsonOption,
  layerNumber,
  path,
  printResult,
  stepProgress,
} from "./report.ts";

const example = `
Example:
  deno run -A cli.ts summarize --shards out/shards --layer 3 --sae my_sae/ --out out/summary
  deno run -A cli.ts summarize --vit vit.onnx --images photos/ --layer 3 --sae my_sae/ --out sum/`;

/** Name of the summary within its folder. */
export const summaryFileName = "summary.arrow";

/** Makes the command. */
export function summarizeCommand(context: CommandContext): Command {
  const { signal, steps } = context;
  const command = new Command("summarize")
    .description("Find the top images and statistics of every latent in one pass, over a recording or over images.")
    .option("--shards <dir>", "folder made by record", path)
    .option("--vit <file>", "instead of a recording: vision tower in ONNX, or hf:owner/repository/path", path)
    .option("--images <path>", "images for the vision tower: a folder, or an Arrow file", path)
    .addOption(new Option("--hook <where>", "where in each block, with --vit").choices(hookPoints).default("residPost"))
    .requiredOption("--layer <n>", "layer that the SAE belongs to; -1 is the last one there is", layerNumber)
    .requiredOption("--out <dir>", "folder for summary.arrow", path)
    .addOption(
      new Option("--tokens <which>", "tokens to count").choices(["patches", "cls", "all"]).default("patches"),
    )
    .option("--images-per-latent <n>", "top images to keep for each latent", count, 16);
  addSaeOptions(command);
  computeOptions().forEach((option) => command.addOption(option));
  return command.addOption(jsonOption()).addHelpText("after", example).action(async (options) => {
    checkWhat(options);
    const { json, layer, tokens, hook, imagesPerLatent, backend: choice, threads } = options;
    await using open = new AsyncDisposableStack();
    const out = join(options.out, summaryFileName);
    const openDevice = async () => {
      await makeFolder(options.out);
      return open.adopt(await openBackend({ backend: choice, threads }), (backend) => backend.close());
    };
    const progress = stepProgress("Summarize", { steps, json, unit: "images" });
    const shared = { layer, tokens, imagesPerLatent, saePath: options.sae, onProgress: progress, signal };
    let nSkipped = 0;
    let device: string;
    let stored: StoredSummary;
    if (options.shards !== undefined) {
      const sae = await loadSaeForShards(options, { ...context, layer, tokens });
      const shards = open.adopt(await openShards(options.shards), (shards) => shards.close());
      const backend = await openDevice();
      device = backend.device;
      stored = await summarize(shards, sae, { ...shared, backend });
    } else {
      const sae = await loadNamedSae(options, context);
      const images = await openImages(options.images);
      const vit = await openVit(options.vit, { threads, hub: hubOptions(context, { json }) });
      const backend = await openDevice();
      device = backend.device;
      stored = await summarizeImages(vit, images, { ...shared, sae, backend, hook, onSkipped: () => void nSkipped++ });
    }
    await progress.finish();
    await saveSummary(stored, out);
    const summary = viewSummary(stored.accumulated, stored.source);
    const { nImages, nTokens, meanL0, dSae } = summary;
    const nDead = deadLatents(summary, { minTokens: 0 }).length;
    const facts = { out, n_images: nImages, n_tokens: nTokens, d_sae: dSae, n_dead: nDead, mean_l0: meanL0 };
    printResult({ ...facts, ...(nSkipped > 0 ? { n_skipped: nSkipped } : {}) }, {
      json,
      lines: [
        `Summarized ${nImages} images, ${nTokens} tokens, on ${device}`,
        ...(nSkipped > 0 ? [`Left out ${nSkipped} images that could not be read`] : []),
        `${dSae - nDead} of ${dSae} latents were active, ${meanL0.toFixed(1)} a token; saved to ${out}`,
      ],
    });
  });
}

/** Throws unless either a recording is named, or a ViT and images. */
function checkWhat({ shards, vit, images }: { shards?: string; vit?: string; images?: string }): void {
  if (shards === undefined ? vit !== undefined && images !== undefined : vit === undefined && images === undefined) {
    return;
  }
  const given = Object.entries({ shards, vit, images }).filter(([, value]) => value !== undefined);
  throw new TypeError(
    `Cannot summarize: there must be --shards, or --vit and --images, current options are ${
      given.map(([name]) => `--${name}`).join(", ") || "none of them"
    }`,
  );
}
