/**
 * Downloads content into a file. A connection that breaks is taken up where it broke, in this run or a later one; the
 * file gets its name only when all of it is there and its checksum is right.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { writeError } from "../runtime/files.ts";
import { askHub, backOff, HubUnreachableError, MAX_ATTEMPTS, reasonOf } from "./request.ts";
import type { HubSettings } from "./settings.ts";
import { formatHubSource, type HubSource } from "./source.ts";

/** Content to download. */
export interface Download {
  readonly url: string;
  readonly source: HubSource;
  /** SHA-256 (64 hexadecimal digits) or Git's SHA-1 (40); anything else cannot be checked. */
  readonly etag: string;
  readonly sizeBytes: number;
  readonly onProgress?: (doneBytes: number) => void;
}

/**
 * Downloads content to a path.
 *
 * @throws {Error} If it cannot be had, has another checksum, or cannot be written.
 */
export async function downloadTo(path: string, download: Download, settings: HubSettings): Promise<void> {
  const { source, sizeBytes, etag } = download;
  // Python's name for it is `.incomplete`. It may be writing that one now, and its lock is not to be had from here.
  const partial = `${path}.sparsight.incomplete`;
  await mkdir(dirname(path), { recursive: true }).catch((error) => {
    throw writeError(dirname(path), error);
  });
  await complete(partial, download, settings);
  const checksum = await checksumLike(etag, partial, sizeBytes);
  settings.signal?.throwIfAborted();
  if (checksum !== undefined && checksum !== etag) {
    await rm(partial, { force: true });
    throw new Error(
      `Cannot fetch ${formatHubSource(source)}: its checksum must be ${etag}, current value is ${checksum}; what was ` +
        `downloaded is deleted, run it again to start afresh`,
    );
  }
  await rename(partial, path).catch((error) => {
    throw writeError(path, error);
  });
}

/** Gets the rest of a partial file, however often the connection breaks, as long as something comes each time. */
async function complete(partial: string, download: Download, settings: HubSettings): Promise<void> {
  const { sizeBytes } = download;
  let done = await sizeOf(partial);
  for (let failures = 0; done !== sizeBytes || sizeBytes === 0;) {
    if (done > sizeBytes) {
      await rm(partial);
      done = 0;
    }
    try {
      await receive(partial, { ...download, from: done }, settings);
      return;
    } catch (error) {
      if (!(error instanceof HubUnreachableError)) throw error;
      const reached = await sizeOf(partial);
      failures = reached > done ? 0 : failures + 1;
      done = reached;
      if (failures >= MAX_ATTEMPTS) throw error;
      await backOff(settings, { failures, error });
    }
  }
}

async function receive(
  partial: string,
  download: Download & { from: number },
  settings: HubSettings,
): Promise<void> {
  const { url, source, from, sizeBytes, onProgress } = download;
  const range: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
  const { response } = await askHub({ url, source, headers: { "accept-encoding": "identity", ...range } }, settings);
  // A server that does not know ranges sends all of it.
  const isRest = from > 0 && response.status === 206;
  if (isRest && !response.headers.get("content-range")?.startsWith(`bytes ${from}-`)) {
    await response.body?.cancel();
    await rm(partial, { force: true });
    throw new HubUnreachableError(`Cannot fetch ${formatHubSource(source)}: the host must send bytes ${from} and on`);
  }
  const file = await open(partial, isRest ? "a" : "w").catch(async (error) => {
    await response.body?.cancel();
    throw writeError(partial, error);
  });
  let done = isRest ? from : 0;
  try {
    onProgress?.(done);
    for await (const chunk of chunksOf(response, { source, settings })) {
      done += chunk.length;
      if (done > sizeBytes) break;
      await writeChunk(file, chunk, partial);
      onProgress?.(done);
    }
  } finally {
    await file.close();
  }
  if (done > sizeBytes) {
    await rm(partial);
    throw new Error(`Cannot fetch ${formatHubSource(source)}: it must have ${sizeBytes} bytes, more are sent`);
  }
  if (done < sizeBytes) {
    throw new HubUnreachableError(
      `Cannot fetch ${
        formatHubSource(source)
      }: it must have ${sizeBytes} bytes, the connection ends after ${done}; run ` +
        `it again to go on from there`,
    );
  }
}

async function writeChunk(file: FileHandle, chunk: Uint8Array, path: string): Promise<void> {
  try {
    for (let done = 0; done < chunk.length;) done += (await file.write(chunk, done)).bytesWritten;
  } catch (error) {
    throw writeError(path, error);
  }
}

async function* chunksOf(
  response: Response,
  options: { source: HubSource; settings: HubSettings },
): AsyncGenerator<Uint8Array> {
  const { source, settings: { timeoutMs, signal } } = options;
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), timeoutMs);
      if (done) return;
      yield value;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw new HubUnreachableError(
      `Cannot fetch ${formatHubSource(source)}: the connection must last, it broke (${
        reasonOf(error)
      }); run it again ` +
        `to go on from there`,
      { cause: error },
    );
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`silent for ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}

/** The checksum of a file, of the kind that an ETag is of; `undefined` if it is of none. */
async function checksumLike(etag: string, path: string, sizeBytes: number): Promise<string | undefined> {
  const isSha256 = /^[0-9a-f]{64}$/.test(etag);
  if (!isSha256 && !/^[0-9a-f]{40}$/.test(etag)) return undefined;
  const hash = createHash(isSha256 ? "sha256" : "sha1");
  // Git puts a header before content that it names.
  if (!isSha256) hash.update(`blob ${sizeBytes}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk);
  return hash.digest("hex");
}
