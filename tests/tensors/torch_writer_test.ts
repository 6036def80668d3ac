import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openByteSource } from "../../lib/tensors/byte_source.ts";
import { crc32 } from "../../lib/tensors/crc32.ts";
import { readPickle } from "../../lib/tensors/pickle.ts";
import { writePickle } from "../../lib/tensors/pickle_writer.ts";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import { readStorageId, torchGlobals } from "../../lib/tensors/torch_objects.ts";
import { type TorchDictSource, writeTorchFile } from "../../lib/tensors/torch_writer.ts";
import { locateZipEntry, readZipDirectory } from "../../lib/tensors/zip.ts";
import { writeZip, type ZipSource } from "../../lib/tensors/zip_writer.ts";
import { writeWhole } from "../../lib/runtime/partial_file.ts";
import { loadWithTorch, python, type SeenTensor } from "./python_torch.ts";

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-torch-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const range = (length: number) => Float32Array.from({ length }, (_, i) => i / 8 - 3);

// 67 × 41: sides that are no multiples of a tile.
const tensors = {
  rows: { shape: [3, 5], data: range(15) },
  columns: { shape: [67, 41], data: range(67 * 41), isColumnMajor: true },
  scalar: { shape: [], data: Float32Array.of(0.1) },
  none: { shape: [0, 4], data: new Float32Array(0) },
  special: { shape: [5], data: Float32Array.of(NaN, Infinity, -Infinity, -0, 1e-45) },
};
const plainValues = {
  small: 255,
  wide: 256,
  negative: -1,
  large: 2 ** 40 + 1,
  name: "größe",
  yes: true,
  no: false,
  nothing: null,
};
const root: TorchDictSource = { state: new Map(Object.entries(tensors)), ...plainValues };

Deno.test("writeTorchFile() writes what openTensorFile() reads, whatever the strides", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "a.pt");
    await writeTorchFile(path, { ...root, half: 0.5 }, { headerLine: '{"a": "ß"}' });
    const file = await openTensorFile(path);
    assert.deepEqual([file.format, file.headerLine], ["torch-zip", '{"a": "ß"}']);
    for (const [name, { shape, data }] of Object.entries(tensors)) {
      assert.deepEqual(file.entries.get(`state.${name}`), { dtype: "float32", shape });
      assert.deepEqual(await file.read(`state.${name}`), data, name);
    }
    assert.deepEqual(Object.fromEntries(file.values), {
      ...plainValues,
      half: 0.5,
    });
    await file.close();
  });
});

Deno.test("writeTorchFile() turns matrices that take several pieces", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "a.pt");
    const shape = [1500, 901];
    const data = range(1500 * 901);
    await writeTorchFile(path, { w: { shape, data, isColumnMajor: true }, b: { shape: [data.length], data } });
    const file = await openTensorFile(path);
    assert.deepEqual(await file.read("w"), data);
    assert.deepEqual(await file.read("b"), data);
    await file.close();
  });
});

Deno.test({
  name: "writeTorchFile() writes what torch.load opens with weights_only, equal in numbers and strides",
  ignore: python === undefined,
  fn: () =>
    inFolder(async (folder) => {
      for (const headerLine of [undefined, '{"schema":5}']) {
        const path = join(folder, "a.pt");
        const { special: _, ...comparable } = tensors;
        const withoutNaN = { ...root, state: new Map(Object.entries(comparable)) };
        await writeTorchFile(path, withoutNaN, { headerLine });
        const seen = await loadWithTorch(path);
        assert.deepEqual([seen.header, seen.damaged], [headerLine ?? null, null]);
        assert.deepEqual(seen.names, [
          "archive/data.pkl",
          "archive/byteorder",
          ...[0, 1, 2, 3].map((key) => `archive/data/${key}`),
          "archive/version",
        ]);
        const { state, ...values } = seen.root.items;
        assert.deepEqual([seen.root.class, state.class], ["dict", "OrderedDict"]);
        assert.deepEqual(values, plainValues);
        const strides: Record<string, number[]> = { rows: [5, 1], columns: [1, 67], scalar: [], none: [4, 1] };
        for (const [name, { shape, data }] of Object.entries(comparable)) {
          const tensor: SeenTensor = state.items[name];
          assert.deepEqual(tensor, { shape, stride: strides[name], dtype: "torch.float32", numbers: [...data] }, name);
        }
      }
    }),
});

Deno.test("writeTorchFile() begins each entry at a multiple of 64 bytes of the archive", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "a.pt");
    const headerLine = "{}";
    await writeTorchFile(path, root, { headerLine });
    const source = await openByteSource(path);
    const entries = [...(await readZipDirectory(source)).values()];
    assert.equal(entries.length, 3 + Object.keys(tensors).length);
    for (const entry of entries) {
      const position = await locateZipEntry(source, entry);
      assert.equal((position - headerLine.length - 1) % 64, 0, entry.name);
      assert.equal(entry.isDeflated, false);
    }
    await source.close();
  });
});

Deno.test("writeTorchFile() writes the same bytes each time", async () => {
  await inFolder(async (folder) => {
    const paths = ["a.pt", "b.pt"].map((name) => join(folder, name));
    for (const path of paths) await writeTorchFile(path, root);
    assert.deepEqual(await readFile(paths[0]), await readFile(paths[1]));
  });
});

Deno.test("writeTorchFile() refuses shapes that do not fit, and leaves no file", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "a.pt");
    const cases: [TorchDictSource, string][] = [
      [
        { a: new Map([["w", { shape: [2, 3], data: range(5) }]]) },
        "Cannot write tensor a.w: shape [2,3] must hold 6 numbers, current number is 5",
      ],
      [
        { w: { shape: [6], data: range(6), isColumnMajor: true } },
        "Cannot write tensor w by columns: it must be a matrix, current shape is [6]",
      ],
      [{ n: 2 ** 53 }, "Cannot write pickle: integers must be within 2^53, current value is 9007199254740992"],
    ];
    for (const [dict, message] of cases) {
      await assert.rejects(writeTorchFile(path, dict), { name: "RangeError", message });
    }
    assert.deepEqual(await readdir(folder), []);
    const nowhere = join(folder, "nowhere", "a.pt");
    await assert.rejects(writeTorchFile(nowhere, {}), {
      name: "Error",
      message: `Cannot write ${nowhere}: its folder does not exist`,
    });
  });
});

Deno.test("writeTorchFile() keeps what was there where it is stopped or fails half-way", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "a.pt");
    await writeFile(path, "before");
    const stopped = new DOMException("stopped", "AbortError");
    await assert.rejects(writeTorchFile(path, root, { signal: AbortSignal.abort(stopped) }), stopped);
    const controller = new AbortController();
    const stopsLater = writeWhole(path, async (file) => {
      await file.write(Uint8Array.of(1, 2, 3), 0);
      assert.deepEqual((await readdir(folder)).sort(), ["a.pt", "a.pt.partial"]);
      controller.abort(stopped);
      await file.write(Uint8Array.of(4), 3);
    }, { signal: controller.signal });
    await assert.rejects(stopsLater, stopped);
    const short: ZipSource = { name: "x", length: 4, pieces: () => [Uint8Array.of(1, 2), Uint8Array.of(3)] };
    await assert.rejects(writeWhole(path, (file) => writeZip(file, [short])), {
      name: "RangeError",
      message: "Cannot write zip entry x: its pieces must hold 4 bytes, current number is 3",
    });
    assert.deepEqual(await readdir(folder), ["a.pt"]);
    assert.equal(await readFile(path, "utf8"), "before");
  });
});

const bytesOf = (numbers: Float32Array) => new Uint8Array(numbers.buffer);
const entry = (name: string, bytes: Uint8Array): ZipSource => ({ name, length: bytes.length, pieces: () => [bytes] });

/** A torch archive of which all that is `zip64From` or more, a size or an offset, is written as zip64. */
async function writeZip64(path: string, data: Float32Array, zip64From: number): Promise<void> {
  const tensor = { storageKey: "0", storageLength: data.length, shape: [data.length], strides: [1] };
  const entries = [
    entry("archive/data.pkl", writePickle({ entries: [["w", tensor]], isOrdered: false })),
    entry("archive/version", new TextEncoder().encode("3\n")),
    entry("archive/data/0", bytesOf(data)),
  ];
  await writeWhole(path, (file) => writeZip(file, entries, { zip64From }));
}

Deno.test("writeZip() writes sizes and offsets as zip64 where they are large", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "a.pt");
    const data = range(277);
    for (const zip64From of [100, 1000]) {
      await writeZip64(path, data, zip64From);
      const file = await openTensorFile(path);
      assert.deepEqual(await file.read("w"), data);
      await file.close();
      const view = new DataView((await readFile(path)).buffer);
      // The end gives no offset of its own: it points to the wide one.
      assert.equal(view.getUint32(view.byteLength - 6, true), 0xffffffff);
    }
    // With sizes alone: PyTorch takes wide offsets in files for granted that have more than 4 GiB.
    if (python === undefined) return;
    const seen = await loadWithTorch(path);
    assert.equal(seen.damaged, null);
    assert.deepEqual(seen.root.items.w.numbers, [...data]);
  });
});

Deno.test("crc32() is that of zip archives, also piece by piece", () => {
  const bytes = new TextEncoder().encode("123456789");
  assert.equal(crc32(bytes), 0xcbf43926);
  for (let cut = 0; cut <= 9; cut++) {
    assert.equal(crc32(bytes.subarray(cut), crc32(bytes.subarray(0, cut))), 0xcbf43926);
  }
  assert.equal(crc32(new Uint8Array(0)), 0);
});

Deno.test("writePickle() names three globals and no other", () => {
  const tensor = { storageKey: "0", storageLength: 6, shape: [2, 3], strides: [1, 2] };
  const bytes = writePickle({
    isOrdered: true,
    entries: [["w", tensor], ["n", 3], ["empty", { entries: [], isOrdered: false }]],
  });
  const named = ["collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage"];
  const globals = new Map([...torchGlobals("it")].filter(([name]) => named.includes(name)));
  assert.equal(globals.size, 3);
  const { end } = readPickle(bytes, { file: "it", globals, persistentLoad: (id) => readStorageId(id, "it") });
  assert.equal(end, bytes.length);
});
