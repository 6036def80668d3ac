import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeFolder, replaceFile, writeError } from "../../lib/runtime/files.ts";

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-files-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

Deno.test("replaceFile() replaces a file and leaves nothing else behind", () =>
  inFolder(async (folder) => {
    const path = join(folder, "a.txt");
    await writeFile(path, "old and longer");
    await replaceFile(path, "new");
    assert.equal(await readFile(path, "utf8"), "new");
    assert.deepEqual(await readdir(folder), ["a.txt"]);
  }));

Deno.test("replaceFile() keeps what was there when it fails", () =>
  inFolder(async (folder) => {
    await makeFolder(join(folder, "taken"));
    await assert.rejects(() => replaceFile(join(folder, "taken"), "x"), {
      name: "Error",
      message: /^Cannot write .*taken/,
    });
    assert.deepEqual(await readdir(folder), ["taken"]);
  }));

Deno.test("makeFolder() makes all that is missing, and says what stands in the way", () =>
  inFolder(async (folder) => {
    await makeFolder(join(folder, "a", "b"));
    await makeFolder(join(folder, "a", "b"));
    assert.deepEqual(await readdir(join(folder, "a")), ["b"]);
    await writeFile(join(folder, "file"), "");
    await assert.rejects(() => makeFolder(join(folder, "file", "b")), {
      message: /its parent is a file, choose another/,
    });
  }));

Deno.test("writeError() names the remedy for each reason", () => {
  const cases: [string, string][] = [
    ["ENOSPC", "the disk is full, free some space"],
    ["EACCES", "the folder is not writable, choose another"],
    ["EROFS", "the file system is read-only, choose another folder"],
    ["EIO", "EIO: the system's words"],
  ];
  for (const [code, reason] of cases) {
    const cause = Object.assign(new Error(`${code}: the system's words`), { code });
    const error = writeError("n.arrow", cause);
    assert.equal(error.message, `Cannot write n.arrow: ${reason}`);
    assert.equal(error.cause, cause);
  }
});
