/**
 * The cache of Python's `huggingface_hub`, which both may share. A folder for each repository, with
 *
 * - `blobs/`, the files, each named by its content: SHA-256 for large ones, Git's SHA-1 for the rest,
 * - `snapshots/<commit>/`, the repository's paths at a commit as links to blobs,
 * - `refs/<branch or tag>`, the commit that it stood for when it was last asked for.
 *
 * @module
 */
import { copyFile, lstat, mkdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import process from "node:process";
import { type HubSource, isCommit, revisionOf } from "./source.ts";
import { writeError } from "../runtime/files.ts";

/** The folder of a repository. */
export function repositoryFolder(cacheDir: string, source: HubSource): string {
  return join(cacheDir, folderName(source));
}

function folderName({ kind, repo }: HubSource): string {
  return [`${kind}s`, ...repo.split("/")].join("--");
}

/** Where a file is at a commit. */
export function snapshotPath(folder: string, file: { commit: string; path: string }): string {
  return join(folder, "snapshots", file.commit, ...file.path.split("/"));
}

/** Where content is. */
export function blobPath(folder: string, etag: string): string {
  return join(folder, "blobs", etag);
}

/** The lock of content: beside Python's, which locks in another way. */
export function lockPath(cacheDir: string, blob: { source: HubSource; etag: string }): string {
  return join(cacheDir, ".locks", folderName(blob.source), `${blob.etag}.sparsight.lock`);
}

/** The commit that a revision stands for, or stood for when it was last asked for. */
export async function cachedCommit(folder: string, source: HubSource): Promise<string | undefined> {
  const revision = revisionOf(source);
  if (isCommit(revision)) return revision;
  const text = await readFile(join(folder, "refs", ...revision.split("/")), "utf8").catch(() => "");
  return isCommit(text.trim()) ? text.trim() : undefined;
}

/** The path of a file that is in the cache, at the commit that its revision last stood for. */
export async function cachedFile(folder: string, source: HubSource): Promise<string | undefined> {
  const commit = await cachedCommit(folder, source);
  const path = commit && snapshotPath(folder, { commit, path: source.path });
  return path && await isFile(path) ? path : undefined;
}

/** Whether there is a file; a link has to lead to one. */
export async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

/** Notes which commit a branch or tag stands for. */
export async function noteRevision(folder: string, source: HubSource, options: { commit: string }): Promise<void> {
  const { commit } = options;
  if (revisionOf(source) === commit || await cachedCommit(folder, source) === commit) return;
  const path = join(folder, "refs", ...revisionOf(source).split("/"));
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, commit);
  } catch (error) {
    throw writeError(path, error);
  }
}

/** Makes the path in a snapshot lead to content. */
export async function linkSnapshot(path: string, blob: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    // A link that leads nowhere: its blob was deleted.
    if (await lstat(path).catch(() => undefined)) await rm(path);
    await symlink(relative(dirname(path), blob), path);
  } catch (error) {
    if (await isFile(path)) return;
    const { code } = error as { code?: string };
    if (code !== "EPERM" && code !== "ENOTSUP" && code !== "ENOSYS") throw writeError(path, error);
    // Windows lets only some accounts make links.
    const copy = `${path}.${process.pid}.partial`;
    await copyFile(blob, copy);
    await rename(copy, path);
  }
}
