/**
 * Where a checkpoint is: its file of weights, and the small files beside it that say what the weights leave out
 * (`config.json`, `cfg.json`, normalization sidecars), whether they are on this machine, on a server, on the Hugging
 * Face Hub or, without neighbors, in memory. Readers see no difference.
 *
 * @module
 */
import type { HubOptions } from "../hub/hub.ts";
import { type ByteSource, openByteSource } from "../tensors/byte_source.ts";
import { openHttpSource } from "../tensors/http_source.ts";

/** A checkpoint that was found. */
export interface CheckpointSource {
  /** Name of the file of weights, such as `"ae.pt"`; empty for bytes in memory. */
  readonly file: string;
  /** Where that file is: a path, a URL, a name on the Hub. */
  readonly location: string;
  readonly bytes: ByteSource;
  /** Bytes of a file beside it; `undefined` if there is none. */
  sibling(name: string): Promise<Uint8Array | undefined>;
}

/** Options of {@linkcode openCheckpointSource}. */
export interface CheckpointSourceOptions {
  /**
   * How files of the Hub are fetched.
   *
   * @default the cache and the settings of `huggingface_hub`
   */
  hub?: HubOptions;
  /**
   * Stops requests.
   *
   * @default never
   */
  signal?: AbortSignal;
}

/** Names of files of weights, by which projects are recognized; those of other names must be alone in their folder. */
const weightsNames = [
  "sae_weights.safetensors",
  "sae.safetensors",
  "sae.pt",
  "weights.pt",
  "ae.pt",
  "state_dict.pth",
  "model.safetensors",
];

// Files of tensors that are no weights.
const otherNames = new Set(["mean.pt", "std.pt", "sparsity.safetensors"]);

// The files that are read whole are configurations and statistics.
const MAX_SIBLING_BYTES = 2 ** 26;

/**
 * Finds a checkpoint.
 *
 * @param source A path or `file:` URL of a file or folder, an `http(s):` URL of a file (or, with a slash at its end, of a
 *   folder), `hf:owner/repository/path` of a file or folder, or bytes.
 * @throws {Error} If there is none, or a folder holds several.
 */
export async function openCheckpointSource(
  source: string | URL | Uint8Array,
  options: CheckpointSourceOptions = {},
): Promise<CheckpointSource> {
  if (source instanceof Uint8Array) {
    const bytes = await openByteSource(source);
    return { file: "", location: bytes.name, bytes, sibling: () => Promise.resolve(undefined) };
  }
  const text = String(source);
  if (/^https?:\/\//i.test(text)) return await openAtUrl(new URL(text), options);
  if (text.startsWith("hf:")) return await openOnHub(text, options);
  if (/^file:\/\//i.test(text)) {
    const { fileURLToPath } = await import("node:url");
    return await openAtPath(fileURLToPath(text));
  }
  return await openAtPath(text);
}

/** Whether a name is that of a file rather than a folder. */
const isFileName = (name: string) => /\.(pt|pth|bin|ckpt|npz|safetensors|pkl|json)$/i.test(name);

async function openAtPath(path: string): Promise<CheckpointSource> {
  // Only here, so that the module can be imported where there are no files.
  const { readdir, readFile, stat } = await import("node:fs/promises");
  const { basename, dirname, join } = await import("node:path");
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    throw new Error(`Cannot open SAE ${path}: there must be a folder or a file of that name, there is none`);
  }
  const isWeights = !found.isDirectory() && !path.endsWith(".json");
  const folder = found.isDirectory() ? path : dirname(path);
  const file = isWeights ? basename(path) : chooseWeights(await readdir(folder), path);
  const location = isWeights ? path : join(folder, file);
  return {
    file,
    location,
    bytes: await openByteSource(location),
    async sibling(name) {
      const stats = await stat(join(folder, name)).catch(() => undefined);
      if (!stats?.isFile()) return undefined;
      checkSize(join(folder, name), stats.size);
      return await readFile(join(folder, name));
    },
  };
}

async function openAtUrl(url: URL, options: CheckpointSourceOptions): Promise<CheckpointSource> {
  const beside = (name: string) => {
    const other = new URL(encodeURIComponent(name), url);
    other.search = url.search;
    return other;
  };
  const read = async (name: string) => {
    const source = await openHttpSource(beside(name), { ...options, forbiddenIsMissing: true });
    if (source === undefined) return undefined;
    checkSize(source.name, source.size);
    return await source.read(0, source.size);
  };
  const isWeights = !/(\/|\.json)$/.test(url.pathname);
  const names = isWeights ? [decodeURIComponent(url.pathname.split("/").at(-1)!)] : weightsNames;
  for (const file of names) {
    const bytes = await openHttpSource(isWeights ? url : beside(file), options);
    if (bytes !== undefined) return { file, location: bytes.name, bytes, sibling: read };
  }
  const what = isWeights ? "a file of that name" : `one of ${weightsNames.join(", ")}`;
  throw new Error(`Cannot open SAE ${url.origin}${url.pathname}: the server must have ${what}, it has none`);
}

async function openOnHub(source: string, options: CheckpointSourceOptions): Promise<CheckpointSource> {
  const { fetchHubFile, listHubFiles } = await import("../hub/hub.ts");
  const { HubUnreachableError } = await import("../hub/request.ts");
  const { hubSettings } = await import("../hub/settings.ts");
  const { formatHubSource, parseHubSource } = await import("../hub/source.ts");
  const hub = { signal: options.signal, ...options.hub };
  const parsed = parseHubSource(source);
  const parent = isFileName(parsed.path) ? parsed.path.split("/").slice(0, -1).join("/") : parsed.path;
  const nameOf = (name: string) => formatHubSource({ ...parsed, path: parent === "" ? name : `${parent}/${name}` });
  const fetchAt = async (name: string) => await openAtPath(await fetchHubFile(nameOf(name), hub));
  if (isFileName(parsed.path) && !parsed.path.endsWith(".json")) return await open(parsed.path.split("/").at(-1)!);
  const names = await list();
  if (names !== undefined) return await open(chooseWeights(names, source));
  for (const name of weightsNames) {
    // Out of reach of the Hub, the cache is all there is.
    const found = await open(name).catch(() => undefined);
    if (found !== undefined) return found;
  }
  throw new Error(`Cannot open SAE ${source}: the Hub must be reachable, and none of its files is in the cache`);

  async function open(file: string): Promise<CheckpointSource> {
    const cached = await fetchAt(file);
    const others = list();
    others.catch(() => {});
    return {
      ...cached,
      location: nameOf(file),
      async sibling(name) {
        const names = await others;
        if (names === undefined) return await cached.sibling(name);
        if (!names.includes(name)) return undefined;
        const { readFile } = await import("node:fs/promises");
        return await readFile(await fetchHubFile(nameOf(name), hub));
      },
    };
  }

  /** Files of the folder; `undefined` if the Hub cannot be asked. */
  async function list(): Promise<string[] | undefined> {
    if ((await hubSettings(hub)).offline) return undefined;
    try {
      const files = await listHubFiles(formatHubSource({ ...parsed, path: parent }), hub);
      const prefix = parent === "" ? "" : `${parent}/`;
      return files.map(({ path }) => path.slice(prefix.length)).filter((name) => !name.includes("/"));
    } catch (error) {
      if (error instanceof HubUnreachableError) return undefined;
      throw error;
    }
  }
}

/** The file of weights among those of a folder. */
function chooseWeights(names: readonly string[], folder: string): string {
  const known = weightsNames.find((name) => names.includes(name));
  if (known !== undefined) return known;
  // ViT-Prisma names checkpoints by the images that were seen: the last one is the trained one.
  const seen = (name: string) => Number(/^n_images_(\d+)\.pt$/.exec(name)?.[1] ?? NaN);
  const snapshots = names.filter((name) => !Number.isNaN(seen(name))).sort((a, b) => seen(b) - seen(a));
  if (snapshots.length > 0) return snapshots[0];
  const others = names.filter((name) => /\.(pt|pth|safetensors|npz)$/.test(name) && !otherNames.has(name)).sort();
  if (others.length === 1) return others[0];
  throw new Error(
    `Cannot open SAE ${folder}: it must hold ${weightsNames.join(", ")} or one other checkpoint, ` +
      (others.length === 0 ? "it holds none" : `it holds ${others.slice(0, 8).join(", ")}: choose one`),
  );
}

function checkSize(name: string, size: number): void {
  if (size > MAX_SIBLING_BYTES) {
    throw new RangeError(
      `Cannot read ${name}: a file beside a checkpoint must have at most ${MAX_SIBLING_BYTES} bytes, it has ${size}`,
    );
  }
}
