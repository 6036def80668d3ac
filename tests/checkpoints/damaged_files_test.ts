import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { openByteSource } from "../../lib/tensors/byte_source.ts";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import { readCheckpoint } from "../../lib/sae/checkpoint.ts";
import { fixture } from "../tensors/expected_tensors.ts";
import { fixturePath } from "./run_sae.ts";

/** Numbers in [0, below), the same each time (mulberry32). */
function randomInts(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let hash = Math.imul(state ^ (state >>> 15), 1 | state);
    hash = (hash + Math.imul(hash ^ (hash >>> 7), 61 | hash)) ^ hash;
    return Math.floor(((hash ^ (hash >>> 14)) >>> 0) / 2 ** 32 * below);
  };
}

/** The file with bytes changed, taken out, put in or cut off. */
function damage(bytes: Uint8Array, random: (below: number) => number): Uint8Array {
  if (random(8) === 0) return bytes.slice(0, random(bytes.length));
  const parts = [...bytes];
  for (let nChanges = 1 + random(4); nChanges > 0; nChanges--) {
    const at = random(parts.length);
    // Ends of ranges, signs and flags mean most.
    const value = [0, 0xff, 0x7f, 0x80, parts[at] ^ (1 << random(8)), random(256)][random(6)];
    const kind = random(10);
    if (kind === 0) parts.splice(at, 1 + random(4));
    else if (kind === 1) parts.splice(at, 0, value);
    else parts[at] = value;
  }
  return Uint8Array.from(parts);
}

const MAX_BYTES = 2 ** 27;

for (const name of ["nested.pt", "bare.pt", "header_line.pt", "zip64.pt", "half_legacy.pt", "arrays.npz"]) {
  Deno.test(`openTensorFile() reads ${name} or says what is wrong, however it is damaged`, async () => {
    const bytes = new Uint8Array(await readFile(fixture(name)));
    const random = randomInts(name.length);
    const outcomes = { read: 0, refused: 0 };
    for (let i = 0; i < 1000; i++) {
      const damaged = damage(bytes, random);
      try {
        const file = await openTensorFile(damaged);
        for (const [tensor, { shape }] of file.entries) {
          const numbers = await file.read(tensor);
          assert.equal(numbers.length, shape.reduce((product, size) => product * size, 1));
          assert.ok(numbers.byteLength < MAX_BYTES);
        }
        outcomes.read++;
      } catch (error) {
        assert.ok(error instanceof SyntaxError || error instanceof TypeError, `${i}: ${(error as Error).stack}`);
        assert.match(error.message, /^Cannot read tensor file: /, `${i}: ${error.stack}`);
        outcomes.refused++;
      }
    }
    assert.ok(outcomes.read > 10 && outcomes.refused > 10, JSON.stringify(outcomes));
  });
}

Deno.test("openTensorFile() refuses a torch file that is cut short anywhere", async () => {
  for (const name of ["bare.pt", "half_legacy.pt"]) {
    const bytes = new Uint8Array(await readFile(fixture(name)));
    for (let length = 0; length < bytes.length; length++) {
      await assert.rejects(openTensorFile(bytes.subarray(0, length)), { name: "SyntaxError" }, `${name} ${length}`);
    }
  }
});

/** Files of a checkpoint in memory: the weights first, then what is beside them. */
async function readFolder(name: string): Promise<[string, Uint8Array][]> {
  const names = (await readdir(fixturePath("dictionaries", name)))
    .filter((file) => !/^(mean|std|n_images_130003)/.test(file))
    .sort((a, b) => Number(a.endsWith(".json")) - Number(b.endsWith(".json")));
  return await Promise.all(names.map(async (file): Promise<[string, Uint8Array]> => {
    return [file, new Uint8Array(await readFile(fixturePath("dictionaries", name, file)))];
  }));
}

async function readFromMemory([[file, weights], ...others]: [string, Uint8Array][]): Promise<"read" | "refused"> {
  const beside = new Map(others);
  try {
    const sae = await readCheckpoint({
      file,
      location: file,
      bytes: await openByteSource(weights),
      sibling: (name) => Promise.resolve(beside.get(name)),
    }, {});
    const { wEnc, wDec, bEnc, bDec, dModel, dSae } = sae;
    assert.deepEqual([wEnc.length, wDec.length, bEnc.length, bDec.length], [
      dModel * dSae,
      dSae * dModel,
      dSae,
      dModel,
    ]);
    assert.ok(wEnc.byteLength + wDec.byteLength < MAX_BYTES);
    return "read";
  } catch (error) {
    const { name, message, stack } = error as Error;
    assert.ok(["SyntaxError", "TypeError", "RangeError", "Error"].includes(name), stack);
    assert.match(message, /^Cannot (read|load|transpose) [^]*: /, stack);
    return "refused";
  }
}

const damagedFormats = [
  "sae_lens_topk_rescaled",
  "sae_lens_gated",
  "sae_lens_expected_average",
  "vit_prisma_topk",
  "dictionary_learning_GatedAutoEncoder",
  "dictionary_learning_MatryoshkaBatchTopKSAE",
  "sparsify",
  "openai_topk",
  "openai_relu_tied",
  "sdxl_unbox",
  "msae_TopKReLU",
  "msae_JumpReLU",
  "overcomplete_relu_batch_norm",
  "overcomplete_jump",
  "hugofry",
];

for (const name of damagedFormats) {
  Deno.test(`loadSae() reads ${name} or says what is wrong, however its files are damaged`, async () => {
    const files = await readFolder(name);
    assert.equal(await readFromMemory(files), "read");
    const random = randomInts(name.length);
    const outcomes = { read: 0, refused: 0 };
    for (let i = 0; i < 250; i++) {
      const at = random(files.length);
      const damaged = files.map(([file, bytes], index): [string, Uint8Array] => {
        return [file, index === at ? damage(bytes, random) : bytes];
      });
      outcomes[await readFromMemory(damaged)]++;
    }
    assert.ok(outcomes.read > 5 && outcomes.refused > 5, JSON.stringify(outcomes));
  });
}

// What no one writes, for every name in a configuration.
const hostileValues = [
  null,
  true,
  -1,
  0,
  0.5,
  1e308,
  "",
  "x".repeat(100_000),
  "TopK",
  [],
  [[]],
  {},
  { __proto__: null, k: { k: {} } },
];

Deno.test("loadSae() takes hostile values in every place of a configuration", async () => {
  const outcomes = { read: 0, refused: 0 };
  for (const name of damagedFormats) {
    const [weights, ...others] = await readFolder(name);
    for (const [file, bytes] of others) {
      const config = JSON.parse(new TextDecoder().decode(bytes));
      const places = Object.keys(config).flatMap((key) => {
        const inner = config[key];
        const keys = typeof inner === "object" && inner !== null ? Object.keys(inner) : [];
        return [[key], ...keys.map((within) => [key, within])];
      });
      for (const [key, within] of places) {
        for (const value of hostileValues) {
          const changed = structuredClone(config);
          if (within === undefined) changed[key] = value;
          else changed[key][within] = value;
          const text = new TextEncoder().encode(JSON.stringify(changed));
          const beside = others.map((
            [other, content],
          ): [string, Uint8Array] => [other, other === file ? text : content]);
          outcomes[await readFromMemory([weights, ...beside])]++;
        }
      }
    }
  }
  assert.ok(outcomes.read > 100 && outcomes.refused > 100, JSON.stringify(outcomes));
});

Deno.test("loadSae() takes nothing for a configuration that is not one", async () => {
  const [weights, [file]] = await readFolder("vit_prisma_topk");
  const texts = [
    "",
    "{",
    "[]",
    "null",
    "7",
    '"text"',
    '{"k": NaN}',
    "[".repeat(100_000),
    "\xff\xfe",
    '{"d_in": 1e999}',
  ];
  for (const text of texts) {
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    assert.equal(await readFromMemory([weights, [file, bytes]]), "refused", text.slice(0, 20));
  }
});
