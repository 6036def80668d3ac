import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openByteSource } from "../../lib/tensors/byte_source.ts";
import { writeSafetensors } from "../../lib/tensors/safetensors.ts";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import { readRowsOf, readTensor } from "../../lib/tensors/tensor_layout.ts";
import { assertTensors, expectedNumbers, fixture } from "./expected_tensors.ts";
import { bytesOf } from "./make_zip.ts";

/** A safetensors file with one tensor of a kind, made by hand. */
function safetensors(dtype: string, bytes: Uint8Array, { shape = [2], metadata }: {
  shape?: number[];
  metadata?: Record<string, string>;
} = {}): Uint8Array {
  const x = { dtype, shape, data_offsets: [0, bytes.length] };
  const header = new TextEncoder().encode(JSON.stringify(metadata ? { __metadata__: metadata, x } : { x }));
  const file = new Uint8Array(8 + header.length + bytes.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  file.set(bytes, 8 + header.length);
  return file;
}

Deno.test("openTensorFile() reads safetensors of every kind of number", async () => {
  const cases: [string, string, ArrayBufferView, number[]][] = [
    ["F64", "float64", Float64Array.of(1 / 3, -1e300), [Math.fround(1 / 3), -Infinity]],
    ["F32", "float32", Float32Array.of(1.5, -0), [1.5, -0]],
    ["F16", "float16", Uint16Array.of(0x3c00, 0x8001), [1, -(2 ** -24)]],
    ["BF16", "bfloat16", Uint16Array.of(0x3f80, 0xff80), [1, -Infinity]],
    ["I64", "int64", BigInt64Array.of(-1n, 2n ** 62n), [-1, 2 ** 62]],
    ["I32", "int32", Int32Array.of(-1, 7), [-1, 7]],
    ["I16", "int16", Int16Array.of(-1, 7), [-1, 7]],
    ["I8", "int8", Int8Array.of(-1, 7), [-1, 7]],
    ["U8", "uint8", Uint8Array.of(255, 7), [255, 7]],
    ["BOOL", "bool", Uint8Array.of(1, 0), [1, 0]],
  ];
  for (const [code, dtype, { buffer }, numbers] of cases) {
    const file = await openTensorFile(safetensors(code, new Uint8Array(buffer)));
    assert.deepEqual(file.entries, new Map([["x", { dtype, shape: [2] }]]));
    assert.deepEqual(await file.read("x"), Float32Array.from(numbers), code);
  }
});

Deno.test("openTensorFile() gives the metadata of safetensors, and reads what writeSafetensors() writes", async () => {
  const numbers = new Uint8Array(Float32Array.of(1, 2).buffer);
  const file = await openTensorFile(safetensors("F32", numbers, { metadata: { format: "pt" } }));
  assert.deepEqual([file.format, file.values], ["safetensors", new Map([["__metadata__.format", "pt"]])]);
  const written = await openTensorFile(
    writeSafetensors({ a: { shape: [2], data: Float32Array.of(3, 4) }, b: { shape: [], data: Float32Array.of(5) } }),
  );
  assert.deepEqual(await written.read("a"), Float32Array.of(3, 4));
  assert.deepEqual(await written.read("b"), Float32Array.of(5));
});

Deno.test("openTensorFile() tells a header of 123 bytes from a line of text that begins with the same byte", async () => {
  const name = "x".repeat(123 - '{"":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.length);
  const header = JSON.stringify({ [name]: { dtype: "F32", shape: [2], data_offsets: [0, 8] } });
  assert.equal(header.length, 123);
  const file = await openTensorFile(bytesOf(`{\0\0\0\0\0\0\0${header}\0\0\x80\x3f\0\0\0\x40`));
  assert.deepEqual(await file.read(name), Float32Array.of(1, 2));
});

Deno.test("openTensorFile() refuses kinds of numbers of safetensors that it does not know", async () => {
  await assert.rejects(openTensorFile(safetensors("F8_E4M3", Uint8Array.of(1, 2))), {
    name: "TypeError",
    message: "Cannot read tensor file: dtype of tensor x must be one of " +
      "F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL, current value is F8_E4M3",
  });
});

Deno.test("openTensorFile() reads npz arrays of any order of bytes and axes, and refuses compressed ones", async () => {
  await assertTensors("arrays.npz");
  await assert.rejects(openTensorFile(fixture("compressed.npz")), {
    name: "TypeError",
    message: `Cannot read ${fixture("compressed.npz")}: zip entry x.npy must be stored as it is, ` +
      "it is compressed: use numpy.savez",
  });
});

Deno.test("readRows() gives the rows of any view", async () => {
  const file = await openTensorFile(fixture("views.pt"));
  for (const [name, { shape }] of file.entries) {
    if (shape.length === 0) continue;
    const all = expectedNumbers("views.pt", name);
    const rowLength = shape.slice(1).reduce((product, size) => product * size, 1);
    for (const [first, count] of [[0, shape[0]], [shape[0] >> 1, Math.min(1, shape[0])], [shape[0], 0]]) {
      assert.deepEqual(
        await file.readRows(name, { first, count }),
        all.slice(first * rowLength, (first + count) * rowLength),
        `${name} ${first} ${count}`,
      );
    }
  }
  await file.close();
});

Deno.test("readRows() refuses rows that are not there", async () => {
  const file = await openTensorFile(fixture("views.pt"));
  for (const [first, count] of [[0, 8], [7, 1], [-1, 1], [0.5, 1], [0, -1], [NaN, 1]]) {
    await assert.rejects(file.readRows("base", { first, count }), {
      name: "RangeError",
      message: `Cannot read rows of tensor base: rows must lie within 0 to 7, ` +
        `current first is ${first} and count is ${count}`,
    });
  }
  await assert.rejects(file.readRows("scalar", { first: 0, count: 1 }), {
    name: "RangeError",
    message: "Cannot read rows of tensor scalar: the tensor must have an axis, its shape is []",
  });
  await file.close();
});

Deno.test("read() lists the tensors that there are", async () => {
  const file = await openTensorFile(fixture("zip64.pt"));
  await assert.rejects(file.read("W_enc"), {
    name: "RangeError",
    message: `Cannot read tensor of ${fixture("zip64.pt")}: name must be one of weight, bias, current value is W_enc`,
  });
  await file.close();
});

/** Numbers 0, 1, 2, … as a file of float32, and the bytes that were read of it. */
async function countedSource(nNumbers: number) {
  const source = await openByteSource(new Uint8Array(Float32Array.from({ length: nNumbers }, (_, i) => i).buffer));
  const counts = { nReads: 0, nBytes: 0 };
  const count = (length: number) => {
    counts.nReads++;
    counts.nBytes += length;
  };
  const counted: typeof source = {
    ...source,
    read: (position, length) => (count(length), source.read(position, length)),
    readInto: (target, position) => (count(target.length), source.readInto(target, position)),
  };
  return { source: counted, counts };
}

const float32 = { dtype: "float32", position: 0, bigEndian: false } as const;

Deno.test("readRowsOf() reads only the bytes of contiguous rows, in one read", async () => {
  const { source, counts } = await countedSource(100 * 50);
  const tensor = { ...float32, shape: [100, 50], strides: [50, 1] };
  const rows = await readRowsOf(source, tensor, { name: "x", first: 7, count: 2 });
  assert.deepEqual(rows, Float32Array.from({ length: 100 }, (_, i) => 350 + i));
  assert.deepEqual(counts, { nReads: 1, nBytes: 400 });
});

Deno.test("readRowsOf() leaves out the wide gaps of a transposed tensor", async () => {
  const [rows, columns] = [20_000, 30];
  const { source, counts } = await countedSource(rows * columns);
  const tensor = { ...float32, shape: [rows, columns], strides: [1, rows] };
  const row = await readRowsOf(source, tensor, { name: "x", first: 11, count: 1 });
  assert.deepEqual(row, Float32Array.from({ length: columns }, (_, i) => 11 + i * rows));
  assert.deepEqual(counts, { nReads: columns, nBytes: 4 * columns });
});

Deno.test("openTensorFile() takes safetensors for what they are, whatever length they begin with", async () => {
  // Lengths of headers are multiples of 8; the lowest byte of 128 is how pickles begin.
  const lengths = new Set<number>();
  for (let length = 1; length < 400; length++) {
    const bytes = writeSafetensors({ ["x".repeat(length)]: { shape: [1], data: Float32Array.of(length) } });
    lengths.add(bytes[0]);
    const file = await openTensorFile(bytes);
    assert.deepEqual(await file.read("x".repeat(length)), Float32Array.of(length));
  }
  assert.ok(lengths.has(0x80) && lengths.has(0x50));
});

Deno.test("read() and readRows() transpose matrices on the way", async () => {
  const data = Float32Array.of(0, 1, 2, 3, 4, 5);
  const file = await openTensorFile(writeSafetensors({
    matrix: { shape: [2, 3], data },
    vector: { shape: [6], data },
  }));
  assert.deepEqual(await file.read("matrix", { transpose: true }), Float32Array.of(0, 3, 1, 4, 2, 5));
  const columns = await file.readRows("matrix", { first: 1, count: 2, transpose: true });
  assert.deepEqual(columns, Float32Array.of(1, 4, 2, 5));
  await assert.rejects(file.read("vector", { transpose: true }), {
    name: "RangeError",
    message: "Cannot transpose tensor vector: it must have two axes, its shape is [6]",
  });
});

Deno.test("readTensor() reads scattered numbers of a large tensor, several at a time, each to its place", async () => {
  const [rows, columns] = [20_011, 300];
  const { source, counts } = await countedSource(rows * columns);
  let nOpen = 0;
  let most = 0;
  const slow: typeof source = {
    ...source,
    async readInto(target, position) {
      most = Math.max(most, ++nOpen);
      await new Promise((resolve) => setTimeout(resolve));
      await source.readInto(target, position);
      nOpen--;
    },
  };
  const tensor = { ...float32, shape: [rows, columns], strides: [1, rows] };
  const row = await readRowsOf(slow, tensor, { name: "x", first: 5, count: 1 });
  assert.deepEqual(row, Float32Array.from({ length: columns }, (_, i) => 5 + i * rows));
  assert.deepEqual([most, counts.nBytes], [8, 4 * columns]);
});

Deno.test("readTensor() reads large transposed tensors in pieces, each byte once", async () => {
  const [rows, columns] = [1201, 4003];
  const { source, counts } = await countedSource(rows * columns);
  const numbers = await readTensor(source, { ...float32, shape: [rows, columns], strides: [1, rows] });
  assert.deepEqual(counts, { nReads: 8, nBytes: 4 * rows * columns });
  const isTransposed = numbers.every((value, i) => value === Math.floor(i / columns) + (i % columns) * rows);
  assert.ok(isTransposed);
});

Deno.test("openTensorFile() says why a file cannot be opened", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sparsight_tensor_file_"));
  try {
    const missing = join(folder, "sae.pt");
    await assert.rejects(openTensorFile(missing), {
      name: "Error",
      message: `Cannot read ${missing}: the file must be readable (ENOENT)`,
    });
    await assert.rejects(openTensorFile(folder), {
      name: "Error",
      message: `Cannot read ${folder}: it must be a file`,
    });
    const other = join(folder, "page.html");
    await writeFile(other, "<html>\n");
    await assert.rejects(openTensorFile(other), {
      name: "SyntaxError",
      message: `Cannot read ${other}: the file must be torch, safetensors or npz, ` +
        "it begins with bytes 60 104 116 109 108 62 10",
    });
  } finally {
    await rm(folder, { recursive: true });
  }
});

Deno.test("openTensorFile() refuses bytes of other formats", async () => {
  const refuses = (bytes: Uint8Array, required: string) =>
    assert.rejects(openTensorFile(bytes), { name: "SyntaxError", message: `Cannot read tensor file: ${required}` });
  await refuses(new Uint8Array(0), "the file must be torch, safetensors or npz, it is empty");
  await refuses(bytesOf('{"schema": 5}'), "its first line must be a header of at most 65536 bytes, it does not end");
  await refuses(bytesOf("{\xff}\nPK"), "its first line must be UTF-8 text");
  await refuses(bytesOf("{}\nPK"), "the file must be torch, safetensors or npz, it begins with bytes 80 75");
});
