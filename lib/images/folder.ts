/**
 * Images in a folder, one class per sub-folder, in the order of torchvision's `ImageFolder`: within each folder first
 * its files, then its sub-folders, both sorted by code unit. So an index means the same image on every machine.
 * Layout: https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html
 *
 * @module
 */

import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { assertImageIndex, fingerprintOf } from "./fingerprint.ts";
import type { ImageInfo, ImageSource } from "./source.ts";

/** File endings that are taken for images. */
export const IMAGE_EXTENSIONS: readonly string[] = ["png", "jpg", "jpeg", "webp", "gif", "avif", "tif", "tiff"];

/** Options for {@linkcode openImageFolder}. */
export interface OpenImageFolderOptions {
  /**
   * File endings to look for, in lower case and without the dot.
   *
   * @default {IMAGE_EXTENSIONS}
   */
  extensions?: readonly string[];
  /** Stops the walk through the folder. */
  signal?: AbortSignal;
}

interface FoundImage {
  /** POSIX path relative to the folder. */
  readonly name: string;
  readonly nBytes: number;
}

/**
 * Opens a folder of images, with all its sub-folders. An image's name is its path relative to the folder, with forward
 * slashes; its label is the first sub-folder (`undefined` for files at the top). Names that begin with a dot are
 * skipped; links are followed.
 *
 * @throws {Error} If the folder does not exist, is not a folder, or holds no image.
 */
export async function openImageFolder(path: string, options: OpenImageFolderOptions = {}): Promise<ImageSource> {
  const { extensions = IMAGE_EXTENSIONS, signal } = options;
  const status = await stat(path).catch(() => undefined);
  if (status === undefined) throw new Error(`Cannot open image folder "${path}": the folder does not exist`);
  if (!status.isDirectory()) throw new Error(`Cannot open image folder "${path}": it is a file, not a folder`);

  const found: FoundImage[] = [];
  for await (const image of walk(path, { prefix: "", ancestors: [], extensions, signal })) found.push(image);
  if (found.length === 0) {
    throw new Error(
      `Cannot open image folder "${path}": it holds no images, looked for files ending in ${extensions.join(", ")}`,
    );
  }

  const nImages = found.length;
  return {
    kind: "folder",
    location: path,
    nImages,
    fingerprint: fingerprintOf(found),
    info(imageIndex: number): ImageInfo {
      assertImageIndex(imageIndex, nImages);
      const { name } = found[imageIndex];
      const slash = name.indexOf("/");
      return { imageIndex, name, label: slash < 0 ? undefined : name.slice(0, slash), tags: {} };
    },
    async read(imageIndex: number): Promise<Uint8Array> {
      assertImageIndex(imageIndex, nImages);
      // A Buffer behaves differently from other Uint8Arrays (its slice shares memory), so it is not handed out.
      const { buffer, byteOffset, length } = await readFile(join(path, found[imageIndex].name));
      return new Uint8Array(buffer, byteOffset, length);
    },
  };
}

interface WalkState {
  readonly prefix: string;
  /** Real paths of the folders above: a link back to one of them would never end. */
  readonly ancestors: readonly string[];
  readonly extensions: readonly string[];
  readonly signal?: AbortSignal;
}

async function* walk(path: string, state: WalkState): AsyncGenerator<FoundImage> {
  const { prefix, ancestors, extensions, signal } = state;
  signal?.throwIfAborted();
  const here = await realpath(path);
  if (ancestors.includes(here)) return;

  const names = (await readdir(path)).filter((name) => !name.startsWith(".")).sort(byCodeUnit);
  const entries = await Promise.all(names.map(async (name) => {
    // A link to nowhere has no status: it is no image.
    const status = await stat(join(path, name)).catch(() => undefined);
    return { name, status };
  }));
  for (const { name, status } of entries) {
    const extension = name.slice(name.lastIndexOf(".") + 1).toLowerCase();
    if (status?.isFile() && name.includes(".") && extensions.includes(extension)) {
      yield { name: prefix + name, nBytes: status.size };
    }
  }
  for (const { name, status } of entries) {
    if (!status?.isDirectory()) continue;
    yield* walk(join(path, name), { ...state, prefix: `${prefix}${name}/`, ancestors: [...ancestors, here] });
  }
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
