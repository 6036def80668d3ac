import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as zlib from "node:zlib";
import {
  compressionRegistry,
  CompressionType,
  Field,
  FixedSizeList,
  Float32,
  Float64,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  Table,
  tableFromIPC,
  tableToIPC,
  Uint16,
  Uint8,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { openArrowFile } from "../../lib/arrow/file_reader.ts";

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-test-"));
  try {
    await test(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const list = new FixedSizeList(3, new Field("item", new Float32(), false));
const schema = new Schema([
  new Field("small", new Uint8(), false),
  new Field("list", list, false),
  new Field("index", new Uint16(), false),
  new Field("large", new Int64(), true),
  new Field("double", new Float64(), false),
]);

/** What the columns of one batch hold; `first` numbers its rows. */
function columnsOf(first: number, rows: number) {
  return {
    small: Uint8Array.from({ length: rows }, (_, i) => (first + i) % 256),
    list: Float32Array.from({ length: rows * 3 }, (_, i) => first + i / 4),
    index: Uint16Array.from({ length: rows }, (_, i) => 1000 + first + i),
    large: BigInt64Array.from({ length: rows }, (_, i) => -BigInt(first + i) * 10n ** 12n),
    double: Float64Array.from({ length: rows }, (_, i) => Math.sqrt(first + i)),
  };
}

function makeBatch(first: number, rows: number): RecordBatch {
  const columns = columnsOf(first, rows);
  const children = [
    makeData({ type: new Uint8(), data: columns.small }),
    makeData({
      type: list,
      length: rows,
      nullCount: 0,
      child: makeData({ type: new Float32(), data: columns.list }),
    }),
    makeData({ type: new Uint16(), data: columns.index }),
    makeData({ type: new Int64(), data: columns.large }),
    makeData({ type: new Float64(), data: columns.double }),
  ];
  return new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length: rows, nullCount: 0, children }));
}

function fileOf(batchRows: readonly number[]): Uint8Array {
  let first = 0;
  const batches = batchRows.map((rows) => makeBatch((first += rows) - rows, rows));
  return tableToIPC(new Table(schema, batches), "file");
}

Deno.test("openArrowFile() reads each column of each batch that apache-arrow wrote", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "table.arrow");
    const batchRows = [5, 1, 13];
    await writeFile(path, fileOf(batchRows));
    const file = await openArrowFile(path);
    assert.deepEqual(file.batchRows, batchRows);
    assert.deepEqual(file.schema.fields.map(({ name, type }) => `${name}: ${type}`), [
      "small: Uint8",
      "list: FixedSizeList[3]<Float32>",
      "index: Uint16",
      "large: Int64",
      "double: Float64",
    ]);
    let first = 0;
    for (const [batchIndex, rows] of batchRows.entries()) {
      // Columns in any order: each is read by its position.
      for (const [name, expected] of Object.entries(columnsOf(first, rows)).reverse()) {
        const bytes = new Uint8Array(await file.readColumn(batchIndex, name));
        const wanted = new Uint8Array(expected.buffer);
        assert.deepEqual(bytes.subarray(0, wanted.length), wanted, `${name} of batch ${batchIndex}`);
        assert.ok(bytes.length - wanted.length < 64, "nothing but padding follows");
      }
      first += rows;
    }
    await file.close();
  });
});

Deno.test("openArrowFile() reads nullable columns past their validity bits", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "nulls.arrow");
    const table = new Table({
      a: vectorFromArray([1, null, 3], new Float32()),
      b: vectorFromArray([4, 5, 6], new Uint16()),
    });
    await writeFile(path, tableToIPC(table, "file"));
    const file = await openArrowFile(path);
    const a = new Float32Array(await file.readColumn(0, "a"));
    assert.deepEqual([a[0], a[2]], [1, 3]);
    assert.deepEqual([...new Uint16Array(await file.readColumn(0, "b")).subarray(0, 3)], [4, 5, 6]);
    await file.close();
  });
});

Deno.test("readColumn() refuses columns and batches that are not there", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "table.arrow");
    await writeFile(path, fileOf([2, 2]));
    const file = await openArrowFile(path);
    for (const [batchIndex, name] of [[0, "gone"], [2, "list"], [-1, "list"]] as const) {
      assert.throws(() => file.readColumn(batchIndex, name), {
        name: "RangeError",
        message:
          `Cannot read column ${name} of batch ${batchIndex} in ${path}: columns are small, list, index, large, ` +
          "double and batches 0 to 1",
      });
    }
    await file.close();
  });
});

Deno.test("openArrowFile() refuses a file that was cut short, at every length", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "table.arrow");
    const bytes = fileOf([1]);
    for (let length = 0; length < bytes.length; length++) {
      await writeFile(path, bytes.subarray(0, length));
      await assert.rejects(openArrowFile(path), (error: Error) => {
        assert.equal(error.name, "SyntaxError", `${length} bytes: ${error}`);
        assert.match(error.message, /: the file must (be an Arrow file, it does not begin with|end with) ARROW1/);
        return true;
      });
    }
  });
});

Deno.test("openArrowFile() refuses a batch whose columns are shorter than it says", async () => {
  const wanted = new Schema([new Field("n", new Uint16(), false)]);
  const children = [makeData({ type: new Uint16(), data: Uint16Array.of(1, 2, 3) })];
  const data = makeData({ type: new Struct(wanted.fields), length: 50, nullCount: 0, children });
  const writer = new RecordBatchFileWriter();
  writer.write(new RecordBatch(wanted, data));
  writer.finish();
  await withFolder(async (folder) => {
    const path = join(folder, "short.arrow");
    await writeFile(path, await writer.toUint8Array());
    await assert.rejects(openArrowFile(path), {
      name: "SyntaxError",
      message: `Cannot read ${path}: column n of batch 0 must hold 50 rows, its bytes are damaged`,
    });
  });
});

Deno.test("openArrowFile() refuses compressed columns", async () => {
  const { zstdCompressSync, zstdDecompressSync } = zlib as unknown as Record<string, (data: Uint8Array) => Uint8Array>;
  compressionRegistry.set(CompressionType.ZSTD, { encode: zstdCompressSync, decode: zstdDecompressSync });
  const writer = new RecordBatchFileWriter({ compressionType: CompressionType.ZSTD });
  writer.write(makeBatch(0, 400));
  writer.finish();
  const bytes = await writer.toUint8Array();
  assert.equal(tableFromIPC(bytes).numRows, 400);
  await withFolder(async (folder) => {
    const path = join(folder, "compressed.arrow");
    await writeFile(path, bytes);
    await assert.rejects(openArrowFile(path), {
      name: "SyntaxError",
      message: `Cannot read ${path}: its columns must not be compressed, batch 0 is`,
    });
  });
});

Deno.test("openArrowFile() gives one clear error for what it cannot read", async () => {
  await withFolder(async (folder) => {
    const text = tableToIPC(new Table({ name: vectorFromArray(["a", "b"], new Utf8()) }), "file");
    const stream = tableToIPC(new Table(schema, [makeBatch(0, 2)]), "stream");
    const whole = fileOf([2]);
    const badFooter = whole.slice();
    const footerLength = new DataView(whole.buffer, whole.byteOffset).getInt32(whole.length - 10, true);
    badFooter.fill(0x7f, whole.length - 10 - footerLength, whole.length - 10);
    const notArrow = "it must be an Arrow file";
    const cases: [string, Uint8Array | string, string][] = [
      ["empty.arrow", "", "PATH: the file must be an Arrow file, it does not begin with ARROW1"],
      ["text.arrow", `${notArrow}, ${notArrow}`, "PATH: the file must be an Arrow file, it does not begin with ARROW1"],
      ["stream.arrow", stream, "PATH: the file must be an Arrow file, it does not begin with ARROW1"],
      ["strings.arrow", text, "PATH: column name must hold numbers or fixed-size lists of numbers"],
      ["footer.arrow", badFooter, "PATH: the file must be a whole Arrow file, its footer is damaged"],
    ];
    for (const [name, content, reason] of cases) {
      const path = join(folder, name);
      await writeFile(path, content);
      await assert.rejects(openArrowFile(path), {
        name: "SyntaxError",
        message: `Cannot read ${reason.replace("PATH", path)}`,
      });
    }
    const gone = join(folder, "gone.arrow");
    await assert.rejects(openArrowFile(gone), {
      name: "Error",
      message: `Cannot read ${gone}: the file must be readable (ENOENT)`,
    });
  });
});
