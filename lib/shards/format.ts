/**
 * The shard format: names of files, columns and metadata fields, and how a shard's Arrow schema is made.
 * `docs/shards.md` is its specification; a test holds the two together.
 *
 * @module
 */
import { Field, FixedSizeList, Float16, Float32, Schema, Uint16, Uint32 } from "apache-arrow";
import type { HookPoint } from "../vit/hooks.ts";

/** Version that this code writes, and the newest it reads. */
export const shardFormatVersion = 1;

/** Complete recordings have this file; it is written last. */
export const metadataFileName = "metadata.json";

/** Recordings that are still running, or were stopped, have this file instead. */
export const progressFileName = "recording.json";

/** Key of the metadata in each shard's Arrow schema. */
export const schemaMetadataKey = "sparsight";

/** Name of the n-th shard's file. */
export function shardFileName(shardIndex: number): string {
  return `shard_${String(shardIndex).padStart(6, "0")}.arrow`;
}

/** Name of the column that holds the activations of a layer. */
export function layerColumn(layer: number): string {
  return `layer_${layer}`;
}

/** Names on disk of the places in a block where activations are taken. */
export const streamNames = {
  residPre: "resid_pre",
  attnOut: "attn_out",
  mlpOut: "mlp_out",
  residPost: "resid_post",
} as const satisfies Record<HookPoint, string>;

/** How numbers are stored. */
export const shardDtypes = ["float32", "float16"] as const;
export type ShardDtype = (typeof shardDtypes)[number];

/** Bytes of a stored number. */
export const dtypeBytes: Readonly<Record<ShardDtype, number>> = { float32: 4, float16: 2 };

/** What was recorded: the same for every shard of a recording, and what a resumed run must agree with. */
export interface RecordingInfo {
  format_version: number;
  /** The ViT: its file, the hex SHA-256 of it, and the form of GELU it was run with, if not its own. */
  model: { path: string; sha256: string; gelu?: string };
  /** 0-based blocks whose activations were recorded. */
  layers: number[];
  /** Where in these blocks. */
  stream: (typeof streamNames)[HookPoint];
  dtype: ShardDtype;
  d_model: number;
  /** Special tokens and patches. */
  tokens_per_image: number;
  /** Tokens before the first patch: CLS, then registers. */
  n_special_tokens: number;
  /** Whether the first token is CLS. */
  cls: boolean;
  grid_height: number;
  grid_width: number;
  /** Where the images came from. `selection` is `"all"`, or the hex SHA-256 of the selected indices as uint32. */
  dataset: {
    kind: string;
    location: string;
    fingerprint: string;
    n_images: number;
    n_selected: number;
    selection: string;
  };
  /** How they became pixels. */
  transform: Record<string, unknown>;
}

/** One complete shard. */
export interface ShardEntry {
  file: string;
  n_images: number;
  n_bytes: number;
}

/** Contents of `metadata.json`, and of `recording.json` while it grows. */
export interface RecordingMetadata extends RecordingInfo {
  /** Images in the shards. */
  n_images: number;
  /** Tokens in the shards, special ones included. */
  n_tokens: number;
  /** How many of the selected images were seen, the skipped ones included. */
  n_done: number;
  shards: ShardEntry[];
  /** Images that could not be read. */
  skipped: { image_index: number; name: string; reason: string }[];
}

/** The Arrow schema of a recording's shards: one row a token. */
export function shardSchema(info: RecordingInfo): Schema {
  const item = info.dtype === "float16" ? new Float16() : new Float32();
  const list = () => new FixedSizeList(info.d_model, new Field("item", item, false));
  const fields = [
    new Field("image_index", new Uint32(), false),
    new Field("token_index", new Uint16(), false),
    ...info.layers.map((layer) => new Field(layerColumn(layer), list(), false)),
  ];
  return new Schema(fields, new Map([[schemaMetadataKey, JSON.stringify(info)]]));
}

const requiredFields: Record<keyof RecordingMetadata, string> = {
  format_version: "number",
  model: "object",
  layers: "array",
  stream: "string",
  dtype: "string",
  d_model: "number",
  tokens_per_image: "number",
  n_special_tokens: "number",
  cls: "boolean",
  grid_height: "number",
  grid_width: "number",
  dataset: "object",
  transform: "object",
  n_images: "number",
  n_tokens: "number",
  n_done: "number",
  shards: "array",
  skipped: "array",
};

/** Names of all metadata fields, in order. */
export const metadataFields: readonly string[] = Object.keys(requiredFields);

/**
 * Where in its blocks a recording was made.
 *
 * @throws {RangeError} If `stream` is none of the names this code knows.
 */
export function recordedHook({ stream }: Pick<RecordingInfo, "stream">): HookPoint {
  const found = Object.entries(streamNames).find(([, name]) => name === stream);
  if (found !== undefined) return found[0] as HookPoint;
  throw new RangeError(
    `Cannot read recording: stream must be one of ${Object.values(streamNames).join(", ")}, current value is ${stream}`,
  );
}

/**
 * Checks how the numbers of a recording are stored.
 *
 * @throws {RangeError} If `dtype` is none of the names this code knows.
 */
export function checkDtype(dtype: string, what: string): asserts dtype is ShardDtype {
  if ((shardDtypes as readonly string[]).includes(dtype)) return;
  throw new RangeError(`Cannot ${what}: dtype must be one of ${shardDtypes.join(", ")}, current value is ${dtype}`);
}

/**
 * Parses the text of a metadata file.
 *
 * @throws {SyntaxError} If it is not JSON or lacks a field.
 * @throws {RangeError} If it was written by a newer version of the format.
 */
export function parseMetadata(text: string, path: string): RecordingMetadata {
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`Cannot read ${path}: it must be JSON`, { cause: error });
  }
  const version = json?.format_version;
  if (typeof version === "number" && version > shardFormatVersion) {
    throw new RangeError(
      `Cannot read ${path}: format version must be at most ${shardFormatVersion}, current value is ${version}; ` +
        `update sparsight to read it`,
    );
  }
  for (const [name, type] of Object.entries(requiredFields)) {
    const value = json?.[name];
    const found = Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
    if (found !== type) {
      throw new SyntaxError(`Cannot read ${path}: ${name} must be of type ${type}, current type is ${found}`);
    }
  }
  return json as unknown as RecordingMetadata;
}
