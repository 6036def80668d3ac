/**
 * The folder in `fixtures/saev_shards` was written by saev's own writer (protocol 2.1): 12 examples, layers 6 and 11, CLS
 * and 4 patches of width 8, five examples a file; `acts.npy` holds the numbers that it was given.
 */
import assert from "node:assert/strict";
import { cp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openNpyRows } from "../../lib/tensors/npy_rows.ts";
import { openActivations } from "../../lib/sae/activations.ts";
import type { TokenKind } from "../../lib/shards/read.ts";
import { isSaevFolder, openSaevShards } from "../../lib/shards/saev.ts";
import { withFolder } from "../vit/fixtures.ts";
import { withRecording } from "./recordings.ts";

const fixture = fileURLToPath(new URL("../fixtures/saev_shards", import.meta.url));
const [nImages, nLayers, nTokens, dModel] = [12, 2, 5, 8];

/** What was written, of one layer and some tokens. */
async function expectedOf(layerIndex: number, [first, count]: readonly [number, number]): Promise<number[]> {
  const array = await openNpyRows(join(fixture, "acts.npy"));
  const all = await array.readRows({ first: 0, count: nImages });
  await array.close();
  return Array.from({ length: nImages }, (_, image) => {
    const start = ((image * nLayers + layerIndex) * nTokens + first) * dModel;
    return [...all.subarray(start, start + count * dModel)];
  }).flat();
}

const kinds: [TokenKind, [number, number]][] = [["patches", [1, 4]], ["cls", [0, 1]], ["all", [0, 5]]];

/** Runs `test` on a copy of the folder with other metadata. */
async function withCopy(edit: (metadata: Record<string, unknown>) => unknown, test: (folder: string) => Promise<void>) {
  await withFolder(async (folder) => {
    await cp(fixture, folder, { recursive: true });
    const path = join(folder, "metadata.json");
    await writeFile(path, JSON.stringify(edit(JSON.parse(await readFile(path, "utf8")))));
    await test(folder);
  });
}

async function readAll(folder: string, layer: number, tokens: TokenKind, imagesPerBatch?: number): Promise<number[]> {
  const shards = await openSaevShards(folder);
  const values: number[] = [];
  for await (const batch of shards.readImages({ layer, tokens, imagesPerBatch })) values.push(...batch);
  return values;
}

Deno.test("openSaevShards() reads what saev wrote, every layer and kind of token, and no padding", async () => {
  const { layers, layout, nImages: n } = await openSaevShards(fixture);
  assert.deepEqual([layers, n], [[6, 11], 12]);
  assert.deepEqual(layout, { d_model: 8, tokens_per_image: 5, n_special_tokens: 1, cls: true });
  for (const [layerIndex, layer] of layers.entries()) {
    for (const [tokens, range] of kinds) {
      const expected = await expectedOf(layerIndex, range);
      for (const imagesPerBatch of [1, 2, 5, undefined]) {
        assert.deepEqual(await readAll(fixture, layer, tokens, imagesPerBatch), expected, `${tokens} of ${layer}`);
      }
    }
  }
});

Deno.test("openSaevShards() reads folders from before protocols, and of protocol 1", async () => {
  const expected = await expectedOf(1, [1, 4]);
  const common = { layers: [-8, -2], n_patches_per_img: 4, cls_token: true, d_vit: 8, n_imgs: 12 };
  await withCopy(() => ({ model_family: "clip", ...common, n_patches_per_shard: 50, data: "x" }), async (folder) => {
    await rm(join(folder, "shards.json"));
    assert.deepEqual(await readAll(folder, -2, "patches"), expected);
    await assert.rejects(readAll(folder, 11, "patches"), {
      name: "RangeError",
      message: `Cannot read layer 11 of ${folder}: layer must be one of -8, -2`,
    });
  });
  const protocol1 = { vit_family: "clip", ...common, max_patches_per_shard: 50, dtype: "float32", protocol: "1.0.0" };
  await withCopy(() => protocol1, async (folder) => {
    const shards = [5, 5, 2, 0].map((n, i) => ({ name: `acts00000${i}.bin`, n_imgs: n }));
    await writeFile(join(folder, "shards.json"), JSON.stringify(shards));
    assert.deepEqual(await readAll(folder, -1, "patches"), expected, "counted from the last, as there is no -1");
  });
});

Deno.test("openActivations() opens saev's shards", async () => {
  const options = { layer: 11, tokens: "patches" } as const;
  const activations = await openActivations(fixture, options);
  assert.deepEqual([activations.nTokens, activations.dModel, activations.tokensPerImage], [48, 8, 4]);
  const batches: Float32Array[] = [];
  for await (const batch of activations.batches({ batchSize: 20 })) batches.push(batch);
  assert.deepEqual(batches.map(({ length }) => length / dModel), [16, 16, 16]);
  assert.deepEqual(batches.flatMap((batch) => [...batch]), await expectedOf(1, [1, 4]));
  await activations.close();
  await assert.rejects(openActivations(fixture), {
    name: "RangeError",
    message: `Cannot open activations ${fixture}: layer must be given, one of 6, 11 was recorded`,
  });
});

Deno.test("isSaevFolder() tells saev's folders from others", async () => {
  assert.equal(await isSaevFolder(fixture), true);
  await withRecording(async (directory) => assert.equal(await isSaevFolder(directory), false));
  await withFolder(async (folder) => {
    assert.equal(await isSaevFolder(folder), false);
    await writeFile(join(folder, "metadata.json"), "{");
    assert.equal(await isSaevFolder(folder), false);
  });
});

Deno.test("openSaevShards() says what is missing or damaged", async () => {
  const damages: [(folder: string) => Promise<void>, string, (folder: string) => string][] = [
    [
      (folder) => rm(join(folder, "acts000001.bin")),
      "SyntaxError",
      (folder) => `${folder}/acts000001.bin: it must hold 5 images of 320 bytes, the file is missing`,
    ],
    [
      (folder) => truncate(join(folder, "acts000002.bin"), 639),
      "SyntaxError",
      (folder) => `${folder}/acts000002.bin: it must hold 2 images of 320 bytes, current size is 639`,
    ],
    [
      (folder) => writeFile(join(folder, "shards.json"), '[{"name": "acts000000.bin", "n_examples": 5}]'),
      "SyntaxError",
      (folder) =>
        `${folder}/shards.json: it must list 12 images as metadata.json does, it lists 5; the recording may have been ` +
        "stopped",
    ],
    [
      (folder) => writeFile(join(folder, "shards.json"), '[{"name": "../secret", "n_examples": 12}]'),
      "SyntaxError",
      (folder) => `${folder}/shards.json: it must list files acts000000.bin, acts000001.bin, …`,
    ],
  ];
  for (const [damage, name, message] of damages) {
    await withCopy((metadata) => metadata, async (folder) => {
      await damage(folder);
      await assert.rejects(openSaevShards(folder), { name, message: `Cannot read ${message(folder)}` });
    });
  }
  const fields: [Record<string, unknown>, string, string][] = [
    [{ d_model: 0 }, "SyntaxError", "d_model must be an integer of 1 or more, current value is 0"],
    [{ layers: [] }, "SyntaxError", "layers must be a list of integers, current value is "],
    [{ cls_token: 1 }, "SyntaxError", "cls_token must be true or false, current value is 1"],
    [{ dtype: "float16" }, "TypeError", "dtype must be float32, current value is float16"],
  ];
  for (const [changed, name, message] of fields) {
    await withCopy((metadata) => ({ ...metadata, ...changed }), async (folder) => {
      await assert.rejects(openSaevShards(folder), {
        name,
        message: `Cannot read ${folder}/metadata.json: ${message}`,
      });
    });
  }
  await withCopy((metadata) => ({ ...metadata, cls_token: false, content_tokens_per_example: 5 }), async (folder) => {
    await assert.rejects(readAll(folder, 6, "cls"), {
      name: "RangeError",
      message: "Cannot read CLS: the model must have a CLS token, this one has only patches",
    });
  });
});
