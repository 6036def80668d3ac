/**
 * Reads the shard folders that saev records: raw float32 of shape `[nImages, nLayers, nTokens, dModel]` in files
 * `acts000000.bin`, …, each as large as a full one and filled up with zeros. Knows the folders before it had a protocol
 * version (2024 to early 2025) and protocols 1.0, 1.1 and 2.1, which name the same fields differently.
 * Format: https://github.com/OSU-NLP-Group/saev, docs and `src/saev/data` at each of these times.
 *
 * @module
 */
import { type FileHandle, open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { metadataFileName } from "./format.ts";
import { readAhead } from "./read_ahead.ts";
import { type TokenKind, type TokenLayout, tokenRange } from "./tokens.ts";

/** Options of {@linkcode SaevShards.readImages}. */
export interface ReadSaevImagesOptions {
  /** A recorded layer as the folder names it; other negative numbers count from the last recorded one. */
  layer: number;
  /**
   * Which tokens.
   *
   * @default {"patches"}
   */
  tokens?: TokenKind;
  /**
   * Images of a batch, at most; batches do not reach over the end of a file.
   *
   * @default {32}
   */
  imagesPerBatch?: number;
  /** Stops between batches. */
  signal?: AbortSignal;
}

/** A folder of saev's shards. */
export interface SaevShards {
  readonly directory: string;
  /** Recorded layers, as the folder names them: they may be negative. */
  readonly layers: readonly number[];
  readonly nImages: number;
  /** How the tokens of an image lie. saev leaves registers out. */
  readonly layout: TokenLayout;
  /**
   * Checks that a layer was recorded.
   *
   * @throws {RangeError} If it was not.
   */
  resolveLayer(layer: number): number;
  /** Activations of one layer in order, each batch of shape `[nImages, nTokens, dModel]`; the next is being read. */
  readImages(options: ReadSaevImagesOptions): AsyncIterable<Float32Array>;
}

/** A file and the images in it. */
interface SaevFile {
  readonly path: string;
  readonly nImages: number;
}

/** Names of the fields, by time; the newest first. */
const names = {
  nPatches: ["content_tokens_per_example", "n_patches_per_img", "patches_per_ex"],
  dModel: ["d_model", "d_vit"],
  nImages: ["n_examples", "n_imgs"],
  tokensPerShard: ["max_tokens_per_shard", "max_patches_per_shard", "n_patches_per_shard", "patches_per_shard"],
} as const;

type Json = Readonly<Record<string, unknown>>;

/** Whether a folder's metadata is that of saev. */
export async function isSaevFolder(directory: string): Promise<boolean> {
  const text = await readFile(join(directory, metadataFileName), "utf8").catch(() => "");
  try {
    const json: Json = JSON.parse(text) ?? {};
    return json.format_version === undefined && names.nPatches.some((name) => json[name] !== undefined);
  } catch {
    return false;
  }
}

/**
 * Opens a folder of saev's shards and checks that all of it is there.
 *
 * @throws {SyntaxError} If its metadata is damaged, or a file is missing or cut short.
 * @throws {TypeError} If it holds other than float32.
 */
export async function openSaevShards(directory: string): Promise<SaevShards> {
  const path = join(directory, metadataFileName);
  const metadata = await readJson(path) as Json;
  if (metadata.dtype !== undefined && metadata.dtype !== "float32") {
    throw new TypeError(`Cannot read ${path}: dtype must be float32, current value is ${metadata.dtype}`);
  }
  const [nPatches, dModel, nImages, tokensPerShard] = [
    names.nPatches,
    names.dModel,
    names.nImages,
    names.tokensPerShard,
  ].map((field) => readCount(metadata, field, path));
  const { layers, cls_token: cls } = metadata;
  if (!Array.isArray(layers) || layers.length === 0 || !layers.every(Number.isInteger)) {
    throw new SyntaxError(`Cannot read ${path}: layers must be a list of integers, current value is ${layers}`);
  }
  if (typeof cls !== "boolean") {
    throw new SyntaxError(`Cannot read ${path}: cls_token must be true or false, current value is ${cls}`);
  }
  const nTokens = nPatches + Number(cls);
  const layout = { d_model: dModel, tokens_per_image: nTokens, n_special_tokens: Number(cls), cls };
  const imageBytes = 4 * layers.length * nTokens * dModel;
  const imagesPerShard = Math.floor(tokensPerShard / (nTokens * layers.length));
  const files = await findFiles(directory, { nImages, imagesPerShard });
  for (const file of files) await checkSize(file, imageBytes);

  const resolveLayer = (layer: number) => {
    const resolved = layers.includes(layer) ? layer : layers[layers.length + layer];
    if (layer < 0 && resolved !== undefined || layers.includes(layer)) return resolved;
    throw new RangeError(`Cannot read layer ${layer} of ${directory}: layer must be one of ${layers.join(", ")}`);
  };
  return {
    directory,
    layers,
    nImages,
    layout,
    resolveLayer,
    async *readImages({ layer, tokens = "patches", imagesPerBatch = 32, signal }) {
      const range = tokenRange(layout, tokens);
      const layerStart = (layers.indexOf(resolveLayer(layer)) * nTokens + range.first) * dModel * 4;
      const length = range.count * dModel;
      for (const { path, nImages } of files) {
        const file = await open(path);
        try {
          const readBatch = async (first: number) => {
            const count = Math.min(imagesPerBatch, nImages - first);
            const values = new Float32Array(count * length);
            await Promise.all(Array.from({ length: count }, (_, i) => {
              const target = new Uint8Array(values.buffer, i * length * 4, length * 4);
              return readFully(file, target, { position: (first + i) * imageBytes + layerStart, path });
            }));
            return values;
          };
          const nBatches = Math.ceil(nImages / imagesPerBatch);
          yield* readAhead(Array.from({ length: nBatches }, (_, i) => i * imagesPerBatch), readBatch, { signal });
        } finally {
          await file.close();
        }
      }
    },
  };
}

/** Files that hold images, as `shards.json` lists them; before there was one, all are full but the last. */
async function findFiles(
  directory: string,
  { nImages, imagesPerShard }: { nImages: number; imagesPerShard: number },
): Promise<SaevFile[]> {
  const path = join(directory, "shards.json");
  if (!await stat(path).then(() => true, () => false)) {
    if (imagesPerShard === 0) {
      throw new SyntaxError(`Cannot read shards in ${directory}: a shard must have room for an image, it has none`);
    }
    return Array.from({ length: Math.ceil(nImages / imagesPerShard) }, (_, shard) => ({
      path: join(directory, `acts${String(shard).padStart(6, "0")}.bin`),
      nImages: Math.min(imagesPerShard, nImages - shard * imagesPerShard),
    }));
  }
  const listed = await readJson(path);
  const isListed = (entry: Json) => typeof entry?.name === "string" && /^acts\d+\.bin$/.test(entry.name);
  if (!Array.isArray(listed) || !listed.every(isListed)) {
    throw new SyntaxError(`Cannot read ${path}: it must list files acts000000.bin, acts000001.bin, …`);
  }
  const files = listed.map((entry: Json) => ({
    path: join(directory, entry.name as string),
    nImages: readCount(entry, names.nImages, path, 0),
  }));
  const total = files.reduce((sum, file) => sum + file.nImages, 0);
  if (total !== nImages) {
    throw new SyntaxError(
      `Cannot read ${path}: it must list ${nImages} images as ${metadataFileName} does, it lists ${total}; ` +
        `the recording may have been stopped`,
    );
  }
  // A shard that fills up exactly is followed by one without images.
  return files.filter((file) => file.nImages > 0);
}

async function checkSize({ path, nImages }: SaevFile, imageBytes: number): Promise<void> {
  const size = await stat(path).then((found) => found.size, () => undefined);
  if (size !== undefined && size >= nImages * imageBytes) return;
  throw new SyntaxError(
    `Cannot read ${path}: it must hold ${nImages} images of ${imageBytes} bytes, ` +
      `${size === undefined ? "the file is missing" : `current size is ${size}`}`,
  );
}

async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, "utf8");
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError(`Cannot read ${path}: it must be JSON`, { cause });
  }
}

function readCount(json: Json, fields: readonly string[], path: string, least = 1): number {
  const name = fields.find((name) => json[name] !== undefined);
  const value = name === undefined ? undefined : json[name];
  if (Number.isInteger(value) && (value as number) >= least) return value as number;
  throw new SyntaxError(
    `Cannot read ${path}: ${name ?? fields.join(" or ")} must be an integer of ${least} or more, ` +
      `current value is ${value}`,
  );
}

async function readFully(
  file: FileHandle,
  target: Uint8Array,
  { position, path }: { position: number; path: string },
): Promise<void> {
  for (let done = 0; done < target.length;) {
    const { bytesRead } = await file.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) throw new SyntaxError(`Cannot read ${path}: the file was cut short while it was read`);
    done += bytesRead;
  }
}
