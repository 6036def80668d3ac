/**
 * `record`: a ViT's activations over images, into shards.
 *
 * @module
 */
import { Command, Option } from "commander";
import { openImages } from "../lib/images/open.ts";
import { shardDtypes } from "../lib/shards/format.ts";
import { writeShards } from "../lib/shards/write.ts";
import { vitFamilies } from "../lib/vit/families.ts";
import { geluKinds } from "../lib/vit/gelu.ts";
import { hookPoints } from "../lib/vit/hooks.ts";
import { openVit } from "../lib/vit/vit.ts";
import {
  type CommandContext,
  count,
  hubOptions,
  jsonOption,
  layerList,
  path,
  pixelSize,
  printResult,
  stepProgress,
  threadCount,
} from "./report.ts";

const example = `
Example:
  deno run -A cli.ts record --model vit.onnx --images photos/ --layers 3,-1 --out out/shards`;

/** Makes the command. */
export function recordCommand({ signal, steps }: CommandContext): Command {
  return new Command("record")
    .description("Record a ViT's activations over images into Arrow shards. A stopped recording is resumed.")
    .requiredOption("--model <file>", "vision tower in ONNX, or hf:owner/repository/path", path)
    .requiredOption(
      "--images <path>",
      "folder of images (sub-folders are classes), or an Arrow file with an image column",
      path,
    )
    .requiredOption("--layers <list>", "blocks to record, such as 3,5; -1 is the last", layerList)
    .requiredOption("--out <dir>", "folder for the shards", path)
    .addOption(
      new Option("--hook <where>", "where in each block: the residual stream before or after, or what is added to it")
        .choices(hookPoints).default("residPost"),
    )
    .addOption(
      new Option("--family <name>", "what the model is, where it cannot be told").choices(
        vitFamilies.map(({ name }) => name),
      ),
    )
    .addOption(
      new Option("--gelu <form>", "run the MLPs with this form of GELU instead of the file's").choices(geluKinds),
    )
    .option("--image-size <px>", "size to run a model at that takes several, such as 518 or 448x672", pixelSize)
    .option("--batch-size <n>", "images a batch", count, 32)
    .addOption(
      new Option("--dtype <type>", "how numbers are stored; float16 takes half the space, and keeps 11 bits of each")
        .choices(shardDtypes).default("float32"),
    )
    .option("--shard-mb <n>", "size of a shard in megabytes", count, 128)
    .addOption(
      new Option("--on-bad-image <what>", "leave out images that cannot be read and count them, or stop")
        .choices(["skip", "error"]).default("skip"),
    )
    .option("--threads <n>", "threads of the model, 0 for every core", threadCount, 0)
    .addOption(jsonOption())
    .addHelpText("after", example)
    .action(async (options) => {
      const { json, threads, family, gelu, imageSize } = options;
      const images = await openImages(options.images);
      const vit = await openVit(options.model, {
        threads,
        family,
        gelu,
        imageSize,
        hub: hubOptions({ signal, steps }, { json }),
      });
      const progress = stepProgress("Record", { steps, json, unit: "images" });
      const metadata = await writeShards(vit, images, {
        directory: options.out,
        layers: options.layers,
        hook: options.hook,
        batchSize: options.batchSize,
        dtype: options.dtype,
        shardBytes: options.shardMb * 1e6,
        onBadImage: options.onBadImage,
        onProgress: progress,
        signal,
      });
      await progress.finish();
      const { n_images, n_tokens, layers, d_model, skipped, shards } = metadata;
      printResult({ out: options.out, n_images, n_tokens, layers, d_model, n_shards: shards.length, skipped }, {
        json,
        lines: [
          `Recorded ${n_images} images, ${n_tokens} tokens of width ${d_model}, layers ${layers.join(", ")}${
            options.hook === "residPost" ? "" : ` (${options.hook})`
          }, into ${options.out}`,
          ...(skipped.length > 0
            ? [`Skipped ${skipped.length} that could not be read, the first: ${skipped[0].reason}`]
            : []),
        ],
      });
    });
}
