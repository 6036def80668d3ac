/**
 * Write a folder in one step: it is built beside its place and renamed when it is complete, so a run that is killed
 * leaves the old atlas as it was. A marker file tells our folders from those of others, which are never touched.
 *
 * @module
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { writeError } from "../../runtime/files.ts";

/** Name of the file that marks a folder as an atlas. */
export const MARKER = "atlas.json";

const MARKER_TEXT = `${JSON.stringify({ kind: "sparsight atlas", version: 1 })}\n`;

/**
 * Fill a new folder with `write`, then put it at `path`.
 *
 * @param path An atlas to replace, an empty folder, or nothing yet.
 * @param write Gets the path of an empty folder beside `path`. If it fails, that folder is removed.
 * @throws {Error} If `path` exists and is none of these.
 */
export async function replaceFolder(path: string, write: (folder: string) => Promise<void>): Promise<void> {
  const target = resolve(path);
  const exists = await checkReplaceable(target);
  // One fixed name: what a killed run left behind is cleared by the next one.
  const partial = `${target}.partial`;
  const old = `${target}.old`;
  for (const leftover of [partial, old]) {
    if (await checkReplaceable(leftover)) await rm(leftover, { recursive: true });
  }
  try {
    await mkdir(dirname(target), { recursive: true });
    await mkdir(partial);
  } catch (error) {
    throw writeError(path, error);
  }
  try {
    await writeFile(join(partial, MARKER), MARKER_TEXT);
    await write(partial);
    if (exists) await rename(target, old);
    try {
      await rename(partial, target);
    } catch (error) {
      if (exists) await rename(old, target);
      throw error;
    }
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw (error as { code?: string }).code === "ENOSPC" ? writeError(path, error) : error;
  }
  await rm(old, { recursive: true, force: true });
}

/**
 * Whether there is an atlas or an empty folder at `path`; `false` if there is nothing.
 *
 * @throws {Error} If there is more.
 */
export async function checkReplaceable(path: string): Promise<boolean> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ENOENT") return false;
    if (code === "ENOTDIR") {
      throw new Error(`Cannot write atlas to "${path}": it must be a folder or free, current value is a file`);
    }
    throw error;
  }
  if (names.length === 0) return true;
  const marker = names.includes(MARKER) ? await readFile(join(path, MARKER), "utf8") : "";
  if (!marker.includes('"sparsight atlas"')) {
    throw new Error(
      `Cannot write atlas to "${path}": the folder must be empty or an atlas that was written before, ` +
        `current content is ${names.length} other files`,
    );
  }
  return true;
}
