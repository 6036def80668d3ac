import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Field, makeData, RecordBatch, Schema, Struct, tableFromIPC, Uint32 } from "apache-arrow";
import { createArrowFile } from "../../lib/arrow/file_writer.ts";

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-test-"));
  try {
    await test(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const schema = new Schema([new Field("n", new Uint32(), false)], new Map([["key", "text"]]));

function makeBatch(values: readonly number[] | Uint32Array): RecordBatch {
  const children = [makeData({ type: new Uint32(), data: Uint32Array.from(values) })];
  const data = makeData({ type: new Struct(schema.fields), length: values.length, nullCount: 0, children });
  return new RecordBatch(schema, data);
}

Deno.test("createArrowFile() writes what apache-arrow reads, batch by batch", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "n.arrow");
    const writer = await createArrowFile(path, schema);
    for (const values of [[1, 2, 3], [4], [5, 6, 7, 8, 9]]) await writer.write(makeBatch(values));
    const nBytes = await writer.finish();
    const table = tableFromIPC(await readFile(path));
    assert.deepEqual(table.batches.map(({ numRows }) => numRows), [3, 1, 5]);
    assert.deepEqual([...table.getChild("n")!.toArray()], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.equal(table.schema.metadata.get("key"), "text");
    assert.equal((await stat(path)).size, nBytes);
  });
});

Deno.test("createArrowFile() writes a file without batches", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "none.arrow");
    await (await createArrowFile(path, schema)).finish();
    assert.equal(tableFromIPC(await readFile(path)).numRows, 0);
  });
});

Deno.test("createArrowFile() gives the file its name only when it is whole", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "n.arrow");
    await writeFile(path, "what was there before");
    const writer = await createArrowFile(path, schema);
    await writer.write(makeBatch([1]));
    assert.deepEqual((await readdir(folder)).sort(), ["n.arrow", "n.arrow.partial"]);
    assert.equal(await readFile(path, "utf8"), "what was there before");
    await writer.finish();
    assert.deepEqual(await readdir(folder), ["n.arrow"]);
    assert.equal(tableFromIPC(await readFile(path)).numRows, 1);
  });
});

Deno.test("write() hands each batch to the system before it returns", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "n.arrow");
    const writer = await createArrowFile(path, schema);
    const values = Uint32Array.from({ length: 1000 }, (_, i) => i);
    for (let n = 1; n <= 3; n++) {
      await writer.write(makeBatch(values));
      const { size } = await stat(`${path}.partial`);
      assert.ok(size > n * 4000, `${size} bytes after ${n} batches`);
    }
    await writer.abandon();
  });
});

Deno.test("abandon() leaves nothing behind", async () => {
  await withFolder(async (folder) => {
    const writer = await createArrowFile(join(folder, "n.arrow"), schema);
    await writer.write(makeBatch([1, 2]));
    await writer.abandon();
    assert.deepEqual(await readdir(folder), []);
    await writer.abandon();
  });
});

Deno.test("createArrowFile() says why a file cannot be written", async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, "file"), "");
    await mkdir(join(folder, "taken.arrow"));
    const gone = join(folder, "gone", "n.arrow");
    await assert.rejects(createArrowFile(gone, schema), {
      name: "Error",
      message: `Cannot write ${gone}: its folder does not exist`,
    });
    const below = join(folder, "file", "n.arrow");
    await assert.rejects(createArrowFile(below, schema), {
      name: "Error",
      message: `Cannot write ${below}: its parent is a file, choose another folder`,
    });
    // The name is taken by a folder, which shows when the file is to get it.
    const taken = join(folder, "taken.arrow");
    const writer = await createArrowFile(taken, schema);
    await assert.rejects(writer.finish(), { name: "Error", message: new RegExp(`^Cannot write ${taken}: `) });
    assert.deepEqual((await readdir(folder)).sort(), ["file", "taken.arrow"]);
  });
});

// The administrator can write into any folder.
const ignoresModes = process.platform === "win32" || process.getuid?.() === 0;
Deno.test({
  name: "createArrowFile() says that a folder is not writable",
  ignore: ignoresModes,
  async fn() {
    await withFolder(async (folder) => {
      const path = join(folder, "n.arrow");
      await chmod(folder, 0o500);
      try {
        await assert.rejects(createArrowFile(path, schema), {
          name: "Error",
          message: `Cannot write ${path}: the folder is not writable, choose another`,
        });
      } finally {
        await chmod(folder, 0o700);
      }
    });
  },
});

Deno.test({
  name: "write() says that the disk is full, and leaves nothing behind",
  // A device that refuses every byte, as a full disk does.
  ignore: !existsSync("/dev/full"),
  async fn() {
    await withFolder(async (folder) => {
      const path = join(folder, "n.arrow");
      await symlink("/dev/full", `${path}.partial`);
      const writer = await createArrowFile(path, schema);
      await assert.rejects(writer.write(makeBatch([1, 2, 3])), {
        name: "Error",
        message: `Cannot write ${path}: the disk is full, free some space`,
      });
      assert.deepEqual(await readdir(folder), []);
      assert.ok(existsSync("/dev/full"));
    });
  },
});
