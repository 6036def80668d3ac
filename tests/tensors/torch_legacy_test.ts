import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import { assertTensors, fixture } from "./expected_tensors.ts";
import { bytesOf } from "./make_zip.ts";

Deno.test("openTensorFile() reads every kind of number of a file without a zip", () =>
  assertTensors("kinds_legacy.pt"));

Deno.test("openTensorFile() reads views and shared storages of a file without a zip", () =>
  assertTensors("views_legacy.pt"));

Deno.test("openTensorFile() names the format and gives plain values", async () => {
  await assertTensors("half_legacy.pt");
  const file = await openTensorFile(fixture("half_legacy.pt"));
  assert.equal(file.format, "torch-legacy");
  assert.deepEqual(file.values, new Map([["n", 4]]));
  await file.close();
});

Deno.test("openTensorFile() reads a file without a zip behind a line of text", async () => {
  const bytes = await readFile(fixture("half_legacy.pt"));
  const file = await openTensorFile(Uint8Array.of(0x7b, 0x7d, 0x0a, ...bytes));
  assert.deepEqual([file.headerLine, file.entries.get("mean")], ["{}", { dtype: "float16", shape: [4] }]);
});

Deno.test("openTensorFile() refuses functions in a file without a zip by name", async () => {
  await assert.rejects(openTensorFile(fixture("attack_legacy.pt")), {
    name: "TypeError",
    message: /current value is posix\.system$/,
  });
});

const start = "\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + "\x80\x02M\xe9\x03.";

/** A file of five pickles by hand, then its storages. */
function legacy({ littleEndian = true, pickle = tensorOf("N"), keys = "](U\x010e", storages = fourNumbers(true) }: {
  littleEndian?: boolean;
  pickle?: string;
  keys?: string;
  storages?: string;
}): Uint8Array {
  const machine = `\x80\x02}U\x0dlittle_endian${littleEndian ? "\x88" : "\x89"}s.`;
  return bytesOf(`${start}${machine}\x80\x02${pickle}.\x80\x02${keys}.${storages}`);
}

/** A vector of the first two numbers of a storage, or of a view of it, as protocol 2 of Python 2 wrote it. */
function tensorOf(view: string): string {
  return "ctorch._utils\n_rebuild_tensor\n" +
    `((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04${view}tQK\x00(K\x02t(K\x01ttR`;
}

function fourNumbers(littleEndian: boolean): string {
  const view = new DataView(new ArrayBuffer(24));
  view.setBigInt64(0, 4n, littleEndian);
  [1, 2, 3, 4].forEach((value, i) => view.setFloat32(8 + 4 * i, value, littleEndian));
  return String.fromCharCode(...new Uint8Array(view.buffer));
}

Deno.test("openTensorFile() reads pickles of Python 2, views of storages and big-endian files", async () => {
  const read = async (bytes: Uint8Array) => await (await openTensorFile(bytes)).read("");
  assert.deepEqual(await read(legacy({})), Float32Array.of(1, 2));
  assert.deepEqual(await read(legacy({ pickle: tensorOf("(U\x01vK\x02K\x02t") })), Float32Array.of(3, 4));
  const bigEndian = legacy({ littleEndian: false, storages: fourNumbers(false) });
  assert.deepEqual(await read(bigEndian), Float32Array.of(1, 2));
});

Deno.test("openTensorFile() reads pickles that are longer than the first read", async () => {
  const file = await openTensorFile(legacy({ pickle: `](${"M\x01\x02".repeat(200_000)}e`, keys: "]", storages: "" }));
  const list = file.values.get("") as number[];
  assert.deepEqual([list.length, list[199_999]], [200_000, 513]);
});

Deno.test("openTensorFile() refuses damaged files without a zip", async () => {
  const refuses = (bytes: Uint8Array, required: string) =>
    assert.rejects(openTensorFile(bytes), { name: "SyntaxError", message: `Cannot read tensor file: ${required}` });
  await refuses(bytesOf("\x80\x02K\x01."), "a file that begins with a pickle must begin with torch's own");
  await refuses(
    bytesOf(start.replace("M\xe9\x03", "M\xea\x03")),
    "its protocol version must be 1001, current value is 1002",
  );
  await refuses(legacy({}).subarray(0, -1), "storage 0 of 16 bytes must lie within the file, it was cut short");
  await refuses(legacy({ keys: "](U\x011e" }), "storage 1 must be one that its tensors use");
  await refuses(legacy({ keys: "]" }), "storage 0 must be in the file");
  await refuses(legacy({ keys: "N" }), "the keys of its storages must be a list");
  await refuses(
    legacy({ pickle: tensorOf("(U\x01vK\x03K\x02t") }),
    "storage 0 must be a view of a part of itself",
  );
  await refuses(bytesOf(start), "its pickle must be whole: it was cut short");
});
