/**
 * Opens a file of named tensors, whichever container it is in, and reads the tensors one by one: opening a checkpoint
 * of gigabytes reads kilobytes. Nothing in a file is ever executed.
 *
 * @module
 */
import { type ByteSource, damaged, openByteSource } from "./byte_source.ts";
import type { TensorDtype } from "./dtypes.ts";
import { readNpzLayout } from "./npz.ts";
import { openHttpSource } from "./http_source.ts";
import { looksLikeSafetensors, readSafetensorsLayout } from "./safetensors.ts";
import { readRowsOf, readTensor, type TensorLayout, transposeOf } from "./tensor_layout.ts";
import { readTorchLegacyLayout } from "./torch_legacy.ts";
import { findTorchArchive, readTorchZipLayout } from "./torch_zip.ts";
import { readZipDirectory } from "./zip.ts";

export type { TensorDtype } from "./dtypes.ts";

/** What is known of a tensor before it is read. */
export interface TensorEntry {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
}

/** Options of {@linkcode TensorFile.read}. */
export interface ReadTensorOptions {
  /**
   * Swap the axes of a matrix on the way.
   *
   * @default {false}
   */
  transpose?: boolean;
}

/** An open file of tensors. */
export interface TensorFile {
  readonly format: "torch-zip" | "torch-legacy" | "safetensors" | "npz";
  /**
   * Tensors by their dotted path in the file: nested dicts joined with ".", such as "state_dict.W_enc"; items of lists
   * by their index, such as "layers.0". A file that is one bare tensor names it "".
   */
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /**
   * Everything in the file that is not a tensor, by dotted path: numbers, strings, booleans, null, bytes, lists of
   * these; integers too large for a number are bigints. Empty dicts are left out. For safetensors: the texts of its
   * metadata, such as "__metadata__.format".
   */
  readonly values: ReadonlyMap<string, unknown>;
  /** Line of text before the container (saev's checkpoints begin with a JSON line), without the line break. */
  readonly headerLine: string | undefined;
  /**
   * Numbers of a tensor as float32, row-major whatever its strides (float64 rounds, float16 and bfloat16 widen
   * exactly, integers convert).
   *
   * @throws {RangeError} If there is no such tensor, or one that is to be transposed is no matrix.
   */
  read(name: string, options?: ReadTensorOptions): Promise<Float32Array>;
  /**
   * Rows `first` to `first + count` along the first axis, or, with `transpose`, columns of a matrix, one after the other.
   * Reads only what it has to: contiguous numbers at once, scattered ones piece by piece, several at a time.
   *
   * @throws {RangeError} If there is no such tensor, or it has no such rows.
   */
  readRows(name: string, options: { first: number; count: number } & ReadTensorOptions): Promise<Float32Array>;
  /** Closes the file. */
  close(): Promise<void>;
}

/**
 * Opens a checkpoint by path or URL or from its bytes: `torch.save` files, new (zip) and old, safetensors and npz, each
 * with or without a line of text before it. Of a file on a server only the parts that are needed are read.
 *
 * @throws {Error} If the file cannot be opened.
 * @throws {SyntaxError} If it is of another format, damaged or cut short.
 * @throws {TypeError} If it holds what is refused: compressed entries, or Python objects other than tensors and plain
 * data, which are named.
 */
export async function openTensorFile(source: string | URL | Uint8Array): Promise<TensorFile> {
  if (source instanceof Uint8Array) return await readTensorFile(await openByteSource(source));
  if (/^https?:\/\//i.test(String(source))) {
    const bytes = await openHttpSource(new URL(source));
    if (bytes === undefined) throw new Error(`Cannot read ${source}: the server must have it, it has not`);
    return await readTensorFile(bytes);
  }
  const path = source instanceof URL ? (await import("node:url")).fileURLToPath(source) : source;
  return await readTensorFile(await openByteSource(path));
}

/**
 * Opens a checkpoint from where its bytes are; closing the one closes the other.
 *
 * @throws {SyntaxError | TypeError} As {@linkcode openTensorFile} does.
 */
export async function readTensorFile(bytes: ByteSource): Promise<TensorFile> {
  try {
    const headerLine = await readHeaderLine(bytes);
    const start = headerLine?.end ?? 0;
    return makeTensorFile(bytes, await readLayout(bytes, start), headerLine?.text);
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

async function readLayout(source: ByteSource, start: number): Promise<TensorLayout> {
  const head = await source.read(start, Math.min(9, source.size - start));
  // First: the length that it begins with may begin as the others do, but is never followed as they are.
  if (looksLikeSafetensors(head)) return readSafetensorsLayout(source, { start });
  if (isZip(head)) {
    const entries = await readZipDirectory(source);
    const archive = findTorchArchive(entries);
    return archive === undefined ? readNpzLayout(source, entries) : readTorchZipLayout(source, { entries, archive });
  }
  if (isPickle(head)) return readTorchLegacyLayout(source, { start });
  const found = head.length === 0 ? "it is empty" : `it begins with bytes ${[...head].join(" ")}`;
  throw damaged(source.name, `the file must be torch, safetensors or npz, ${found}`);
}

const isZip = (head: Uint8Array) => head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4;
const isPickle = (head: Uint8Array) => head[0] === 0x80;

// Headers are a few hundred bytes; a longer first line is no header.
const MAX_LINE_BYTES = 2 ** 16;

/** The line of JSON that saev writes before the container, and where the container begins. */
async function readHeaderLine(source: ByteSource): Promise<{ text: string; end: number } | undefined> {
  const head = await source.read(0, Math.min(9, source.size));
  // A safetensors file may begin with the same byte: it is then a length of which zeros follow.
  if (head[0] !== 0x7b || looksLikeSafetensors(head)) return undefined;
  const bytes = await source.read(0, Math.min(source.size, MAX_LINE_BYTES));
  const length = bytes.indexOf(0x0a);
  if (length === -1) {
    throw damaged(source.name, `its first line must be a header of at most ${MAX_LINE_BYTES} bytes, it does not end`);
  }
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length)), end: length + 1 };
  } catch (cause) {
    throw damaged(source.name, "its first line must be UTF-8 text", { cause });
  }
}

function makeTensorFile(source: ByteSource, layout: TensorLayout, headerLine: string | undefined): TensorFile {
  const { format, tensors, values } = layout;
  const find = (name: string) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) {
      const names = [...tensors.keys()];
      const shown = names.slice(0, 20).join(", ") + (names.length > 20 ? ", …" : "");
      throw new RangeError(
        `Cannot read tensor of ${source.name}: name must be one of ${shown}, current value is ${name}`,
      );
    }
    return tensor;
  };
  return {
    format,
    entries: new Map([...tensors].map(([name, { dtype, shape }]) => [name, { dtype, shape }])),
    values,
    headerLine,
    async read(name, options = {}) {
      const tensor = find(name);
      return await readTensor(source, options.transpose ? transposeOf(tensor, name) : tensor);
    },
    async readRows(name, { transpose, ...rows }) {
      const tensor = find(name);
      return await readRowsOf(source, transpose ? transposeOf(tensor, name) : tensor, { name, ...rows });
    },
    close: () => source.close(),
  };
}
