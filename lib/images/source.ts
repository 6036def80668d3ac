/**
 * Where pictures come from: one small interface in front of a folder, an Arrow file, or anything else that can hand
 * over encoded bytes by index.
 *
 * @module
 */

/** What is known about an image without decoding it. */
export interface ImageInfo {
  /** Position in its source; stays the same whatever subset is looked at. */
  readonly imageIndex: number;
  /** Name for people: a path relative to the folder, or the name of an emoji. */
  readonly name: string;
  /** Class, if the source has classes. */
  readonly label?: string;
  /** Everything else the source knows, by column name. */
  readonly tags: Readonly<Record<string, string>>;
}

/** A list of images that are read one by one. */
export interface ImageSource {
  /** What it was opened from. */
  readonly kind: "folder" | "arrow";
  /** Path to open it again with. */
  readonly location: string;
  /** How many images it has. */
  readonly nImages: number;
  /** Hex digest over the names and sizes: changes when the images do. */
  readonly fingerprint: string;
  /**
   * What is known about an image without decoding it.
   *
   * @throws {RangeError} If there is no image at that index.
   */
  info(imageIndex: number): ImageInfo;
  /**
   * The encoded file: PNG, JPEG, WebP, … The bytes may be a view on a larger buffer: read them, do not write to them
   * and do not transfer them.
   *
   * @throws {RangeError} If there is no image at that index.
   */
  read(imageIndex: number): Promise<Uint8Array>;
}
