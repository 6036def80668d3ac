/**
 * Picks images by what is known about them. A selection is a list of indices into the whole source, so that an image
 * keeps its index whatever subset is looked at.
 *
 * @module
 */

import type { ImageInfo, ImageSource } from "./source.ts";

/**
 * Indices of the images for which `where` holds, ascending.
 *
 * @example Only the images that the model never saw
 * ```ts ignore
 * const heldOut = selectImages(images, ({ tags }) => tags.split === "test");
 * ```
 */
export function selectImages(source: ImageSource, where: (info: ImageInfo) => boolean): number[] {
  const selected: number[] = [];
  for (let imageIndex = 0; imageIndex < source.nImages; imageIndex++) {
    if (where(source.info(imageIndex))) selected.push(imageIndex);
  }
  return selected;
}
