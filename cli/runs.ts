/**
 * What `train` and `sweep` share: the recordings they train and measure on, and how a run is kept.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { openShards, type Shards } from "../lib/shards/read.ts";
import { count, jsonOption, layerNumber, path, threadCount } from "./report.ts";

/** Adds the options. */
export function addRunOptions(command: Command): Command {
  return command
    .requiredOption("--shards <dir>", "folder made by record", path)
    .requiredOption("--layer <n>", "recorded layer to train on; -1 is the last one recorded", layerNumber)
    .addOption(
      new Option("--tokens <which>", "tokens to train on").choices(["patches", "cls", "all"]).default("patches"),
    )
    .option("--held-out <dir>", "recording of other images by the same model, to measure on at the end", path)
    .option("--log-every <n>", "steps between lines of the log", count, 25)
    .option("--checkpoint-every <n>", "steps between checkpoints", count, 500)
    .option("--threads <n>", "threads, 0 for every core", threadCount, 0)
    .addOption(jsonOption());
}

/** Opens the recordings that the options name. */
export async function openRecordings(
  options: { shards: string; heldOut?: string },
  open: AsyncDisposableStack,
): Promise<{ shards: Shards; heldOut: Shards | undefined }> {
  const adopt = async (folder: string) => open.adopt(await openShards(folder), (opened) => opened.close());
  return {
    shards: await adopt(options.shards),
    heldOut: options.heldOut === undefined ? undefined : await adopt(options.heldOut),
  };
}
