import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { tableFromIPC } from "apache-arrow";
import {
  layerColumn,
  metadataFields,
  metadataFileName,
  parseMetadata,
  progressFileName,
  schemaMetadataKey,
  shardFileName,
  shardFormatVersion,
  shardSchema,
} from "../../lib/shards/format.ts";
import { openShards } from "../../lib/shards/read.ts";
import { withRecording } from "./recordings.ts";

/** Cells of the tables below a heading of `docs/shards.md`, without the head and the code marks. */
async function specifiedRows(heading: string): Promise<string[][]> {
  const text = await readFile(new URL("../../docs/shards.md", import.meta.url), "utf8");
  const section = text.split(`\n## ${heading}\n`)[1].split("\n## ")[0];
  const rows = section.split("\n").filter((line) => line.startsWith("| `"));
  return rows.map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim().replace(/^`([^`]*)`$/, "$1")));
}

Deno.test("docs/shards.md lists the fields that parseMetadata() asks for, in order and with their types", async () => {
  const rows = await specifiedRows("Metadata");
  assert.deepEqual(rows.map(([name]) => name), metadataFields);
  for (const [name, type] of rows) {
    const wrong = type === "string" ? 1 : "text";
    assert.throws(() => parseMetadata(JSON.stringify({ ...example, [name]: wrong }), "m.json"), {
      name: "SyntaxError",
      message: `Cannot read m.json: ${name} must be of type ${type}, current type is ${typeof wrong}`,
    });
  }
});

Deno.test("docs/shards.md lists the columns of shardSchema() with their types", async () => {
  const rows = await specifiedRows("Columns");
  const { fields } = shardSchema({ ...example, layers: [7] });
  assert.deepEqual(
    fields.map(({ name, type }) => [name, `${type}`]),
    rows.map(([name, type]) => [name.replace("<n>", "7"), type.replace("d_model", "5")]),
  );
  assert.ok(fields.every((field) => !field.nullable));
});

Deno.test("docs/shards.md names the version and the files that the code writes", async () => {
  const text = await readFile(new URL("../../docs/shards.md", import.meta.url), "utf8");
  assert.match(text, new RegExp(`^Format version: \\*\\*${shardFormatVersion}\\*\\*\\.`, "m"));
  const files = (await specifiedRows("Files")).map(([name]) => name);
  assert.deepEqual(files, [
    `${shardFileName(0)}\`, \`${shardFileName(1)}\`, …`.replace(/^/, "`"),
    metadataFileName,
    progressFileName,
    "*.partial",
  ]);
  assert.ok(text.includes(`The key \`${schemaMetadataKey}\` in the schema's metadata`));
});

Deno.test("writeShards() writes what docs/shards.md says", async () => {
  await withRecording(async (directory) => {
    const metadata = JSON.parse(await readFile(join(directory, metadataFileName), "utf8"));
    assert.deepEqual(Object.keys(metadata), metadataFields);
    assert.equal(metadata.tokens_per_image, metadata.n_special_tokens + metadata.grid_height * metadata.grid_width);
    assert.equal(metadata.n_tokens, metadata.n_images * metadata.tokens_per_image);
    assert.deepEqual(metadata.shards.map((shard: { file: string }) => shard.file), [0, 1, 2, 3, 4].map(shardFileName));

    const described = Object.fromEntries(
      metadataFields.slice(0, metadataFields.indexOf("transform") + 1).map((name) => [name, metadata[name]]),
    );
    for (const { file, n_images: nImages, n_bytes: nBytes } of metadata.shards) {
      const bytes = await readFile(join(directory, file));
      const { schema, numRows, batches } = tableFromIPC(bytes);
      assert.deepEqual(JSON.parse(schema.metadata.get(schemaMetadataKey)!), described);
      assert.equal(numRows, nImages * metadata.tokens_per_image);
      assert.ok(batches.every((batch) => batch.numRows % metadata.tokens_per_image === 0));
      assert.equal(bytes.length, nBytes);
      // 6 bytes a token and 4 a number; headers, footer and padding are all that comes on top.
      const data = numRows * (6 + 2 * 4 * metadata.d_model);
      assert.ok(nBytes > data && nBytes < data + 5000, `${nBytes} bytes for ${data} bytes of data`);
    }
    const second = tableFromIPC(await readFile(join(directory, shardFileName(1))));
    const tokens = [...Array(17).keys()];
    assert.deepEqual([...second.getChild("token_index")!.toArray()], [...tokens, ...tokens, ...tokens, ...tokens]);
    const images = [4, 5, 6, 7].flatMap((image) => new Array(17).fill(image));
    assert.deepEqual([...second.getChild("image_index")!.toArray()], images);
    const shards = await openShards(directory);
    assert.deepEqual(shards.metadata, metadata);
    await shards.close();
  });
});

Deno.test("shardFileName() and layerColumn() number from 0", () => {
  assert.equal(shardFileName(3), "shard_000003.arrow");
  assert.equal(shardFileName(1234567), "shard_1234567.arrow");
  assert.equal(layerColumn(11), "layer_11");
});

const example = {
  format_version: 1,
  model: { path: "model.onnx", sha256: "00" },
  layers: [1],
  stream: "resid_post" as const,
  dtype: "float32" as const,
  d_model: 5,
  tokens_per_image: 7,
  n_special_tokens: 1,
  cls: true,
  grid_height: 2,
  grid_width: 3,
  dataset: { kind: "folder", location: "images", fingerprint: "00", n_images: 1, n_selected: 1, selection: "all" },
  transform: {},
  n_images: 1,
  n_tokens: 7,
  n_done: 1,
  shards: [{ file: "shard_000000.arrow", n_images: 1, n_bytes: 9 }],
  skipped: [],
};

Deno.test("parseMetadata() reads what was written, and ignores fields that it does not know", () => {
  assert.deepEqual(parseMetadata(JSON.stringify(example), "m.json"), example);
  assert.equal(parseMetadata(JSON.stringify({ ...example, later: 1 }), "m.json").d_model, 5);
});

Deno.test("parseMetadata() refuses what is no metadata", () => {
  const { n_done: _, ...incomplete } = example;
  const cases: [string, string, string][] = [
    ["", "SyntaxError", "it must be JSON"],
    ["{'layers': 1}", "SyntaxError", "it must be JSON"],
    ["null", "SyntaxError", "format_version must be of type number, current type is undefined"],
    ["[]", "SyntaxError", "format_version must be of type number, current type is undefined"],
    [JSON.stringify(incomplete), "SyntaxError", "n_done must be of type number, current type is undefined"],
    [JSON.stringify({ ...example, shards: {} }), "SyntaxError", "shards must be of type array, current type is object"],
    [JSON.stringify({ ...example, model: null }), "SyntaxError", "model must be of type object, current type is null"],
    [
      '{"format_version": 2}',
      "RangeError",
      "format version must be at most 1, current value is 2; update sparsight to read it",
    ],
  ];
  for (const [text, name, reason] of cases) {
    assert.throws(() => parseMetadata(text, "m.json"), { name, message: `Cannot read m.json: ${reason}` });
  }
});
