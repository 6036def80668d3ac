import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  Binary,
  Bool,
  Float32,
  Int64,
  Table,
  tableFromIPC,
  tableToIPC,
  Utf8,
  type Vector,
  vectorFromArray,
} from "apache-arrow";
import { openArrowImages } from "../../lib/images/arrow.ts";
import { type ArrowImageRow, writeArrowImages } from "../../lib/images/arrow_writer.ts";
import { openImages } from "../../lib/images/open.ts";

async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-test-"));
  try {
    await test(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Image `i` has `i` bytes, each of value `i`. */
function rows(n: number): ArrowImageRow[] {
  return Array.from({ length: n }, (_, i) => ({
    bytes: new Uint8Array(i).fill(i),
    name: `émoji ${i}`,
    label: i % 2 === 0 ? "even" : "odd",
    tags: { hexcode: i.toString(16), split: i < 5 ? "train" : "test" },
  }));
}

Deno.test("writeArrowImages() then openArrowImages() returns the same images, over several batches", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "images.arrow");
    assert.equal(await writeArrowImages(rows(11), { path, imagesPerBatch: 4, metadata: { license: "CC0-1.0" } }), 11);
    const source = await openImages(path);
    assert.equal(source.kind, "arrow");
    assert.equal(source.nImages, 11);
    assert.match(source.fingerprint, /^[0-9a-f]{64}$/);
    for (const [imageIndex, { bytes, name, label, tags }] of rows(11).entries()) {
      assert.deepEqual(source.info(imageIndex), { imageIndex, name, label, tags });
      assert.deepEqual(await source.read(imageIndex), bytes);
    }
    const table = tableFromIPC(await readFile(path));
    assert.equal(table.batches.length, 3);
    assert.equal(table.schema.metadata.get("license"), "CC0-1.0");
    assert.deepEqual(await readdir(folder), ["images.arrow"]);
  });
});

Deno.test("writeArrowImages() gives the same bytes each time, from a list or a stream", async () => {
  await inFolder(async (folder) => {
    async function* stream(): AsyncGenerator<ArrowImageRow> {
      for (const row of rows(7)) yield await Promise.resolve(row);
    }
    await writeArrowImages(rows(7), { path: join(folder, "a.arrow") });
    await writeArrowImages(stream(), { path: join(folder, "b.arrow") });
    assert.deepEqual(await readFile(join(folder, "a.arrow")), await readFile(join(folder, "b.arrow")));
  });
});

Deno.test("writeArrowImages() leaves the old file alone when it fails", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "images.arrow");
    await writeFile(path, "old");
    async function* failing(): AsyncGenerator<ArrowImageRow> {
      yield* rows(600);
      await Promise.reject(new Error("camera is off"));
    }
    await assert.rejects(writeArrowImages(failing(), { path }), /camera is off/);
    await assert.rejects(writeArrowImages(rows(3), { path, signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.equal(await readFile(path, "utf8"), "old");
    assert.deepEqual(await readdir(folder), ["images.arrow"]);
  });
});

Deno.test("writeArrowImages() refuses rows that do not fit together", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "images.arrow");
    const [first, second] = rows(2);
    await assert.rejects(writeArrowImages([first, { ...second, label: undefined }], { path }), {
      name: "TypeError",
      message: 'Cannot write image "émoji 1": its columns must be image, name, label, hexcode, split, ' +
        "current columns are image, name, hexcode, split",
    });
    await assert.rejects(writeArrowImages([{ ...first, tags: { name: "x" } }], { path }), {
      name: "TypeError",
      message: "Cannot write images: no tag may be called image, name or label, which are columns already",
    });
    await assert.rejects(writeArrowImages([], { path }), {
      name: "RangeError",
      message: "Cannot write images: there must be at least one",
    });
    await assert.rejects(writeArrowImages(rows(1), { path, imagesPerBatch: 0 }), {
      name: "RangeError",
      message: "Cannot write images: imagesPerBatch must be an integer of at least 1, current value is 0",
    });
    assert.deepEqual(await readdir(folder), []);
  });
});

Deno.test("openArrowImages() makes tags of text, integers and booleans, and leaves out what is missing", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "images.arrow");
    const table = new Table({
      image: vectorFromArray([Uint8Array.of(1), Uint8Array.of(2, 3)], new Binary()),
      name: vectorFromArray(["a", "b"], new Utf8()),
      color: vectorFromArray(["red", "red"]), // a dictionary
      year: vectorFromArray([1999n, null], new Int64()),
      public: vectorFromArray([true, false], new Bool()),
      score: vectorFromArray([0.5, 1], new Float32()),
    });
    await writeFile(path, tableToIPC(table, "file"));
    const source = await openArrowImages(path);
    assert.deepEqual(source.info(0).tags, { color: "red", year: "1999", public: "true" });
    assert.deepEqual(source.info(1).tags, { color: "red", public: "false" });
    assert.equal(source.info(0).label, undefined);
    assert.deepEqual([...await source.read(1)], [2, 3]);
    assert.throws(() => source.info(2), { name: "RangeError" });
    await assert.rejects(source.read(-1), { name: "RangeError" });
  });
});

Deno.test("openArrowImages() says what is wrong with a file", async () => {
  await inFolder(async (folder) => {
    const whole = join(folder, "whole.arrow");
    await writeArrowImages(rows(3), { path: whole });
    const bytes = await readFile(whole);
    const table = (columns: Record<string, Vector>) => tableToIPC(new Table(columns), "file");
    const damaged = Uint8Array.from(bytes);
    damaged.fill(0xff, bytes.length - 10, bytes.length - 6); // length of the footer
    const text = vectorFromArray(["x"], new Utf8());
    const cases: [Uint8Array, string, RegExp][] = [
      [new TextEncoder().encode("PK zip"), "SyntaxError", /must begin and end with "ARROW1", current file does not/],
      [bytes.subarray(0, 500), "SyntaxError", /current file is cut off$/],
      [damaged, "SyntaxError", /its contents are damaged/],
      [table({ name: text }), "TypeError", /it must have a column image, current columns are name$/],
      [table({ image: text, name: text }), "TypeError", /column image must be of type Binary, current type is Utf8$/],
      [
        table({ image: vectorFromArray([Uint8Array.of(1), null], new Binary()), name: vectorFromArray(["a", "b"]) }),
        "TypeError",
        /column image must have no missing values$/,
      ],
    ];
    for (const [contents, name, message] of cases) {
      const path = join(folder, "wrong.arrow");
      await writeFile(path, contents);
      await assert.rejects(openArrowImages(path), (error: Error) => {
        assert.equal(error.name, name, error.message);
        assert.ok(error.message.startsWith(`Cannot open images "${path}": `), error.message);
        assert.match(error.message, message);
        return true;
      });
    }
  });
});
