import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { checkEncode } from "../../bench/check.ts";
import { quickSizes, writeBenchData } from "../../bench/data.ts";
import { median } from "../../bench/measure.ts";
import { benchRows, findRow } from "../../bench/rows.ts";
import { withFolder } from "../vit/fixtures.ts";

const program = fileURLToPath(new URL("../../bench/bench.ts", import.meta.url));

Deno.test("bench measures a row, prints it and writes the numbers", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "deep", "bench.json");
    const args = ["run", "-A", "--no-check", program, "--quick", "--runs", "1", "--row", "encode_topk", "--out", out];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    const { rows, sizes, checks } = JSON.parse(await readFile(out, "utf8"));
    assert.deepEqual(sizes, quickSizes);
    assert.deepEqual(rows.map(({ name }: { name: string }) => name), ["encode_topk"]);
    const [{ seconds, nDone, peakMb }] = rows[0].runs["ours encode"];
    // Four batches of at most 5 images of 9 patches, of 18 images in all.
    assert.equal(nDone, 162);
    assert.equal(rows[0].rate, nDone / seconds);
    assert.ok(Number.isNaN(peakMb) || peakMb > 10);
    assert.equal(checks.length, 2);
    assert.match(stdout, /Latents, topk: within \S+e-\d+ of float64/);
    // Without Python the peers are named as missing; with it they are in the table.
    assert.match(stdout, /PyTorch, dense .*×|Peers in PyTorch are missing/);
  });
});

Deno.test("checkEncode() is within float32 of float64 for both rules", async () => {
  await withFolder(async (folder) => {
    await writeBenchData(folder, quickSizes);
    for (const rule of ["relu", "topk"] as const) {
      const error = await checkEncode(folder, rule, { nTokens: 5 });
      assert.ok(error > 0 && error < 1e-5, `current value is ${error}`);
    }
  });
});

Deno.test("median() is the middle, and the lower of two", () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([3, 1]), 1);
});

Deno.test("findRow() finds rows by name, and names them all where there is none", () => {
  assert.equal(findRow("recording").task, "recording");
  assert.equal(new Set(benchRows.map(({ name }) => name)).size, benchRows.length);
  assert.throws(() => findRow("x"), {
    name: "RangeError",
    message: /^Cannot find row: it must be one of product, .*, memory, current value is x$/,
  });
});
