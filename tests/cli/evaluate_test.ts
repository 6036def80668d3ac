import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fittingTable } from "../../cli/evaluate.ts";
import { writeSafetensors } from "../../lib/tensors/safetensors.ts";
import { metricDefinitions } from "../../lib/sae/metrics/metrics.ts";
import { openShards } from "../../lib/shards/read.ts";
import { trainRun } from "../../lib/runs/run.ts";
import { trainSweep } from "../../lib/runs/sweep.ts";
import { tinyOptions, writeTokens } from "../runs/tiny_run.ts";
import { assertFails, makeImages, makeSae, modelPath, runCli, withFolder } from "./support.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

const evaluate = (...more: string[]) => [
  ...["evaluate", "--sae", fixture("saev/s5_HEAD_Relu.pt"), "--activations", fixture("saev/x.npy")],
  ...["--backend", "cpu", ...more],
];

Deno.test("evaluate prints every convention side by side", async () => {
  const { status, stdout } = await runCli(...evaluate());
  assert.equal(status, 0);
  assert.match(stdout, /^Measured 16 tokens of .*x\.npy on onnxruntime, .*, compared as they were given$/m);
  for (const { name } of metricDefinitions) assert.ok(stdout.includes(`\n${name} `), name);
  assert.match(stdout, /^L0, non-zero +62\.81 +mean_t #\(f ≠ 0\) +saev l0$/m);
  assert.match(stdout, /^Latents by log10 of their density, from: -1\.5: \d+/m);
});

Deno.test("evaluate --json has the same as data, and can leave the coherence out", async () => {
  const { stdout } = await runCli(
    ...evaluate("--json", "--no-coherence", "--tokens-per-image", "4", "--dead-window", "7"),
  );
  const found = JSON.parse(stdout);
  assert.equal(found.l0_non_zero, 62.8125);
  assert.deepEqual([found.dictionary_coherence, found.coherence_latents, found.dead_window_tokens], [null, 0, 7]);
  assert.equal(found.position_mse.length, 4);
  assert.ok(found.n_dead_window >= found.n_dead && found.n_dead_window > 0);
});

Deno.test("evaluate measures recordings and tensors by name", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const images = await makeImages(at("images"), { count: 4 });
    await runCli("record", "--model", modelPath, "--images", images, "--layers", "2,3", "--out", at("shards"));
    await makeSae(at("sae"));
    const measure = async (...more: string[]) => {
      const { stdout } = await runCli("evaluate", "--sae", at("sae"), "--backend", "cpu", "--json", ...more);
      return JSON.parse(stdout);
    };
    const cls = await measure("--activations", at("shards"), "--layer", "-1", "--tokens", "cls");
    assert.deepEqual([cls.n_tokens, cls.position_mse.length], [4, 1]);
    const patches = await measure("--activations", at("shards"), "--layer", "3");
    assert.deepEqual([patches.n_tokens, patches.position_mse.length], [4 * 64, 64]);
    const { error } = await measure("--activations", at("shards"));
    assert.match(error, /layer must be given, one of 2, 3 was recorded$/);

    const tensor = { shape: [2, 192], data: Float32Array.from({ length: 384 }, (_, i) => Math.sin(i)) };
    await writeFile(at("x.safetensors"), writeSafetensors({ left: tensor, right: tensor }));
    assert.equal((await measure("--activations", at("x.safetensors"), "--tensor", "right")).n_tokens, 2);
  });
});

Deno.test("evaluate is called metrics, too, and --out writes what --json prints", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "metrics.json");
    const { stdout } = await runCli(...evaluate("--json", "--out", out));
    const text = await readFile(out, "utf8");
    assert.deepEqual(JSON.parse(text), JSON.parse(stdout));
    assert.match(text, /^\{\n {2}"n_tokens": 16,\n/);
    assert.equal((await runCli("metrics", ...evaluate("--json").slice(1))).stdout, stdout);
    assert.match((await runCli(...evaluate("--out", out))).stdout, /\nSaved to .*metrics\.json\n$/);
  });
});

Deno.test("evaluate gives a run the metrics that its training wrote, without being told its layer", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await writeTokens(at("shards"));
    await writeTokens(at("held_out"), { seed: 12 });
    const [shards, heldOut] = [await openShards(at("shards")), await openShards(at("held_out"))];
    const { metrics } = await trainRun(shards, { ...tinyOptions(at("run")), heldOut });
    await shards.close();
    await heldOut.close();
    const { stdout, stderr } = await runCli(
      ...["evaluate", "--sae", at("run"), "--shards", at("held_out"), "--backend", "cpu", "--threads", "1", "--json"],
    );
    assert.equal(stderr, "");
    const { decisions, ...found } = JSON.parse(stdout);
    assert.deepEqual(decisions, []);
    assert.deepEqual(found, metrics);
    assert.equal(metrics!.dead_window_tokens, 500);

    await rm(at("run/result.json"));
    await assertFails(
      ["evaluate", "--sae", at("run"), "--shards", at("held_out")],
      /^Cannot evaluate .*run: the run in it must be finished, there is no result\.json; go on with the command that/,
    );
  });
});

Deno.test("evaluate puts the runs of a sweep into one table, in their order, and names those that are not finished", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await writeTokens(at("shards"));
    await writeTokens(at("held_out"), { seed: 12 });
    const [shards, heldOut] = [await openShards(at("shards")), await openShards(at("held_out"))];
    const run = { dSae: 48, batchSize: 128, learningRate: 1e-2, epochs: 1, seed: 1 };
    const runs = [{ ...run, name: "wide", k: 4 }, { ...run, name: "narrow", k: 2 }, { ...run, name: "a", k: 2 }];
    const options = { directory: at("sweep"), layer: 3, threads: 1, runs, heldOut };
    const swept = await trainSweep(shards, options);
    await shards.close();
    await heldOut.close();
    await rm(at("sweep/a/result.json"));
    await mkdir(at("sweep/notes"));
    const args = ["evaluate", "--sae", at("sweep"), "--shards", at("held_out"), "--backend", "cpu", "--threads", "1"];
    const { stdout } = await runCli(...args, "--json");
    const found = JSON.parse(stdout);
    assert.deepEqual(found.runs.map(({ run }: { run: string }) => run), ["wide", "narrow"]);
    assert.deepEqual(found.unfinished, ["a"]);
    assert.deepEqual(
      found.runs.map((run: Record<string, number>) => [run.l0, run.normalized_mse]),
      swept.slice(0, 2).map(({ l0, normalizedMse }) => [l0, normalizedMse]),
    );
    assert.deepEqual(found.front, swept[0].normalizedMse < swept[1].normalizedMse ? ["narrow", "wide"] : ["narrow"]);

    const table = (await runCli(...args)).stdout.split("\n");
    assert.match(table[0], /^Measured 1000 tokens of .*held_out on onnxruntime, /);
    assert.match(table[2], /^run +d_sae +normalized MSE +L0 +dead/);
    assert.match(table[4], /^wide +48 +\S+ +\S+ +\d+/);
    assert.match(table[5], /^narrow +48 +/);
    assert.equal(table.at(-2), "Left out, as not finished: a");

    for (const name of ["wide", "narrow"]) await rm(at(`sweep/${name}/result.json`));
    await assertFails(args, /^Cannot evaluate .*sweep: a run of the sweep must be finished, there is no result\.json/);
  });
});

Deno.test("evaluate measures images as it measures a recording of them", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const images = await makeImages(at("images"), { count: 4 });
    await runCli("record", "--model", modelPath, "--images", images, "--layers", "2", "--out", at("shards"));
    await makeSae(at("sae"));
    const measure = async (...more: string[]) => {
      const { stdout, stderr } = await runCli("evaluate", "--sae", at("sae"), "--backend", "cpu", "--json", ...more);
      assert.equal(stderr, "");
      return JSON.parse(stdout);
    };
    const recorded = await measure("--shards", at("shards"), "--layer", "2");
    const seen = await measure("--vit", modelPath, "--images", images, "--layer", "2");
    assert.deepEqual(seen, recorded);
    assert.equal(seen.n_tokens, 4 * 64);
    await assertFails(
      ["evaluate", "--sae", at("sae"), "--vit", modelPath, "--images", images],
      /^Cannot evaluate on .*images: layer must be given, the SAE does not tell its own$/,
    );
  });
});

Deno.test("evaluate wants activations once", async () => {
  const wrong = (given: string[], named: string) =>
    assertFails(
      ["evaluate", "--sae", "sae", ...given],
      new RegExp(
        "^Cannot evaluate: there must be --shards, --activations, or --vit and --images, current options are " +
          `${named}$`,
      ),
    );
  await wrong([], "none of them");
  await wrong(["--shards", "s", "--activations", "x.npy"], "--shards, --activations");
  await wrong(["--vit", "v.onnx"], "--vit");
});

Deno.test("fittingTable() leaves columns out that a terminal is too narrow for", () => {
  const rows = [{ metric: "MSE", value: 1, formula: "mean δ²", source: "everybody, everywhere" }];
  assert.match(fittingTable(rows, undefined), /everybody/);
  assert.match(fittingTable(rows, 60), /everybody/);
  const columnsAt = (width: number) => fittingTable(rows, width).split("\n")[0].split(/ +/);
  assert.deepEqual(columnsAt(30), ["metric", "value", "formula"]);
  assert.deepEqual(columnsAt(3), ["metric", "value"]);
});
