/**
 * Opens SAEs: ours, and those that other projects published, from this machine, from a server, or from the Hugging Face
 * Hub.
 *
 * @module
 */
import type { DictionaryOptions } from "../checkpoints/dictionary.ts";
import { openCheckpointSource } from "../checkpoints/source.ts";
import { readCheckpoint } from "./checkpoint.ts";
import type { Sae } from "./sae.ts";

/**
 * Opens an SAE: one that `saveSae()` wrote, or a checkpoint of saev, CLIP-Scope, SAELens, ViT-Prisma,
 * dictionary_learning, sparsify, OpenAI, sdxl-unbox, MSAE, Overcomplete, or in the layout of HugoFry and PatchSAE. It is
 * read as it was trained, as far as its files tell; `describeSae()` says what was decided, and options overrule it.
 *
 * @param source Path of its file of weights or of its folder; the same as `hf:owner/repository/path`, of which files are
 *   fetched into the cache; a URL of the file, of which the parts that are needed are read; or the bytes of the file.
 *   `config.json`, `cfg.json` and normalization sidecars beside the weights are followed.
 * @throws {Error} If it is not there.
 * @throws {SyntaxError} If a file is damaged.
 * @throws {TypeError} If it is of a format or architecture that is not supported.
 * @throws {RangeError} If weights, thresholds or `k` do not fit its sizes.
 */
export async function loadSae(source: string | URL | Uint8Array, options: DictionaryOptions = {}): Promise<Sae> {
  // Queries of signed links are secrets.
  const name = source instanceof Uint8Array ? "from bytes" : String(source).replace(/^(https?:\/\/[^?#]*).*/is, "$1");
  try {
    const { hub, signal } = options;
    return await readCheckpoint(await openCheckpointSource(source, { hub, signal }), options);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw inContext(error as Error, name);
  }
}

/** The error with the SAE's name in place of what could not be done. */
function inContext(error: Error, name: string): Error {
  const { message, constructor } = error;
  const [, subject = "", required = message] = /^Cannot \w+ (.*?): (.*)$/s.exec(message) ?? [];
  // What is wrong with a file beside the weights is told by its name.
  const reason = subject.endsWith(".json") ? `${subject}: ${required}` : required;
  // Pickles of whole objects would have to be executed.
  const hint = /objects must be tensors and plain data/.test(message)
    ? "; open it in Python where that class is known and save its state_dict() with torch.save, and its configuration as " +
      "config.json beside it"
    : "";
  const isPlain = [SyntaxError, TypeError, RangeError].some((known) => known === constructor);
  const ErrorClass = isPlain ? constructor as ErrorConstructor : Error;
  return new ErrorClass(`Cannot open SAE ${name}: ${reason}${hint}`, { cause: error });
}
