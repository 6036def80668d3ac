import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fittingTable } from "../../cli/metrics.ts";
import { writeSafetensors } from "../../lib/tensors/safetensors.ts";
import { metricDefinitions } from "../../lib/sae/metrics/metrics.ts";
import { makeImages, makeSae, modelPath, runCli, withFolder } from "./support.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

const metrics = (...more: string[]) => [
  ...["metrics", "--sae", fixture("saev/s5_HEAD_Relu.pt"), "--activations", fixture("saev/x.npy")],
  ...["--backend", "cpu", ...more],
];

Deno.test("metrics prints every convention side by side", async () => {
  const { status, stdout } = await runCli(...metrics());
  assert.equal(status, 0);
  assert.match(stdout, /^Measured 16 tokens of .*x\.npy on onnxruntime, .*, compared as they were given$/m);
  for (const { name } of metricDefinitions) assert.ok(stdout.includes(`\n${name} `), name);
  assert.match(stdout, /^L0, non-zero +62\.81 +mean_t #\(f ≠ 0\) +saev l0$/m);
  assert.match(stdout, /^Latents by log10 of their density, from: -1\.5: \d+/m);
});

Deno.test("metrics --json has the same as data, and can leave the coherence out", async () => {
  const { stdout } = await runCli(
    ...metrics("--json", "--no-coherence", "--tokens-per-image", "4", "--dead-window", "7"),
  );
  const found = JSON.parse(stdout);
  assert.equal(found.l0_non_zero, 62.8125);
  assert.deepEqual([found.dictionary_coherence, found.coherence_latents, found.dead_window_tokens], [null, 0, 7]);
  assert.equal(found.position_mse.length, 4);
  assert.ok(found.n_dead_window >= found.n_dead && found.n_dead_window > 0);
});

Deno.test("metrics measures recordings and tensors by name", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const images = await makeImages(at("images"), { count: 4 });
    await runCli("record", "--model", modelPath, "--images", images, "--layers", "2,3", "--out", at("shards"));
    await makeSae(at("sae"));
    const measure = async (...more: string[]) => {
      const { stdout } = await runCli("metrics", "--sae", at("sae"), "--backend", "cpu", "--json", ...more);
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

Deno.test("fittingTable() leaves columns out that a terminal is too narrow for", () => {
  const rows = [{ metric: "MSE", value: 1, formula: "mean δ²", source: "everybody, everywhere" }];
  assert.match(fittingTable(rows, undefined), /everybody/);
  assert.match(fittingTable(rows, 60), /everybody/);
  const columnsAt = (width: number) => fittingTable(rows, width).split("\n")[0].split(/ +/);
  assert.deepEqual(columnsAt(30), ["metric", "value", "formula"]);
  assert.deepEqual(columnsAt(3), ["metric", "value"]);
});
