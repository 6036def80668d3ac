/**
 * Writing files so that nothing half-written is ever found under its name, and saying what helps where it fails.
 *
 * @module
 */
import { mkdir, rename, unlink, writeFile } from "node:fs/promises";

/**
 * Writes a file in one step: under another name first, then, once it is on disk, under its own.
 *
 * @throws {Error} If it cannot be written; what was there before stays.
 */
export async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  const partial = `${path}.partial`;
  try {
    await writeFile(partial, content, { flush: true });
    await rename(partial, path);
  } catch (error) {
    await unlink(partial).catch(() => {});
    throw writeError(path, error);
  }
}

/** Makes a folder and those above it, if they are missing. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    throw writeError(path, error);
  }
}

const remedies: Record<string, string> = {
  ENOSPC: "the disk is full, free some space",
  EACCES: "the folder is not writable, choose another",
  EPERM: "the folder is not writable, choose another",
  EROFS: "the file system is read-only, choose another folder",
  ENOENT: "its folder does not exist",
  ENOTDIR: "its parent is a file, choose another folder",
  EEXIST: "there is a file of that name, choose another",
};

/** An error that says why a file could not be written and what helps. */
export function writeError(path: string, cause: unknown): Error {
  const { code, message } = cause as { code?: string; message: string };
  return new Error(`Cannot write ${path}: ${remedies[code ?? ""] ?? message}`, { cause });
}
