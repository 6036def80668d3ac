import assert from "node:assert/strict";
import { Command } from "commander";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { diagnosisTable, doctorCommand } from "../../cli/doctor.ts";
import { embeddedPaths } from "../../lib/embedded.ts";
import { openImages } from "../../lib/images/open.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { diagnoseSae } from "../../lib/sae/doctor/doctor.ts";
import { parseSidecar } from "../../lib/sae/normalization_file.ts";
import { saveSae } from "../../lib/sae/save.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { dModel, hideConvention } from "../sae/hidden_conventions.ts";
import { withFolder } from "./support.ts";

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

/** Runs the command and gives what it printed, without progress. */
async function doctor(...args: string[]): Promise<string> {
  const { log, error } = console;
  const printed: string[] = [];
  console.log = (...parts) => void printed.push(parts.join(" "));
  console.error = () => {};
  try {
    const { signal } = new AbortController();
    const command = doctorCommand({ signal, steps: [] }).exitOverride().configureOutput({ writeErr: () => {} });
    await new Command("sparsight").addCommand(command)
      .parseAsync(["doctor", "--backend", "cpu", ...args], { from: "user" });
    return printed.join("\n");
  } finally {
    Object.assign(console, { log, error });
  }
}

/** Saves activations as NumPy does. */
async function writeNpy(path: string, x: Float32Array): Promise<void> {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${x.length / dModel}, ${dModel}), }`.padEnd(117);
  const start = [0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, 118, 0];
  await writeFile(
    path,
    [Uint8Array.from(start), header + "\n", new Uint8Array(x.buffer)].map((part) => Buffer.from(part)),
  );
}

Deno.test("doctor finds a hidden convention and writes it beside the SAE, where loading follows it", async () => {
  await withFolder(async (folder) => {
    const { sae, x } = hideConvention({ normalization: "mean, scalar", subtractBDec: false });
    const [path, activations] = [join(folder, "sae"), join(folder, "x.npy")];
    await saveSae(sae, path);
    await writeNpy(activations, x);
    const told = await doctor("--sae", path, "--activations", activations);
    assert.match(told, /^ {2}.*normalization .*−b_dec .*rule .*n\.MSE .*L0/);
    assert.match(told, /\n {3}mean, scalar +no +ReLU +\S+ +2 +100 +0 +700\n/);
    assert.match(told, /\n\* {2}none +yes +ReLU /);
    assert.match(
      told,
      /\nFits, but not as it was read: on x\.npy, with normalization mean, scalar; b_dec not subtracted;/,
    );
    assert.match(told, /\nKeep this beside the SAE, .*--write-sidecar\nIn code: loadSae\(.*subtractBDec: false }\)$/);
    assert.deepEqual((await readdir(path)).sort(), ["cfg.json", "sae_weights.safetensors"]);

    const wrote = await doctor("--sae", path, "--activations", activations, "--write-sidecar");
    const sidecarPath = join(path, "normalization.json");
    assert.ok(wrote.endsWith(`\nWrote ${sidecarPath}: loading the SAE follows it from now on`));
    const sidecar = parseSidecar(await readFile(sidecarPath), { name: sidecarPath, dModel });
    assert.equal(sidecar.normalization.kind, "affine");
    assert.equal(sidecar.subtractBDec, false);

    const again = JSON.parse(await doctor("--sae", path, "--activations", activations, "--json"));
    assert.equal(again.verdict, "fits");
    assert.deepEqual([again.candidates[0].normalization, again.candidates[0].is_as_read], ["as read", true]);
  });
});

Deno.test("doctor --json gives every candidate, and numbers of the card decide", async () => {
  const result = JSON.parse(
    await doctor(
      ...["--sae", join(fixtures, "saev/v0_feb2025_Relu.pt"), "--no-subtract-b-dec"],
      ...["--activations", join(fixtures, "saev/x.npy"), "--expected-l0", "61.94", "--json"],
    ),
  );
  assert.deepEqual(Object.keys(result), ["verdict", "text", "warnings", "n_tried", "candidates"]);
  assert.equal(result.n_tried, 18);
  assert.ok(result.candidates.every((candidate: { n_tokens: number }) => candidate.n_tokens === 16));
  const asRead = result.candidates.find((candidate: { is_as_read: boolean }) => candidate.is_as_read);
  assert.deepEqual([asRead.normalization, asRead.subtract_b_dec, asRead.rule], ["none", false, { kind: "relu" }]);
});

Deno.test("doctor tries the recorded layers next to the SAE's own, and tells all tokens from patches and CLS", async () => {
  await withFolder(async (folder) => {
    const paths = embeddedPaths();
    const [vit, images] = [await openVit(paths.vit), await openImages(paths.images)];
    const shards = join(folder, "shards");
    await writeShards(vit, images, {
      directory: shards,
      layers: [1, 2, 3],
      imageIndices: Array.from({ length: 12 }, (_, i) => 800 * i),
    });
    const common = ["--sae", paths.sae, "--n-tokens", "64", "--json"];
    const recorded = JSON.parse(await doctor("--shards", shards, ...common));
    assert.equal(recorded.verdict, "fits");
    assert.equal(recorded.candidates[0].activations, "layer 3, all tokens");
    // Layers 3 and 2, all tokens, patches and CLS, 54 conventions each.
    assert.equal(recorded.n_tried, 2 * 3 * 54);

    await assert.rejects(doctor("--shards", shards, "--layer", "1", "--tokens", "cls", "--write-sidecar", ...common), {
      name: "Error",
      message: /^Cannot write sidecar: the SAE must fit some activations\. Fits nothing: /,
    });
    const seen = JSON.parse(
      await doctor("--vit", paths.vit, "--images", paths.images, "--n-images", "6", "--tokens", "patches", ...common),
    );
    assert.equal(seen.candidates[0].activations, "layer 3, patches");
    // Layers 3, 2 and 4, and layer 3 with the other GELU.
    assert.equal(seen.n_tried, 4 * 54);
  });
});

Deno.test("doctor's table fits 80 columns, and says more in 120", async () => {
  const { sae, x } = hideConvention({
    normalization: "none",
    subtractBDec: true,
    shownRule: { kind: "topK", k: 2, relu: true },
  });
  const batches = async function* () {
    yield x;
  };
  const variants = [{ name: "layer 10, patches", batches }, { name: "layer 11, cls", batches }];
  const { candidates } = await diagnoseSae(sae, variants, { backend: await createCpuBackend({ threads: 1 }) });
  const lines = (columns?: number) => diagnosisTable(candidates, { columns }).split("\n");
  assert.ok(lines(80).every((line) => line.length <= 80), lines(80).join("\n"));
  assert.ok(lines(120).every((line) => line.length <= 120));
  assert.match(lines(80)[0], /^ +activations +normalization +−b_dec +rule +n\.MSE +L0$/);
  assert.match(lines(120)[0], /L0 +explained % +dead % +tokens$/);
  assert.deepEqual(lines(undefined), lines(120));
});

Deno.test("doctor refuses activations of another width, and none or two sources of them", async () => {
  const sae = ["--sae", embeddedPaths().sae];
  const file = ["--activations", join(fixtures, "saev/x.npy")];
  await assert.rejects(doctor(...sae, ...file), {
    name: "RangeError",
    message: /^Cannot use this SAE on .*x\.npy: its dModel must be 32, current value is 192; choose an SAE/,
  });
  const needed =
    "Cannot diagnose SAE: its activations must be one of --activations FILE, --shards DIR, or --vit FILE " +
    "with --images PATH";
  for (const sources of [[], [...file, "--shards", "shards"], ["--vit", "vit.onnx"], [...file, "--images", "photos"]]) {
    await assert.rejects(doctor(...sae, ...sources), { name: "RangeError", message: needed });
  }
  for (const [flag, value] of [["--tokens", "patch"], ["--expected-l0", "0"], ["--layer", "x"]]) {
    await assert.rejects(doctor(...sae, ...file, flag, value), { name: "CommanderError" });
  }
});
