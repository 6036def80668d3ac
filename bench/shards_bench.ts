/**
 * Reading shards beside reading the same bytes bare: in order, in random order, token by token as training wants them,
 * in float16, and beside a caller that computes. Medians of rounds in which all take turns.
 *
 *     deno run -A bench/shards_bench.ts          from the system's cache
 *     deno run -A bench/shards_bench.ts --cold   each time from the disk (Linux: `dd` drops the files from the cache)
 *
 * @module
 */
import { execFile } from "node:child_process";
import { mkdtemp, open, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { createArrowFile } from "../lib/arrow/file_writer.ts";
import { encodeBatch } from "../lib/shards/encode.ts";
import {
  metadataFileName,
  type RecordingInfo,
  type ShardDtype,
  type ShardEntry,
  shardFileName,
  shardFormatVersion,
  shardSchema,
} from "../lib/shards/format.ts";
import { openShards, type ReadBatchesOptions, type Shards } from "../lib/shards/read.ts";
import { randomOrder, seededRandom } from "../lib/train/random.ts";
import { makePool, shuffledTokens } from "../lib/train/shuffle.ts";
import { toTokenSource } from "../lib/train/source.ts";

const rounds = 5;
/** One layer of ViT-B/16, 16 images a batch, two shards: 242 MB in float32. */
const [dModel, gridSize, imagesPerBatch, nBatches, nShards] = [768, 14, 16, 25, 2];
const tokensPerImage = 1 + gridSize ** 2;
const batchLength = imagesPerBatch * tokensPerImage * dModel;
const layer = 10;
const computeMs = 20;
const isCold = process.argv.includes("--cold");

async function writeRecording(directory: string, dtype: ShardDtype): Promise<void> {
  const info: RecordingInfo = {
    format_version: shardFormatVersion,
    model: { path: "model.onnx", sha256: "" },
    layers: [layer],
    stream: "resid_post",
    dtype,
    d_model: dModel,
    tokens_per_image: tokensPerImage,
    n_special_tokens: 1,
    cls: true,
    grid_height: gridSize,
    grid_width: gridSize,
    dataset: { kind: "folder", location: "", fingerprint: "", n_images: 0, n_selected: 0, selection: "all" },
    transform: {},
  };
  const schema = shardSchema(info);
  const values = Float32Array.from({ length: batchLength }, (_, i) => Math.sin(i));
  const shards: ShardEntry[] = [];
  for (let batch = 0; batch < nBatches;) {
    const file = shardFileName(shards.length);
    const writer = await createArrowFile(join(directory, file), schema);
    const end = Math.ceil((nBatches * (shards.length + 1)) / nShards);
    const nImages = (end - batch) * imagesPerBatch;
    for (; batch < end; batch++) {
      const imageIndices = Uint32Array.from({ length: imagesPerBatch }, (_, i) => batch * imagesPerBatch + i);
      await writer.write(encodeBatch({ imageIndices, activations: [values], skipped: [] }, { info, schema }));
    }
    shards.push({ file, n_images: nImages, n_bytes: await writer.finish() });
  }
  const n = nBatches * imagesPerBatch;
  const metadata = { ...info, n_images: n, n_tokens: n * tokensPerImage, n_done: n, shards, skipped: [] };
  await writeFile(join(directory, metadataFileName), JSON.stringify(metadata));
}

async function dropFromCache(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    await promisify(execFile)("dd", [`if=${join(directory, name)}`, "iflag=nocache", "count=0", "status=none"]);
  }
}

/** Positional reads of a whole recording, a batch at a time: each into memory of its own, or all into the same. */
async function readRaw(directory: string, isReused: boolean): Promise<void> {
  const shared = new Uint8Array(4 * batchLength);
  for (const name of (await readdir(directory)).filter((name) => name.endsWith(".arrow")).sort()) {
    const path = join(directory, name);
    const file = await open(path);
    const { size } = await stat(path);
    for (let position = 0; position < size; position += shared.length) {
      await file.read(isReused ? shared : new Uint8Array(shared.length), 0, shared.length, position);
    }
    await file.close();
  }
}

async function drain(shards: Shards, options: Partial<ReadBatchesOptions>, busyMs = 0): Promise<void> {
  for await (const { activations } of shards.readBatches({ layer, tokens: "all", ...options })) {
    if (activations.length === 0) throw new Error("Cannot measure: batches must hold activations");
    compute(busyMs);
  }
}

/** Keeps the thread, as a run of a model does. */
function compute(ms: number): void {
  for (const start = performance.now(); performance.now() < start + ms;);
}

async function bench(folder: string): Promise<void> {
  const [float32, float16] = await Promise.all((["float32", "float16"] as const).map(async (dtype) => {
    const directory = await mkdtemp(join(folder, `${dtype}-`));
    await writeRecording(directory, dtype);
    return { directory, shards: await openShards(directory) };
  }));
  const random = () => seededRandom(0);
  const source = toTokenSource(float32.shards);
  const pool = makePool(source, { tokens: "all", poolBytes: 4 * 16_384 * dModel });
  const contestants: Record<string, () => Promise<void>> = {
    "raw, new memory each time": () => readRaw(float32.directory, false),
    "raw, one buffer": () => readRaw(float32.directory, true),
    "readBatches, all tokens": () => drain(float32.shards, {}),
    "readBatches, patches": () => drain(float32.shards, { tokens: "patches" }),
    "readBatches, random order": () => drain(float32.shards, { order: randomOrder(nBatches, random()) }),
    "readBatches, reuse": () => drain(float32.shards, { reuse: true }),
    "readBatches, patches, reuse": () => drain(float32.shards, { tokens: "patches", reuse: true }),
    "readBatches, float16": () => drain(float16.shards, {}),
    "readBatches, float16, reuse": () => drain(float16.shards, { reuse: true }),
    "shuffledTokens": async () => {
      // As training has it: the pool is there from the pass before.
      const options = { layer, tokens: "all", batchSize: 4096, pool, reuse: true, random: random() } as const;
      for await (const batch of shuffledTokens(source, options)) void batch;
    },
    [`caller of ${computeMs} ms alone`]: () => {
      for (let i = 0; i < nBatches; i++) compute(computeMs);
      return Promise.resolve();
    },
    [`caller of ${computeMs} ms, readBatches, reuse`]: () => drain(float32.shards, { reuse: true }, computeMs),
  };
  const times: Record<string, number[]> = {};
  for (let round = 0; round <= rounds; round++) {
    for (const [name, run] of Object.entries(contestants)) {
      if (isCold) await Promise.all([float32, float16].map(({ directory }) => dropFromCache(directory)));
      const start = performance.now();
      await run();
      // The first round warms up.
      if (round > 0) (times[name] ??= []).push(performance.now() - start);
    }
  }
  const bytes = 4 * batchLength * nBatches;
  console.log(
    `${(bytes / 1e6).toFixed(0)} MB of float32, ${isCold ? "from the disk" : "from the cache"}, medians of ${rounds}`,
  );
  const [baseline] = Object.keys(contestants);
  for (const [name, all] of Object.entries(times)) {
    const rate = `${(bytes / median(all) / 1e6).toFixed(2)} GB/s of float32`;
    console.log(
      `${name.padEnd(40)}${`${median(all).toFixed(0)} ms`.padStart(9)}  ${rate}  ${
        (median(times[baseline]) / median(all)).toFixed(2)
      }×`,
    );
  }
  await Promise.all([float32, float16].map(({ shards }) => shards.close()));
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

if (import.meta.main) {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-shards-"));
  try {
    await bench(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
