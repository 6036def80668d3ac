/**
 * From the dicts and lists of a PyTorch checkpoint to dotted paths: tensors with their place in the file, and the plain
 * values between them. Shared by the zip files of `torch.save` and the older ones without a zip.
 *
 * @module
 */
import { damaged, refused } from "./byte_source.ts";
import { bytesPerNumber } from "./dtypes.ts";
import { MAX_PICKLE_STEPS } from "./pickle.ts";
import { checkStoredTensor, type TensorLayout } from "./tensor_layout.ts";
import { TorchStorage, TorchTensor } from "./torch_objects.ts";

// A pickle can refer to the same dict many times over, or to itself: what it unfolds to is bounded by these.
const MAX_DEPTH = 64;
const MAX_PATHS = 100_000;
const MAX_PATH_LENGTH = 1000;
const MAX_VISITS = MAX_PICKLE_STEPS;

/** Where the storage of a key lies, in bytes. */
export type LocateStorage = (storage: TorchStorage) => { position: number; length: number };

/**
 * Layout of the tensors and values that `root` holds.
 *
 * @throws {SyntaxError} If a tensor reaches beyond its storage, or two entries have one path.
 * @throws {TypeError} If it is nested too deeply, or unfolds to too many entries.
 */
export function layOutTorch(
  root: unknown,
  { file, format, bigEndian, locate }: {
    file: string;
    format: TensorLayout["format"];
    bigEndian: boolean;
    locate: LocateStorage;
  },
): TensorLayout {
  const { tensors, values } = unfold(root, file);
  const stored = [...tensors].map(([name, { storage, dtype, offset, shape, strides }]) => {
    const { position, length } = locate(storage);
    const width = bytesPerNumber[storage.dtype ?? "uint8"];
    const view = { position: position + width * storage.first, length: width * storage.length };
    if (width * storage.first + view.length > length) {
      throw damaged(file, `storage ${storage.key} must hold ${view.length} bytes, it holds ${length}`);
    }
    const tensor = { dtype, shape, strides, position: view.position + bytesPerNumber[dtype] * offset, bigEndian };
    return [name, checkStoredTensor(tensor, { file, name, storage: view })] as const;
  });
  return { format, tensors: new Map(stored), values };
}

/** Tensors and plain values of nested dicts and lists, by dotted path. */
export function unfold(
  root: unknown,
  file: string,
): { tensors: Map<string, TorchTensor>; values: Map<string, unknown> } {
  const tensors = new Map<string, TorchTensor>();
  const values = new Map<string, unknown>();
  let visits = 0;
  visit(root, "", 0);
  return { tensors, values };

  function visit(value: unknown, path: string, depth: number): void {
    count(depth);
    if (value instanceof Map) {
      for (const [key, child] of value) visit(child, join(path, key), depth + 1);
    } else if (Array.isArray(value) && !isPlain(value, depth)) {
      value.forEach((child, index) => visit(child, join(path, index), depth + 1));
    } else {
      if (tensors.has(path) || values.has(path)) throw damaged(file, `entries must have paths of their own: ${path}`);
      if (tensors.size + values.size >= MAX_PATHS) throw refused(file, `it must hold at most ${MAX_PATHS} entries`);
      if (value instanceof TorchTensor) tensors.set(path, value);
      else values.set(path, plain(value));
    }
  }

  /** Whether a list holds nothing but values and lists of values, so that it is itself one. */
  function isPlain(list: readonly unknown[], depth: number): boolean {
    return list.every((item) => {
      count(depth + 1);
      return Array.isArray(item) ? isPlain(item, depth + 1) : !(item instanceof Map || item instanceof TorchTensor);
    });
  }

  /** Globals become their names, storages that stand alone those of their keys. */
  function plain(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(plain);
    if (value instanceof TorchStorage) return `storage ${value.key}`;
    if (value !== null && typeof value === "object" && "name" in value) return value.name;
    return value;
  }

  function join(path: string, key: unknown): string {
    if (key !== null && typeof key === "object") throw refused(file, "keys of dicts must be text or numbers");
    const joined = path === "" ? String(key) : `${path}.${key}`;
    if (joined.length > MAX_PATH_LENGTH) {
      throw refused(file, `paths must have at most ${MAX_PATH_LENGTH} characters, one begins ${joined.slice(0, 50)}`);
    }
    return joined;
  }

  function count(depth: number): void {
    visits++;
    if (depth > MAX_DEPTH) throw refused(file, `dicts and lists must be nested at most ${MAX_DEPTH} deep`);
    if (visits > MAX_VISITS) throw refused(file, `dicts and lists must unfold to at most ${MAX_VISITS} items`);
  }
}
