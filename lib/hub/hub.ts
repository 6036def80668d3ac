/**
 * Files of the Hugging Face Hub. They are kept in the cache that Python's `huggingface_hub` uses, at the commit that was
 * asked for, checked against the Hub's checksums. Lists come from `@huggingface/hub`; downloads are our own, because that
 * package neither goes on with a broken download nor checks one, files it under the commit that last changed the file,
 * and writes to the console.
 *
 * @module
 */
import {
  blobPath,
  cachedFile,
  isFile,
  linkSnapshot,
  lockPath,
  noteRevision,
  repositoryFolder,
  snapshotPath,
} from "./cache.ts";
import { downloadTo } from "./download.ts";
import { withLock } from "./lock.ts";
import { askHub, HubUnreachableError, MAX_ATTEMPTS, persistently } from "./request.ts";
import { type HubOptions, type HubSettings, hubSettings } from "./settings.ts";
import { encodePath, formatHubSource, type HubSource, isCommit, parseHubSource, revisionOf } from "./source.ts";

export type { HubOptions } from "./settings.ts";
export { type HubSource, isHubSource, parseHubSource } from "./source.ts";

/** What the Hub says about a file. */
export interface HubFileInfo {
  /** Path in the repository. */
  readonly path: string;
  /** Length, in bytes. */
  readonly sizeBytes: number;
  /** Hex SHA-256 of the content; only large files, those in LFS, have it. */
  readonly sha256?: string;
}

/** What the Hub says about a file at a revision. */
export interface ResolvedHubFile extends HubFileInfo {
  /** The commit that the revision stands for now. */
  readonly commit: string;
  /** What names the content in the cache: its SHA-256, or Git's SHA-1 of a small file. */
  readonly etag: string;
  /** The same file with its commit for a revision: it will always name this content. */
  readonly pinned: string;
}

/**
 * Path of a file of the Hub on this machine; it is downloaded if it is not there. A whole commit that is there is taken
 * without asking; for a branch or tag the Hub is asked what it stands for now, and if the Hub is out of reach, what it
 * stood for last time is taken. The commit is a part of the path. Processes that want the same file wait for the first.
 *
 * @param source `hf:owner/repository/path`, or `hf:owner/repository@revision/path`; `hf:datasets/…` for data sets.
 * @throws {TypeError} If the source does not name a file.
 * @throws {Error} If there is none, access is refused, the Hub is out of reach, or the content has another checksum.
 */
export async function fetchHubFile(source: string, options: HubOptions = {}): Promise<string> {
  const file = parseFile(source, options);
  const settings = await hubSettings(options);
  const { cacheDir, offline, signal } = settings;
  signal?.throwIfAborted();
  const folder = repositoryFolder(cacheDir, file);
  const cached = await cachedFile(folder, file);
  if (cached && (offline || isCommit(revisionOf(file)))) return cached;
  if (offline) {
    throw new Error(
      `Cannot fetch ${formatHubSource(file)}: offline, it must be in the cache ${cacheDir}, it is not; run the same ` +
        `once with a network and without HF_HUB_OFFLINE`,
    );
  }
  let found: ResolvedHubFile;
  try {
    // Whoever has the file should not wait long for a network that is not there.
    found = await resolve(file, settings, { attempts: cached ? 1 : MAX_ATTEMPTS });
  } catch (error) {
    if (cached && error instanceof HubUnreachableError) return cached;
    throw error;
  }
  const { commit, etag, sizeBytes } = found;
  const path = snapshotPath(folder, { commit, path: file.path });
  if (!await isFile(path)) {
    const blob = blobPath(folder, etag);
    await withLock(lockPath(cacheDir, { source: file, etag }), async () => {
      if (!await isFile(blob)) {
        const url = fileUrl({ ...file, revision: commit }, settings);
        const onProgress = (done: number) => options.onProgress?.(done, sizeBytes, file.path);
        await downloadTo(blob, { url, source: file, etag, sizeBytes, onProgress }, settings);
      }
      if (!await isFile(path)) await linkSnapshot(path, blob);
    }, { signal });
  }
  // Only now: a commit that is noted has what was asked of it.
  await noteRevision(folder, file, { commit });
  return path;
}

/**
 * What the Hub says about a file, without downloading it: its commit, size and checksum.
 *
 * @throws {TypeError} If the source does not name a file.
 * @throws {Error} If there is none, access is refused, or the Hub is out of reach.
 */
export async function resolveHubFile(source: string, options: HubOptions = {}): Promise<ResolvedHubFile> {
  const file = parseFile(source, options);
  const settings = await hubSettings(options);
  refuseOffline(file, settings);
  return await resolve(file, settings, { attempts: MAX_ATTEMPTS });
}

/**
 * Lists the files of a repository, or of a folder of it, with those in sub-folders, sorted by path.
 *
 * @param source `hf:owner/repository` or `hf:owner/repository/folder`, with `@revision` if wanted.
 * @throws {TypeError} If the source does not name a repository.
 * @throws {Error} If there is none, access is refused, or the Hub is out of reach.
 */
export async function listHubFiles(source: string, options: HubOptions = {}): Promise<HubFileInfo[]> {
  const folder = parse(source, options);
  const settings = await hubSettings(options);
  refuseOffline(folder, settings);
  const { listFiles } = await import("@huggingface/hub");
  const entries = listFiles({
    repo: { type: folder.kind, name: folder.repo },
    revision: encodeURIComponent(revisionOf(folder)),
    path: encodePath(folder.path),
    recursive: true,
    hubUrl: settings.hubUrl,
    // Only through here: the package would send a token to wherever the next page is.
    fetch: async (url) => {
      const request = { url: String(url), source: folder, headers: { accept: "application/json" } };
      return (await persistently(settings, () => askHub(request, settings))).response;
    },
  });
  const files: HubFileInfo[] = [];
  for await (const { type, path, size, lfs } of entries) {
    if (type === "file") files.push({ path, sizeBytes: lfs?.size ?? size, ...(lfs && { sha256: lfs.oid }) });
  }
  return files.sort((a, b) => a.path < b.path ? -1 : 1);
}

function parse(source: string, options: HubOptions): HubSource {
  const parsed = parseHubSource(source);
  if (parsed.revision !== undefined || options.revision === undefined) return parsed;
  return parseHubSource(formatHubSource({ ...parsed, revision: options.revision }));
}

function parseFile(source: string, options: HubOptions): HubSource {
  const file = parse(source, options);
  if (file.path === "") {
    throw new TypeError(`Cannot fetch ${source}: it must name a file in ${file.repo}, it names none`);
  }
  return file;
}

function refuseOffline(source: HubSource, { offline }: HubSettings): void {
  if (!offline) return;
  throw new Error(`Cannot look up ${formatHubSource(source)}: the Hub must be asked, and HF_HUB_OFFLINE forbids it`);
}

function fileUrl(file: HubSource, { hubUrl }: HubSettings): string {
  const prefix = file.kind === "dataset" ? "datasets/" : "";
  return `${hubUrl}/${prefix}${file.repo}/resolve/${encodeURIComponent(revisionOf(file))}/${encodePath(file.path)}`;
}

async function resolve(
  file: HubSource,
  settings: HubSettings,
  options: { attempts: number },
): Promise<ResolvedHubFile> {
  const { headers } = await persistently(settings, () =>
    askHub({
      url: fileUrl(file, settings),
      method: "HEAD",
      // Its real size, not that of a compressed answer.
      headers: { "accept-encoding": "identity" },
      source: file,
      stayOnHub: true,
    }, settings), options);
  const commit = headers.get("x-repo-commit") ?? "";
  const etag = (headers.get("x-linked-etag") ?? headers.get("etag") ?? "").replace(/^W\//, "").replaceAll('"', "");
  const sizeBytes = Number(headers.get("x-linked-size") ?? headers.get("content-length") ?? NaN);
  // Both become parts of paths.
  if (!isCommit(commit) || !/^\w[\w.-]*$/.test(etag) || !Number.isSafeInteger(sizeBytes)) {
    throw new Error(
      `Cannot fetch ${formatHubSource(file)}: the answer must have a commit, an ETag and a size, it has not; is ` +
        `${settings.hubUrl} the Hub, or does a proxy answer for it?`,
    );
  }
  const { path } = file;
  const pinned = formatHubSource({ ...file, revision: commit });
  return { path, sizeBytes, commit, etag, pinned, ...(/^[0-9a-f]{64}$/.test(etag) && { sha256: etag }) };
}
