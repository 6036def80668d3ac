/**
 * Files of `torch.save` before PyTorch 1.6, and since then of `_use_new_zipfile_serialization=False`: five pickles (a
 * magic number, a version, facts about the machine, the object, the keys of its storages), then the storages one after
 * the other, each behind its length.
 * Format: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
 *
 * @module
 */
import { type ByteSource, damaged } from "./byte_source.ts";
import { bytesPerNumber } from "./dtypes.ts";
import { MAX_PICKLE_BYTES, readPickle } from "./pickle.ts";
import { PickleCutShort } from "./pickle_machine.ts";
import type { TensorLayout } from "./tensor_layout.ts";
import { layOutTorch } from "./torch_layout.ts";
import { readStorageId, torchGlobals, type TorchStorage } from "./torch_objects.ts";

const magicNumber = 0x1950a86a20f9469cfc6cn;
const protocolVersion = 1001;

// The pickles of most checkpoints fit in the first read.
const FIRST_READ_BYTES = 2 ** 16;

/**
 * Layout of a file without a zip whose pickles begin at byte `start`.
 *
 * @throws {SyntaxError} If it is damaged, or another pickle.
 * @throws {TypeError} If its pickles name what is not allowed.
 */
export async function readTorchLegacyLayout(
  source: ByteSource,
  { start }: { start: number },
): Promise<TensorLayout> {
  const { root, isLittleEndian, keys, storages, end } = await readPickles(source, start);
  const places = new Map<string, { position: number; length: number }>();
  let position = start + end;
  for (const key of keys) {
    const storage = typeof key === "string" ? storages.get(key) : undefined;
    if (storage === undefined) throw damaged(source.name, `storage ${key} must be one that its tensors use`);
    const header = new DataView((await source.read(position, 8)).buffer);
    const length = Number(header.getBigInt64(0, isLittleEndian)) * bytesPerNumber[storage.dtype ?? "uint8"];
    position += 8;
    if (length < 0 || position + length > source.size) {
      throw damaged(source.name, `storage ${key} of ${length} bytes must lie within the file, it was cut short`);
    }
    places.set(storage.key, { position, length });
    position += length;
  }
  return layOutTorch(root, {
    file: source.name,
    format: "torch-legacy",
    bigEndian: !isLittleEndian,
    locate({ key }) {
      const place = places.get(key);
      if (place === undefined) throw damaged(source.name, `storage ${key} must be in the file`);
      return place;
    },
  });
}

interface LegacyPickles {
  readonly root: unknown;
  readonly isLittleEndian: boolean;
  readonly keys: readonly unknown[];
  readonly storages: ReadonlyMap<string, TorchStorage>;
  /** Where the storages begin, in bytes from the first pickle. */
  readonly end: number;
}

/** Reads the pickles from as much of the file as they turn out to need. */
async function readPickles(source: ByteSource, start: number): Promise<LegacyPickles> {
  const available = Math.min(source.size - start, MAX_PICKLE_BYTES);
  for (let length = Math.min(FIRST_READ_BYTES, available);; length = Math.min(8 * length, available)) {
    const bytes = await source.read(start, length);
    try {
      return parsePickles(bytes, source.name);
    } catch (error) {
      if (!(error instanceof PickleCutShort) || length === available) throw error;
    }
  }
}

function parsePickles(bytes: Uint8Array, file: string): LegacyPickles {
  const storages = new Map<string, TorchStorage>();
  const globals = torchGlobals(file);
  let end = 0;
  const next = (): unknown => {
    const pickle = readPickle(bytes, {
      file,
      globals,
      start: end,
      persistentLoad(id) {
        const storage = readStorageId(id, file);
        storages.set(storage.key, storage);
        return storage;
      },
    });
    end = pickle.end;
    return pickle.value;
  };
  if (next() !== magicNumber) throw damaged(file, "a file that begins with a pickle must begin with torch's own");
  const version = next();
  if (version !== protocolVersion) {
    throw damaged(file, `its protocol version must be ${protocolVersion}, current value is ${version}`);
  }
  const machine = next();
  const isLittleEndian = !(machine instanceof Map) || machine.get("little_endian") !== false;
  const root = next();
  const keys = next();
  if (!Array.isArray(keys)) throw damaged(file, "the keys of its storages must be a list");
  return { root, isLittleEndian, keys, storages, end };
}
