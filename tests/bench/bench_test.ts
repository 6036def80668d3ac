import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { checkEncode } from "../../bench/check.ts";
import type { Measured } from "../../bench/clock.ts";
import { quickSizes, writeBenchData } from "../../bench/data.ts";
import { checkAgreement, median, runByTurns } from "../../bench/measure.ts";
import { benchRows, findRow } from "../../bench/rows.ts";
import { withFolder } from "../vit/fixtures.ts";

const measured = { seconds: 1, nDone: 1, peakMb: 1 };
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

Deno.test("bench trains as saev does, and records photographs beside the bare session", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "bench.json");
    const names = ["train_topk", "train_relu", "recording-photos"];
    const args = ["run", "-A", "--no-check", program, "--quick", "--runs", "1", "--row", ...names, "--out", out];
    await promisify(execFile)(process.execPath, args);
    const { rows } = JSON.parse(await readFile(out, "utf8"));
    const [topk, relu] = [rows[0].runs["ours train"][0], rows[1].runs["ours train"][0]];
    assert.deepEqual([topk.nDone, topk.l0], [2 * 54, quickSizes.k]);
    // A tenth of 384 latents.
    assert.ok(relu.l0 > 30 && relu.l0 < 50, `current value is ${relu.l0}`);
    assert.ok(topk.firstLoss > 0 && relu.firstLoss > 0);
    // With Python the losses of both are there, and were found to be the same.
    for (const { runs, comparisons } of rows.slice(0, 2)) {
      const theirs = runs["train.py"]?.[0];
      assert.equal(comparisons.length, theirs === undefined ? 0 : 2);
      if (theirs) assert.ok(Math.abs(theirs.firstLoss / runs["ours train"][0].firstLoss - 1) < 1e-4);
    }
    const [photos] = rows[2].runs["ours record_photos"];
    assert.equal(photos.nDone, 3 * 4);
    assert.ok(photos.baselineSeconds > 0);
    assert.deepEqual(rows[2].comparisons.map(({ peer }: { peer: string }) => peer), ["bare session"]);
  });
});

Deno.test("bench makes the WebGPU product beside onnxruntime and jax-js, and names what cannot run", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "bench.json");
    const names = ["webgpu_product", "webgpu_product-system"];
    const args = ["run", "-A", "--no-check", program, "--quick", "--runs", "1", "--row", ...names, "--out", out];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    const { rows } = JSON.parse(await readFile(out, "utf8"));
    assert.deepEqual(rows.map(({ name }: { name: string }) => name), names);
    for (const { runs, comparisons, missing } of rows) {
      for (const reason of Object.values<string>(missing)) assert.ok(stdout.includes(`missing: ${reason}`), stdout);
      if (missing.ours !== undefined) {
        console.error(`THE WEBGPU PRODUCT IS NOT MEASURED: ${missing.ours}`);
        assert.deepEqual([runs, comparisons], [{}, []]);
        continue;
      }
      const compared = comparisons.map(({ peer }: { peer: string }) => peer);
      assert.deepEqual([...compared, ...Object.keys(missing)].sort(), ["@jax-js/jax", "onnxruntime WebGPU"]);
      for (const [{ nDone, seconds, sample }] of Object.values<Measured[]>(runs)) {
        // Whole products of 9 tokens.
        assert.ok(nDone > 0 && nDone % 9 === 0 && seconds >= 0.05, `current values are ${nDone}, ${seconds}`);
        assert.ok(sample!.length === 64 && new Set(sample).size > 32);
      }
    }
    const [{ runs, comparisons, missing }] = rows;
    if (missing.ours !== undefined) return;
    // Both are dependencies, and SwiftShader is an adapter for all.
    assert.equal(comparisons.length, 2, JSON.stringify(missing));
    assert.match(runs["ours webgpu_ours_swiftshader"][0].device, /SwiftShader/);
  });
});

Deno.test("runByTurns() asks by turns, and not again who cannot run", async () => {
  await withFolder(async (folder) => {
    const log = join(folder, "log");
    const answer = (name: string, answer: object) => {
      const note = `Deno.writeTextFileSync(${JSON.stringify(log)}, "${name}", { append: true })`;
      return [name, [process.execPath, "eval", `${note}; console.log('${JSON.stringify(answer)}')`]] as const;
    };
    const commands = new Map([answer("a", measured), answer("b", { missing: "no GPU" }), answer("c", measured)]);
    assert.deepEqual(await runByTurns(commands, 2), {
      runs: { a: [measured, measured], c: [measured, measured] },
      reasons: { b: "no GPU" },
    });
    assert.equal(await readFile(log, "utf8"), "abcac");
  });
});

Deno.test("checkAgreement() refuses programs that begin with other losses or find other latents", () => {
  const row = findRow("train_topk");
  const check = (ours: object, theirs: object) =>
    checkAgreement(row, { ours: [{ ...measured, ...ours }], theirs: [{ ...measured, ...theirs }] });
  check({ firstLoss: 0.5, l0: 400 }, { firstLoss: 0.50004, l0: 400.1 });
  check({}, { nLatents: 3 });
  check({ sample: [-20, 1] }, { sample: [-20.0001, 1.0001] });
  for (
    const [ours, theirs, reason] of [
      [{ firstLoss: 0.5 }, { firstLoss: 0.5001 }, /the loss of the first step .* current values are 0.5, 0.5001$/],
      [{ firstLoss: 0.5 }, { firstLoss: NaN }, /the loss of the first step/],
      [{ l0: 400 }, { l0: 401 }, /latents a token must be the same/],
      [{ sample: [-20, 1] }, { sample: [-20, 1.001] }, /products must be the same .* of at most 20$/],
      [{ sample: [1, 2] }, { sample: [1, NaN] }, /products must be the same/],
      [{ sample: [1, 2] }, { sample: [1, 2, 3] }, /products must be the same/],
      [{ nLatents: 3 }, { nLatents: 4 }, /^Cannot compare train_topk: the number of latents/],
    ] as const
  ) {
    assert.throws(() => check(ours, theirs), { name: "Error", message: reason });
  }
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

Deno.test("median() is the middle, the lower of two, and NaN of none", () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([3, 1]), 1);
  assert.equal(median([]), NaN);
});

Deno.test("findRow() finds rows by name, and names them all where there is none", () => {
  assert.equal(findRow("recording").task, "record_emoji");
  assert.equal(new Set(benchRows.map(({ name }) => name)).size, benchRows.length);
  assert.throws(() => findRow("x"), {
    name: "RangeError",
    message: /^Cannot find row: it must be one of product, .*, webgpu_product-system, current value is x$/,
  });
});
