import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isClipScope, readClipScope } from "../../lib/checkpoints/clip_scope.ts";
import type { CheckpointDictionary, DictionaryOptions } from "../../lib/checkpoints/dictionary.ts";
import { readNpy } from "../../lib/checkpoints/npy.ts";
import { isSaev, readSaev } from "../../lib/checkpoints/saev.ts";
import { openTensorFile } from "../../lib/checkpoints/tensor_file.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

async function readArray(...path: string[]): Promise<Float32Array> {
  return readNpy(await readFile(join(fixtures, ...path))).data as Float32Array;
}

/** Latents, dense, and reconstructions of `x`. */
async function run({ weights }: CheckpointDictionary, x: Float32Array): Promise<[Float32Array, Float32Array]> {
  const backend = await createCpuBackend({ threads: 1 });
  const sae = await backend.load(weights);
  const latents = await sae.encode(x);
  const reconstruction = await sae.decode(latents);
  await sae.dispose();
  const dense = new Float32Array(latents.nTokens * latents.dSae);
  for (let token = 0; token < latents.nTokens; token++) {
    for (let i = latents.offsets[token]; i < latents.offsets[token + 1]; i++) {
      dense[token * latents.dSae + latents.indices[i]] = latents.values[i];
    }
  }
  return [dense, reconstruction];
}

/** Largest difference, relative to the largest expected number. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  assert.equal(actual.length, expected.length);
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return actual.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0) / scale;
}

// BatchTopK of those days shared k among the batch: latents of a token depend on the other tokens.
const batchWide = ["s1_2025-07-22_BatchTopK", "s1_2025-07-31_BatchTopK", "s2_2025-07-31_BatchTopK"];

// The change of the encoder came without a change of schema: such files need to be told apart by hand.
const withoutSubtraction = ["s1_2025-07-31_Relu", "s1_2025-07-31_TopK"];

Deno.test("readSaev() gives the numbers that each generation of saev computed", async () => {
  const names = (await readdir(join(fixtures, "saev"))).filter((name) => name.endsWith(".pt")).sort();
  assert.equal(names.length, 36);
  const x = await readArray("saev", "x.npy");
  for (const name of names) {
    const stem = basename(name, ".pt");
    if (batchWide.includes(stem)) continue;
    const file = await openTensorFile(join(fixtures, "saev", name));
    assert.ok(isSaev(file), name);
    const [latents, reconstruction] = await run(
      await readSaev(file, withoutSubtraction.includes(stem) ? { subtractBDec: false } : {}),
      x,
    );
    await file.close();
    assert.ok(relativeError(latents, await readArray("saev", `${stem}.f_x.npy`)) <= 1e-5, `${name}: latents`);
    assert.ok(relativeError(reconstruction, await readArray("saev", `${stem}.x_hat.npy`)) <= 1e-5, `${name}: x_hat`);
  }
});

Deno.test("readSaev() says what it decided, and can be overruled", async () => {
  const read = async (name: string, options?: DictionaryOptions) => {
    const file = await openTensorFile(join(fixtures, "saev", name));
    const dictionary = await readSaev(file, options);
    await file.close();
    return dictionary;
  };
  const old = await read("v0_feb2025_Relu.pt");
  assert.equal(old.format, "saev, before schemas");
  assert.deepEqual(old.weights.rule, { kind: "relu" });
  assert.deepEqual(old.decisions, ["b_dec is subtracted from the input: files without a schema were trained so"]);
  assert.equal((await read("v0_feb2025_Relu.pt", { subtractBDec: false })).weights.subtractBDec, false);

  const batch = await read(`${batchWide[2]}.pt`);
  assert.match(batch.decisions.join("; "), /taken as a TopK of each token, k = 8; set a rule if the batch shared k/);
  const overruled = await read(`${batchWide[2]}.pt`, { rule: { kind: "relu" } });
  assert.deepEqual(overruled.weights.rule, { kind: "relu" });
});

Deno.test("readClipScope() gives the numbers that CLIP-Scope computed, in every layout", async () => {
  const x = await readArray("clip_scope", "x.npy");
  const cases: [string, string, DictionaryOptions][] = [
    ["1200013184.pt", "", {}],
    ["contiguous.pt", "", {}],
    ["legacy_serialization.pt", "", {}],
    ["k40.pt", "k40_", {}],
    ["training.pt", "", { k: 4 }],
  ];
  for (const [name, numbers, options] of cases) {
    const file = await openTensorFile(join(fixtures, "clip_scope", name));
    assert.ok(isClipScope(file), name);
    const dictionary = await readClipScope(file, options);
    await file.close();
    assert.equal(dictionary.weights.subtractBDec, true);
    const [latents, reconstruction] = await run(dictionary, x);
    assert.ok(
      relativeError(latents, await readArray("clip_scope", `${numbers}latent.npy`)) <= 1e-5,
      `${name}: latents`,
    );
    const expected = await readArray("clip_scope", `${numbers}reconstruction.npy`);
    assert.ok(relativeError(reconstruction, expected) <= 1e-5, `${name}: reconstruction`);
  }
});

Deno.test("readClipScope() asks for k where the file does not tell it", async () => {
  const file = await openTensorFile(join(fixtures, "clip_scope", "training.pt"));
  await assert.rejects(() => readClipScope(file), { name: "RangeError", message: /k must be given/ });
  await file.close();
});
