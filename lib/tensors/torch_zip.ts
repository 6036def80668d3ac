/**
 * Files of `torch.save` since PyTorch 1.6: a zip archive with a pickle, `data.pkl`, that describes tensors, and one
 * uncompressed entry for each storage of numbers. Only the directory and the pickle are read here.
 * Format: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
 *
 * @module
 */
import { type ByteSource, damaged, refused } from "./byte_source.ts";
import { MAX_PICKLE_BYTES, readPickle } from "./pickle.ts";
import type { TensorLayout } from "./tensor_layout.ts";
import { layOutTorch } from "./torch_layout.ts";
import { readStorageId, torchGlobals, type TorchStorage } from "./torch_objects.ts";
import { locateZipEntry, type ZipEntry } from "./zip.ts";

const pickleName = "data.pkl";

/** The folder in which a torch archive's entries are, with its slash; `undefined` if a zip is none. */
export function findTorchArchive(entries: ReadonlyMap<string, ZipEntry>): string | undefined {
  for (const name of entries.keys()) {
    if (/^[^/]*\/data\.pkl$/.test(name)) return name.slice(0, -pickleName.length);
  }
  return undefined;
}

/**
 * Layout of a torch archive.
 *
 * @throws {SyntaxError} If it is damaged.
 * @throws {TypeError} If an entry that is needed is compressed, or the pickle names what is not allowed.
 */
export async function readTorchZipLayout(
  source: ByteSource,
  { entries, archive }: { entries: ReadonlyMap<string, ZipEntry>; archive: string },
): Promise<TensorLayout> {
  const file = source.name;
  const find = (name: string): ZipEntry => {
    const entry = entries.get(archive + name);
    if (entry === undefined) throw damaged(file, `the archive must hold ${archive}${name}`);
    if (entry.isDeflated || entry.length !== entry.fullLength) {
      throw refused(file, `zip entry ${entry.name} must be stored as it is, it is compressed`);
    }
    return entry;
  };
  const readEntry = async (name: string, maxBytes: number) => {
    const entry = find(name);
    if (entry.length > maxBytes) {
      throw refused(file, `zip entry ${entry.name} must have at most ${maxBytes} bytes, it has ${entry.length}`);
    }
    return await source.read(await locateZipEntry(source, entry), entry.length);
  };

  const storages = new Map<string, TorchStorage>();
  const { value } = readPickle(await readEntry(pickleName, MAX_PICKLE_BYTES), {
    file,
    globals: torchGlobals(file),
    persistentLoad(id) {
      const storage = readStorageId(id, file);
      storages.set(storage.key, storage);
      return storage;
    },
  });
  const places = new Map<string, { position: number; length: number }>();
  for (const key of storages.keys()) {
    const entry = find(`data/${key}`);
    places.set(key, { position: await locateZipEntry(source, entry), length: entry.length });
  }
  return layOutTorch(value, {
    file,
    format: "torch-zip",
    bigEndian: entries.has(`${archive}byteorder`) && await readByteOrder(await readEntry("byteorder", 16)) === "big",
    locate: ({ key }) => places.get(key)!,
  });

  function readByteOrder(bytes: Uint8Array): string {
    const order = new TextDecoder().decode(bytes);
    if (order !== "little" && order !== "big") {
      throw damaged(file, `byteorder must be one of little, big, current value is ${order}`);
    }
    return order;
  }
}
