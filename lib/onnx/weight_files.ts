/**
 * Models whose weights lie in other files, such as `model.onnx_data`. onnxruntime is told their folder, and maps from
 * them only the weights that an edited model still has.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { OnnxInitializer, OnnxModel } from "./model.ts";
import { bytesField, joinPieces, readFields } from "./wire.ts";

/**
 * Checks that every file that holds weights of the model is there and long enough.
 *
 * @returns Paths of these files, sorted; none where all weights are inside the model.
 * @throws {Error} If one is missing or cut short.
 */
export async function findWeightFiles(model: OnnxModel, folder: string): Promise<string[]> {
  const ends = new Map<string, number>();
  for (const { external } of model.initializers.values()) {
    if (external === undefined) continue;
    const { location, offset, length = 0 } = external;
    ends.set(location, Math.max(ends.get(location) ?? 0, offset + length));
  }
  for (const [location, end] of ends) {
    const size = await stat(join(folder, location)).then((found) => found.size, () => undefined);
    if (size === undefined || size < end) {
      throw new Error(
        `Cannot read weights: ${location} must be beside the model and hold ${end} bytes, ` +
          (size === undefined ? "it is missing" : `current size is ${size}`),
      );
    }
  }
  return [...ends.keys()].sort().map((location) => join(folder, location));
}

/** Hex SHA-256 of a model: of its file, followed by the files that hold its weights. */
export async function hashModel(bytes: Uint8Array, weightFiles: readonly string[]): Promise<string> {
  const hash = createHash("sha256").update(bytes);
  for (const file of weightFiles) await addFile(hash, file);
  return hash.digest("hex");
}

async function addFile(hash: Hash, path: string): Promise<void> {
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
}

/** A model, and the folder that its weight files are in. */
export interface PlacedModel {
  readonly model: OnnxModel;
  readonly folder: string;
}

/**
 * The same model with the real names of its weight files where those beside it are links, as in the cache of the Hub:
 * onnxruntime follows no link that leads out of the folder it was given.
 */
export async function followWeightLinks({ model, folder }: PlacedModel): Promise<PlacedModel> {
  const names = new Map<string, string>();
  const folders = new Set<string>();
  for (const { external } of model.initializers.values()) {
    // Names that lead elsewhere by themselves are onnxruntime's to refuse.
    if (external === undefined || basename(external.location) !== external.location) continue;
    if (names.has(external.location)) continue;
    const path = await realpath(join(folder, external.location));
    names.set(external.location, basename(path));
    folders.add(dirname(path));
  }
  const [real] = folders;
  if (folders.size !== 1 || real === await realpath(folder)) return { model, folder };
  const initializers = Array.from(model.initializers, ([name, initializer]) => {
    const location = initializer.external && names.get(initializer.external.location);
    return [name, location === undefined ? initializer : withLocation(initializer, location)] as const;
  });
  return { model: { ...model, initializers: new Map(initializers) }, folder: real };
}

const EXTERNAL_DATA = 13;

function withLocation(initializer: OnnxInitializer, location: string): OnnxInitializer {
  const entry = (key: string, value: string) =>
    bytesField(EXTERNAL_DATA, [...bytesField(1, key), ...bytesField(2, value)]);
  const { offset, length } = initializer.external!;
  const kept = [...readFields(initializer.bytes)].filter(({ field }) => field !== EXTERNAL_DATA).map(({ raw }) => raw);
  const external = [
    ...entry("location", location),
    ...entry("offset", String(offset)),
    ...(length === undefined ? [] : entry("length", String(length))),
  ];
  return { ...initializer, bytes: joinPieces([...kept, ...external]), external: { location, offset, length } };
}
