/**
 * One way in: a path to a folder or to an Arrow file.
 *
 * @module
 */

import { stat } from "node:fs/promises";
import { openArrowImages } from "./arrow.ts";
import { openImageFolder } from "./folder.ts";
import type { ImageSource } from "./source.ts";

/**
 * Opens the images at a path: a folder (see {@linkcode openImageFolder}) or a file that ends in `.arrow` (see
 * {@linkcode openArrowImages}).
 *
 * @throws {Error} If there is nothing at the path, or neither of the two.
 */
export async function openImages(path: string): Promise<ImageSource> {
  const status = await stat(path).catch(() => undefined);
  if (status === undefined) throw new Error(`Cannot open images "${path}": there is no folder or file of that name`);
  if (status.isDirectory()) return await openImageFolder(path);
  if (path.toLowerCase().endsWith(".arrow")) return await openArrowImages(path);
  throw new Error(`Cannot open images "${path}": it must be a folder or a file that ends in .arrow`);
}
