import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { basename } from "node:path";
import type { DictionaryOptions } from "../../lib/checkpoints/dictionary.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { fixturePath, readFixture, relativeError, run } from "./run_sae.ts";

interface OriginalCase {
  readonly path: string;
  readonly options: DictionaryOptions;
  /** Names of the original's numbers. */
  readonly x: string;
  readonly latents: string;
  readonly reconstruction: string;
}

// What these files do not tell: their commit is not in them, and the encoder, and the batch that shares k, changed
// without a change of schema.
const saevOptions: Record<string, DictionaryOptions> = {
  "s1_2025-07-22_BatchTopK": { rule: { kind: "batchTopK", k: 8 } },
  "s1_2025-07-31_BatchTopK": { rule: { kind: "batchTopK", k: 8 }, subtractBDec: false },
  "s1_2025-07-31_Relu": { subtractBDec: false },
  "s1_2025-07-31_TopK": { subtractBDec: false },
  "s2_2025-07-31_BatchTopK": { rule: { kind: "batchTopK", k: 8 } },
};

async function saevCases(): Promise<OriginalCase[]> {
  const names = (await readdir(fixturePath("saev"))).filter((name) => name.endsWith(".pt")).sort();
  return names.map((name) => {
    const stem = basename(name, ".pt");
    return {
      path: `saev/${name}`,
      options: saevOptions[stem] ?? {},
      x: "saev/x.npy",
      latents: `saev/${stem}.f_x.npy`,
      reconstruction: `saev/${stem}.x_hat.npy`,
    };
  });
}

// The original numbers are those of inference, which takes activations as they are.
const asTheyAre: DictionaryOptions = { normalization: { kind: "none" } };
const clipScopeCases: OriginalCase[] = ([
  ["1200013184.pt", "", asTheyAre],
  ["contiguous.pt", "", asTheyAre],
  ["legacy_serialization.pt", "", asTheyAre],
  ["k40.pt", "k40_", asTheyAre],
  ["training.pt", "", { ...asTheyAre, k: 4 }],
] as const).map(([name, numbers, options]) => ({
  path: `clip_scope/${name}`,
  options,
  x: "clip_scope/x.npy",
  latents: `clip_scope/${numbers}latent.npy`,
  reconstruction: `clip_scope/${numbers}reconstruction.npy`,
}));

Deno.test("loadSae() gives the numbers that saev and CLIP-Scope computed, for every generation and layout", async () => {
  const cases = [...await saevCases(), ...clipScopeCases];
  assert.equal(cases.length, 36 + 5);
  const table: Record<string, { format?: string; options: string; latents: string; reconstruction: string }> = {};
  let worst = 0;
  for (const { path, options, ...numbers } of cases) {
    const sae = await loadSae(fixturePath(path), options);
    const [latents, reconstruction] = await run(sae, await readFixture(numbers.x));
    const errors = [
      relativeError(latents, await readFixture(numbers.latents)),
      relativeError(reconstruction, await readFixture(numbers.reconstruction)),
    ];
    worst = Math.max(worst, ...errors);
    table[path] = {
      format: sae.provenance.format,
      options: Object.entries(options).map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(", "),
      latents: errors[0].toExponential(1),
      reconstruction: errors[1].toExponential(1),
    };
  }
  console.table(table);
  assert.ok(worst <= 1e-5, `largest relative difference is ${worst}`);
});

Deno.test("loadSae() says what it decided about a checkpoint of saev", async () => {
  const decisions = async (name: string, options?: DictionaryOptions) =>
    (await loadSae(fixturePath("saev", name), options)).provenance.decisions;
  assert.deepEqual(await decisions("v0_feb2025_Relu.pt"), [
    "b_dec is subtracted from the input: files without a schema were trained so",
    "Activations are taken as they are, but it was trained on (x − mean) / scalar, which the file lacks: give " +
    "normalization, or put normalization.json beside it",
  ]);
  assert.deepEqual(await decisions("v0_feb2025_Relu.pt", { subtractBDec: false, normalization: { kind: "none" } }), [
    "b_dec is not subtracted from the input: the options say so",
    "Input is taken as it is: the options say so",
  ]);
  assert.deepEqual(await decisions("s2_2025-07-31_BatchTopK.pt"), [
    "b_dec is not subtracted from the input: schema 2 and later were trained so",
    "BatchTopK without a threshold is taken as a TopK of each token, k = 8; set a rule of kind batchTopK if the batch " +
    "shared k, as in July and August 2025",
  ]);
});

Deno.test("loadSae() goes by the commit where a schema of saev does not tell", async () => {
  const { readFile } = await import("node:fs/promises");
  const withCommit = async (name: string, commit: string) => {
    const bytes = new Uint8Array(await readFile(fixturePath("saev", name)));
    const end = bytes.indexOf(0x0a);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
    const line = new TextEncoder().encode(JSON.stringify({ ...header, commit }));
    return new Uint8Array([...line, ...bytes.subarray(end)]);
  };
  for (
    const [name, commit, subtractBDec] of [
      ["s1_2025-07-22_BatchTopK", "d991de3f00", true],
      ["s1_2025-07-31_BatchTopK", "f5d892c000", false],
      ["s2_2025-07-31_BatchTopK", "8d38c23", false],
    ] as const
  ) {
    const sae = await loadSae(await withCommit(`${name}.pt`, commit));
    assert.deepEqual([sae.rule, sae.subtractBDec], [{ kind: "batchTopK", k: 8 }, subtractBDec]);
    const [latents, reconstruction] = await run(sae, await readFixture("saev/x.npy"));
    assert.ok(relativeError(latents, await readFixture(`saev/${name}.f_x.npy`)) <= 1e-5, name);
    assert.ok(relativeError(reconstruction, await readFixture(`saev/${name}.x_hat.npy`)) <= 1e-5, name);
    assert.match(sae.provenance.decisions!.join("; "), new RegExp(`whole batch: commit ${commit.slice(0, 7)} did`));
    assert.doesNotMatch(sae.provenance.decisions!.join("; "), /scalar/);
  }
  const scaled = await loadSae(await withCommit("s1_2025-04-28_Relu.pt", "5951e84aa"));
  assert.match(scaled.provenance.decisions!.join("; "), /it was trained on \(x − mean\) \/ scalar/);
});
