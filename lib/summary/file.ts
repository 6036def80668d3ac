/**
 * Saves summaries as Arrow files and opens them: one row a latent, readable statistics first, then what merging
 * needs. Numbers come back bit for bit.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import {
  type Data,
  DataType,
  Field,
  FixedSizeList,
  Float32,
  Float64,
  Int32,
  List,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Table,
  tableFromIPC,
  tableToIPC,
  Uint16,
  Uint32,
} from "apache-arrow";
import { replaceFile } from "../runtime/files.ts";
import { SummaryAccumulator, type SummarySource } from "./accumulate.ts";

/** Version that this code writes, and the newest it reads. */
export const summaryFormatVersion = 1;

const metadataKey = "sparsight_summary";

interface SummaryMetadata {
  format_version: number;
  n_tokens: number;
  n_images: number;
  images_per_latent: number;
  d_sae: number;
  source: SummarySource;
}

/** A summary with what it was made from. */
export interface StoredSummary {
  readonly accumulated: SummaryAccumulator;
  readonly source: SummarySource;
}

const numbers = <T extends DataType>(type: T, data: ArrayLike<number>): Data =>
  makeData({ type, data, nullCount: 0 } as never) as unknown as Data;

function fixedLists<T extends DataType>(type: T, size: number, data: ArrayLike<number>): Data {
  return makeData({
    type: new FixedSizeList(size, new Field("item", type, false)),
    length: data.length / size,
    nullCount: 0,
    child: numbers(type, data) as never,
  }) as unknown as Data;
}

/** Saves a summary, atomically. The same summary gives the same bytes. */
export async function saveSummary(stored: StoredSummary, path: string): Promise<void> {
  const { accumulated, source } = stored;
  const { dSae, imagesPerLatent, nTokens, nImages, nActive, topCount, topValues, sketch } = accumulated;
  const offsets = new Int32Array(dSae + 1);
  const bins: number[] = [];
  const counts: number[] = [];
  for (let latent = 0; latent < dSae; latent++) {
    for (const { bin, count } of sketch.bins(latent)) {
      bins.push(bin);
      counts.push(count);
    }
    offsets[latent + 1] = bins.length;
  }
  const latents = Uint32Array.from({ length: dSae }, (_, latent) => latent);
  const derive = (value: (latent: number) => number) => Float64Array.from(latents, value);
  const lists = (values: ArrayLike<number>) =>
    makeData({
      type: new List(new Field("item", new Uint32(), false)),
      length: dSae,
      nullCount: 0,
      valueOffsets: offsets,
      child: numbers(new Uint32(), Uint32Array.from(values)) as never,
    }) as unknown as Data;

  const columns: Record<string, Data> = {
    latent: numbers(new Uint32(), latents),
    density: numbers(new Float64(), derive((latent) => nActive[latent] / nTokens)),
    mean_active: numbers(new Float64(), derive((latent) => accumulated.sum(latent) / nActive[latent])),
    max_activation: numbers(
      new Float32(),
      Float32Array.from(latents, (latent) => topCount[latent] > 0 ? topValues[latent * imagesPerLatent] : 0),
    ),
    n_active: numbers(new Float64(), nActive),
    n_images_active: numbers(new Uint32(), accumulated.nImagesActive),
    top_count: numbers(new Uint16(), topCount),
    top_values: fixedLists(new Float32(), imagesPerLatent, topValues),
    top_images: fixedLists(new Uint32(), imagesPerLatent, accumulated.topImages),
    top_patches: fixedLists(new Int32(), imagesPerLatent, accumulated.topPatches),
    sum_high: numbers(new Float64(), accumulated.sumHigh),
    sum_low: numbers(new Float64(), accumulated.sumLow),
    histogram_bins: lists(bins),
    histogram_counts: lists(counts),
  };
  const metadata: SummaryMetadata = {
    format_version: summaryFormatVersion,
    n_tokens: nTokens,
    n_images: nImages,
    images_per_latent: imagesPerLatent,
    d_sae: dSae,
    source,
  };
  const schema = new Schema(
    Object.entries(columns).map(([name, data]) => new Field(name, data.type, false)),
    new Map([[metadataKey, JSON.stringify(metadata)]]),
  );
  const children = Object.values(columns);
  const data = makeData({ type: new Struct(schema.fields), length: dSae, nullCount: 0, children });
  const bytes = tableToIPC(new Table(schema, [new RecordBatch(schema, data)]), "file");
  await replaceFile(path, bytes);
}

/**
 * Opens a saved summary.
 *
 * @throws {Error} If there is no such file.
 * @throws {SyntaxError} If it is not a summary, or damaged.
 * @throws {RangeError} If it was written by a newer version.
 */
export async function openSummary(path: string): Promise<StoredSummary> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw new Error(`Cannot open summary ${path}: the file must be readable (${(error as { code?: string }).code})`, {
      cause: error,
    });
  }
  try {
    return parseSummary(tableFromIPC(bytes), path);
  } catch (error) {
    if (error instanceof RangeError && error.message.includes("version")) throw error;
    throw new SyntaxError(`Cannot open summary ${path}: it must be a whole Arrow file made by summarize`, {
      cause: error,
    });
  }
}

function parseSummary(table: Table, path: string): StoredSummary {
  const metadata: SummaryMetadata = JSON.parse(table.schema.metadata.get(metadataKey) ?? "");
  if (metadata.format_version > summaryFormatVersion) {
    throw new RangeError(
      `Cannot open summary ${path}: format version must be at most ${summaryFormatVersion}, current value is ` +
        `${metadata.format_version}; update sparsight to read it`,
    );
  }
  if (table.numRows !== metadata.d_sae || table.batches.length !== 1) {
    throw new SyntaxError(`Cannot open summary ${path}: it must hold ${metadata.d_sae} rows in one batch`);
  }
  const accumulated = new SummaryAccumulator(metadata.d_sae, { imagesPerLatent: metadata.images_per_latent });
  const values = (name: string): Float64Array | Float32Array | Uint32Array | Int32Array | Uint16Array => {
    const [data] = table.getChild(name)!.data;
    const holder = DataType.isFixedSizeList(data.type) || DataType.isList(data.type) ? data.children[0] : data;
    return holder.values;
  };
  const fill = (target: { length: number; set(values: ArrayLike<number>): void }, name: string) => {
    const found = values(name);
    if (found.length < target.length) {
      throw new SyntaxError(
        `Cannot open summary ${path}: ${name} must hold ${target.length} numbers, current number is ${found.length}`,
      );
    }
    // Arrow pads columns to a multiple of 8 bytes.
    target.set(found.subarray(0, target.length));
  };
  accumulated.nTokens = metadata.n_tokens;
  accumulated.nImages = metadata.n_images;
  fill(accumulated.nActive, "n_active");
  fill(accumulated.nImagesActive, "n_images_active");
  fill(accumulated.sumHigh, "sum_high");
  fill(accumulated.sumLow, "sum_low");
  fill(accumulated.topCount, "top_count");
  fill(accumulated.topValues, "top_values");
  fill(accumulated.topImages, "top_images");
  fill(accumulated.topPatches, "top_patches");
  const offsets = table.getChild("histogram_bins")!.data[0].valueOffsets as Int32Array;
  const bins = values("histogram_bins");
  const counts = values("histogram_counts");
  for (let latent = 0; latent < metadata.d_sae; latent++) {
    for (let i = offsets[latent]; i < offsets[latent + 1]; i++) accumulated.sketch.add(latent, bins[i], counts[i]);
  }
  return { accumulated, source: metadata.source };
}
