/**
 * Where tuned tiles are remembered: a small file each under `$XDG_CACHE_HOME/sparsight` (else `~/.cache/sparsight`) in
 * Deno and Node, `localStorage` in a browser. Remembering is a convenience: whatever goes wrong with it, a missing
 * permission, a full disk, a damaged file, costs only another measurement.
 *
 * @module
 */
import type { EncodeTile } from "./encode_kernel.ts";

/** Environment variable with the folder for caches. */
const CACHE_VARIABLE = "XDG_CACHE_HOME";

/** The tile that is remembered under `key`, if it is one of `allowed`. Never throws. */
export async function readTile(key: string, allowed: readonly EncodeTile[]): Promise<EncodeTile | undefined> {
  try {
    const text = await (await findStore())?.read(await entryName(key));
    const entry = JSON.parse(text ?? "null");
    if (entry?.key !== key) return undefined;
    const wanted = JSON.stringify(entry.tile);
    return allowed.find((tile) => JSON.stringify(tile) === wanted);
  } catch {
    return undefined;
  }
}

/** Remembers a tile under `key`. Never throws. */
export async function writeTile(key: string, tile: EncodeTile): Promise<void> {
  try {
    await (await findStore())?.write(await entryName(key), JSON.stringify({ key, tile }));
  } catch {
    // It will be measured again.
  }
}

interface Store {
  read(name: string): Promise<string | null>;
  write(name: string, text: string): Promise<void>;
}

async function findStore(): Promise<Store | undefined> {
  const { Deno: deno, process, localStorage } = globalThis as {
    Deno?: { permissions: { query(request: { name: "env" | "read" | "write" }): Promise<{ state: string }> } };
    process?: NodeProcess;
    localStorage?: Storage;
  };
  for (const name of ["env", "read", "write"] as const) {
    // Never make Deno prompt for a permission just to save a moment.
    if (deno && (await deno.permissions.query({ name })).state !== "granted") return undefined;
  }
  if (process?.versions?.node) return folderStore(process);
  return localStorage && {
    read: (name) => Promise.resolve(localStorage.getItem(name)),
    write: (name, text) => Promise.resolve(localStorage.setItem(name, text)),
  };
}

/** What is used of Deno's and Node's `process`; asked for modules so that bundlers for browsers need not know them. */
interface NodeProcess {
  versions?: { node?: string };
  env: Record<string, string | undefined>;
  pid: number;
  getBuiltinModule(name: "node:fs/promises"): typeof import("node:fs/promises");
  getBuiltinModule(name: "node:path"): typeof import("node:path");
  getBuiltinModule(name: "node:os"): typeof import("node:os");
}

function folderStore(process: NodeProcess): Store {
  const { mkdir, readFile, rename, rm, writeFile } = process.getBuiltinModule("node:fs/promises");
  const { join } = process.getBuiltinModule("node:path");
  const { homedir } = process.getBuiltinModule("node:os");
  const folder = join(process.env[CACHE_VARIABLE] || join(homedir(), ".cache"), "sparsight", "webgpu_tiles");
  return {
    read: (name) => readFile(join(folder, `${name}.json`), "utf8"),
    async write(name, text) {
      await mkdir(folder, { recursive: true });
      const unfinished = join(folder, `${name}.${process.pid}.${performance.now()}.tmp`);
      try {
        await writeFile(unfinished, text);
        // In one step, so that a process that reads meanwhile sees all of it or none.
        await rename(unfinished, join(folder, `${name}.json`));
      } finally {
        await rm(unfinished, { force: true });
      }
    },
  };
}

/** A name for a file, of the key's SHA-256. */
async function entryName(key: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key)));
  return `sparsight-tile-${Array.from(digest.subarray(0, 12), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
