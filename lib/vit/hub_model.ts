/**
 * Models of the Hugging Face Hub: the file that is named, and what belongs to it.
 *
 * @module
 */
import { fetchHubFile, type HubOptions, listHubFiles } from "../hub/hub.ts";
import { HubUnreachableError } from "../hub/request.ts";
import { hubSettings } from "../hub/settings.ts";
import { formatHubSource, parseHubSource } from "../hub/source.ts";

/** Files that say what a model is and how images become its pixels. */
const configNames = ["preprocessor_config.json", "config.json"];

/**
 * Path of a model on this machine. Files of its weights (`model.onnx_data`) and its configuration, which may be one
 * folder up, are fetched with it, at the same commit: they lie to each other as they do on the Hub. Where the Hub cannot
 * be asked for them, those that were fetched before are there.
 *
 * @throws {TypeError} If the source does not name a file.
 * @throws {Error} If there is none, access is refused, or the Hub is out of reach.
 */
export async function fetchModel(source: string, options: HubOptions = {}): Promise<string> {
  const path = await fetchHubFile(source, options);
  if ((await hubSettings(options)).offline) return path;
  const file = parseHubSource(source);
  const commit = /[\\/]snapshots[\\/]([0-9a-f]{40})[\\/]/.exec(path)![1];
  const folder = file.path.split("/").slice(0, -1);
  const above = folder.slice(0, -1);
  const at = (parts: readonly string[]) => formatHubSource({ ...file, revision: commit, path: parts.join("/") });
  const wanted = new Set(
    [...configNames.map((name) => [...folder, name]), ...configNames.map((name) => [...above, name])]
      .map((parts) => parts.join("/")),
  );
  const belongs = (name: string) =>
    wanted.has(name) || name.startsWith(`${file.path}_data`) || name === `${file.path}.data`;
  try {
    for (const { path: name } of await listHubFiles(at(above), { ...options, revision: undefined })) {
      if (belongs(name)) await fetchHubFile(at(name.split("/")), { ...options, revision: undefined });
    }
  } catch (error) {
    if (!(error instanceof HubUnreachableError)) throw error;
  }
  return path;
}
