/**
 * A short identity for a list of images, cheap enough to take each time a source is opened: shards and summaries keep
 * it, so that they can tell when they are shown with the wrong pictures.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** What the fingerprint looks at. */
export interface FingerprintEntry {
  /** Name of the image in its source. */
  readonly name: string;
  /** Length of the encoded image, in bytes. */
  readonly nBytes: number;
}

/** SHA-256 over names and sizes in order, as 64 hex digits. */
export function fingerprintOf(entries: Iterable<FingerprintEntry>): string {
  const hash = createHash("sha256");
  for (const { name, nBytes } of entries) hash.update(`${name}\0${nBytes}\n`);
  return hash.digest("hex");
}

/**
 * Refuses an index outside the source.
 *
 * @throws {RangeError} If `imageIndex` is not an integer in `[0, nImages)`.
 */
export function assertImageIndex(imageIndex: number, nImages: number): void {
  if (!Number.isInteger(imageIndex) || imageIndex < 0 || imageIndex >= nImages) {
    throw new RangeError(
      `Cannot read image: imageIndex must be an integer from 0 to ${nImages - 1}, current value is ${imageIndex}`,
    );
  }
}
