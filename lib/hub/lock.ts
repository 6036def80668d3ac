/**
 * One process at a time: a lock is a file that only one can create. Its owner touches it while it works, so that one that
 * was killed, here or on another machine with the same disk, does not lock the others out for ever.
 *
 * @module
 */
import { mkdir, open, readFile, rename, stat, unlink, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import process from "node:process";

/** A lock that was not touched for so long has no owner any more. */
const STALE_MS = 30_000;
const TOUCH_MS = 5_000;
const POLL_MS = 100;

/** Runs `action` while no other process holds the lock at `path`. */
export async function withLock<T>(
  path: string,
  action: () => Promise<T>,
  options: { signal?: AbortSignal } = {},
): Promise<T> {
  const { signal } = options;
  await mkdir(dirname(path), { recursive: true });
  while (!await take(path)) {
    if (await isAbandoned(path)) await breakLock(path);
    else await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    signal?.throwIfAborted();
  }
  const touch = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, TOUCH_MS);
  try {
    return await action();
  } finally {
    clearInterval(touch);
    await unlink(path).catch(() => {});
  }
}

async function take(path: string): Promise<boolean> {
  try {
    const file = await open(path, "wx");
    await file.writeFile(JSON.stringify({ host: hostname(), pid: process.pid }));
    await file.close();
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === "EEXIST") return false;
    throw error;
  }
}

async function isAbandoned(path: string): Promise<boolean> {
  try {
    const { mtimeMs } = await stat(path);
    if (Date.now() - mtimeMs > STALE_MS) return true;
    const { host, pid } = JSON.parse(await readFile(path, "utf8"));
    return host === hostname() && !isRunning(pid);
  } catch {
    // Gone, or only just created.
    return false;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== "ESRCH";
  }
}

// Several may find it abandoned at once: only one can rename it. Should it be a new owner's by now, two work at the same
// time, which costs work: what they write is checked before it gets its name.
async function breakLock(path: string): Promise<void> {
  const broken = `${path}.${process.pid}`;
  await rename(path, broken).then(() => unlink(broken)).catch(() => {});
}
