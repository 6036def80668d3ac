/**
 * Writes large files piece by piece, at any position, so that nothing half-written is ever found under their name: the
 * pieces go to a `.partial` file beside it, which takes the name once it is whole and on disk. Small files are simpler
 * with `replaceFile()`.
 *
 * @module
 */
import { open, rename, unlink } from "node:fs/promises";
import { writeError } from "./files.ts";

/** A file that is being written. */
export interface PartialFile {
  /** Writes bytes from `position` on, in bytes from the start of the file. The bytes may change once it is done. */
  write(bytes: Uint8Array, position: number): Promise<void>;
}

/** Options of {@linkcode writeWhole}. */
export interface WriteWholeOptions {
  /**
   * Stops the writing between two pieces; what was there before stays.
   *
   * @default never
   */
  signal?: AbortSignal;
}

/**
 * Writes a file by `fill`, all of it or nothing.
 *
 * @throws {Error} If it cannot be written: the folder is missing or not writable, or the disk is full.
 * @throws The reason of `signal`, if it aborts.
 */
export async function writeWhole(
  path: string,
  fill: (file: PartialFile) => Promise<void>,
  options: WriteWholeOptions = {},
): Promise<void> {
  const { signal } = options;
  signal?.throwIfAborted();
  const failing = async <T>(action: Promise<T>): Promise<T> => {
    try {
      return await action;
    } catch (error) {
      throw writeError(path, error);
    }
  };
  const partial = `${path}.partial`;
  const file = await failing(open(partial, "w"));
  try {
    await fill({
      async write(bytes, position) {
        signal?.throwIfAborted();
        for (let done = 0; done < bytes.length;) {
          done += (await failing(file.write(bytes, done, bytes.length - done, position + done))).bytesWritten;
        }
      },
    });
    signal?.throwIfAborted();
    await failing(file.sync());
    await file.close();
    await failing(rename(partial, path));
  } catch (error) {
    await file.close().catch(() => {});
    await unlink(partial).catch(() => {});
    throw error;
  }
}
