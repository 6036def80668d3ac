/**
 * Models whose weights lie in other files, such as `model.onnx_data`. onnxruntime is told their folder, and maps from
 * them only the weights that an edited model still has.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { OnnxModel } from "./model.ts";

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
