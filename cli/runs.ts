/**
 * What `train` and `sweep` share: the tokens they train and measure on, and how a run is kept.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Command, Option } from "commander";
import type { BackendChoice } from "../lib/compute/select.ts";
import { openImages } from "../lib/images/open.ts";
import type { ImageSource } from "../lib/images/source.ts";
import type { TrainSweepOptions } from "../lib/runs/sweep.ts";
import { metadataFileName, progressFileName } from "../lib/shards/format.ts";
import { openShards, type Shards, type TokenKind } from "../lib/shards/read.ts";
import { imageTokens, shardTokens, type TokenSource } from "../lib/train/source.ts";
import { type HookPoint, hookPoints } from "../lib/vit/hooks.ts";
import { openVit, type Vit } from "../lib/vit/vit.ts";
import {
  type CommandContext,
  computeOptions,
  count,
  hubOptions,
  jsonOption,
  layerNumber,
  path,
  stepProgress,
} from "./report.ts";
import { condition, type Conditions, selectWhere } from "./where.ts";

/** Adds the options. */
export function addRunOptions(command: Command): Command {
  command
    .option("--shards <dir>", "folder made by record", path)
    .option("--vit <file>", "instead of a recording: vision tower in ONNX, or hf:owner/repository/path", path)
    .option("--images <path>", "images for the vision tower, or of the recording: a folder, or an Arrow file", path)
    .addOption(new Option("--hook <where>", "where in each block, with --vit").choices(hookPoints).default("residPost"))
    .requiredOption("--layer <n>", "layer to train on; -1 is the last one there is", layerNumber)
    .addOption(
      new Option("--tokens <which>", "tokens to train on").choices(["patches", "cls", "all"]).default("patches"),
    )
    .option(
      "--where <tag=value>",
      "only images with this tag, such as split=train, or label=cat; given again, either value of one tag, and each of " +
        "several tags",
      condition,
    )
    .option("--pool-mb <n>", "megabytes to shuffle in; what fits is read once, and shuffled perfectly", count, 512)
    .option("--held-out <path>", "to measure on at the end: other images, with --vit, or a recording of some", path)
    .option("--held-out-where <tag=value>", "to measure on those of --held-out, or of all images there are", condition)
    .option("--held-out-every <n>", "steps between looks at up to 8192 of the held-out tokens, for the log", count)
    .option("--log-every <n>", "steps between lines of the log", count, 25)
    .option("--checkpoint-every <n>", "steps between checkpoints", count, 500)
    .addOption(jsonOption());
  computeOptions().forEach((option) => command.addOption(option));
  return command;
}

/** What the options are parsed into. */
export interface RunFlags {
  readonly shards?: string;
  readonly vit?: string;
  readonly images?: string;
  readonly hook: HookPoint;
  readonly layer: number;
  readonly tokens: TokenKind;
  readonly where?: Conditions;
  readonly poolMb: number;
  readonly heldOut?: string;
  readonly heldOutWhere?: Conditions;
  readonly heldOutEvery?: number;
  readonly logEvery: number;
  readonly checkpointEvery: number;
  readonly threads: number;
  readonly backend?: BackendChoice;
  readonly json?: boolean;
}

/** What `trainRun()` and `trainSweep()` take. */
export interface OpenedRun {
  readonly source: TokenSource;
  readonly options: Pick<
    TrainSweepOptions,
    | "layer"
    | "tokens"
    | "poolBytes"
    | "heldOut"
    | "heldOutEvery"
    | "logEvery"
    | "checkpointEvery"
    | "threads"
    | "backend"
  >;
  /** Ends the bar of images, which may be there until training begins. */
  beginTraining(): void;
}

/** Images to look at, or a recording of them. */
type Data = { readonly shards: Shards; readonly images?: ImageSource } | {
  readonly vit: Vit;
  readonly images: ImageSource;
};

/**
 * Opens what the options name.
 *
 * @throws {TypeError} If they name neither a recording nor a ViT and images, or both.
 */
export async function openRunData(
  flags: RunFlags,
  { context, open }: { context: CommandContext; open: AsyncDisposableStack },
): Promise<OpenedRun> {
  checkData(flags);
  const { layer, tokens, hook, poolMb, heldOutEvery, logEvery, checkpointEvery, threads, backend, json } = flags;
  const openFolder = async (folder: string) => open.adopt(await openShards(folder), (opened) => opened.close());
  const images = flags.images === undefined ? undefined : await openImages(flags.images);
  const vit = flags.vit === undefined ? undefined : await openVit(flags.vit, {
    threads,
    hub: hubOptions(context, { json }),
  });
  const data: Data = vit ? { vit, images: images! } : { shards: await openFolder(flags.shards!), images };
  const openHeldOut = async (path: string): Promise<Data> =>
    vit === undefined || await isRecording(path)
      ? { shards: await openFolder(path), images }
      : { vit, images: await openImages(path) };
  const heldOutData = flags.heldOut === undefined ? data : await openHeldOut(flags.heldOut);
  const heldOut = flags.heldOut === undefined && flags.heldOutWhere === undefined
    ? undefined
    : await chooseTokens(heldOutData, { hook, where: flags.heldOutWhere });
  let bar = vit && stepProgress("Look at images", { steps: context.steps, json, unit: "images" });
  return {
    source: await chooseTokens(data, { hook, where: flags.where, onProgress: (done, total) => bar?.(done, total) }),
    options: {
      ...{ layer, tokens, poolBytes: poolMb * 1e6, heldOut, heldOutEvery },
      ...{ logEvery, checkpointEvery, threads, backend },
    },
    beginTraining() {
      void bar?.finish();
      bar = undefined;
    },
  };
}

/** Throws unless either a recording is named, or a ViT and images. */
function checkData({ shards, vit, images }: RunFlags): void {
  if (shards === undefined ? vit !== undefined && images !== undefined : vit === undefined) return;
  const given = Object.entries({ shards, vit, images }).filter(([, value]) => value !== undefined);
  throw new TypeError(
    `Cannot train: there must be --shards, or --vit and --images, current options are ${
      given.map(([name]) => `--${name}`).join(", ") || "none of them"
    }`,
  );
}

async function isRecording(path: string): Promise<boolean> {
  const files = [metadataFileName, progressFileName].map((name) =>
    stat(join(path, name)).then(() => true, () => false)
  );
  return (await Promise.all(files)).includes(true);
}

async function chooseTokens(
  data: Data,
  { hook, where, onProgress }: {
    hook: HookPoint;
    where?: Conditions;
    onProgress?: (done: number, total: number) => void;
  },
): Promise<TokenSource> {
  if ("vit" in data) {
    const imageIndices = where && selectWhere(data.images, where);
    return imageTokens(data.vit, data.images, { hook, imageIndices, onProgress });
  }
  const imageIndices = where && selectWhere(await imagesOf(data.shards, data.images), where);
  return await shardTokens(data.shards, { imageIndices });
}

/** The images of a recording: those given, if they are, else where they were when it was made. */
async function imagesOf({ directory, metadata }: Shards, given: ImageSource | undefined): Promise<ImageSource> {
  const { location, fingerprint } = metadata.dataset;
  if (given?.fingerprint === fingerprint) return given;
  const images = await openImages(location).catch(() => undefined);
  if (images?.fingerprint === fingerprint) return images;
  throw new Error(
    `Cannot choose images of ${directory}: --images must be those that were recorded, ${
      given ? `${given.location} holds others` : `${location} does not hold them`
    }`,
  );
}
