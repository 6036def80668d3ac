/**
 * Opens SAEs that other projects published: finds out what a file is, and reads it as its authors trained it. Nothing in
 * a file is ever executed.
 *
 * @module
 */
import { isClipScope, readClipScope } from "../checkpoints/clip_scope.ts";
import type { CheckpointDictionary, DictionaryOptions } from "../checkpoints/dictionary.ts";
import { isSaev, readSaev } from "../checkpoints/saev.ts";
import { openTensorFile, type TensorFile } from "../checkpoints/tensor_file.ts";
import { createSae, type Sae } from "./sae.ts";

interface CheckpointFormat {
  readonly name: string;
  is(file: TensorFile): boolean;
  read(file: TensorFile, options: DictionaryOptions): Promise<CheckpointDictionary>;
}

const formats: readonly CheckpointFormat[] = [
  { name: "saev", is: isSaev, read: readSaev },
  { name: "CLIP-Scope", is: isClipScope, read: readClipScope },
];

// Enough names to recognize a layout by.
const SHOWN_NAMES = 8;

/**
 * Opens a checkpoint.
 *
 * @throws {TypeError} If the file's layout is none that is known.
 */
export async function loadCheckpoint(path: string, options: DictionaryOptions = {}): Promise<Sae> {
  const file = await openTensorFile(path);
  try {
    const format = formats.find((candidate) => candidate.is(file));
    if (format === undefined) {
      const names = [...file.entries.keys()];
      throw new TypeError(
        `Cannot open SAE ${path}: its layout must be one of ${
          formats.map(({ name }) => name).join(", ")
        } or a folder of ` +
          `ours, tensors are ${names.slice(0, SHOWN_NAMES).join(", ")}${names.length > SHOWN_NAMES ? ", …" : ""}`,
      );
    }
    const { weights, format: name, decisions, training } = await format.read(file, options);
    return createSae(weights, { format: name, decisions, training });
  } finally {
    await file.close();
  }
}
