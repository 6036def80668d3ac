import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { shuffledTokens, type ShuffledTokensOptions } from "../../lib/train/shuffle.ts";
import { writeTinyRecording } from "../summary/tiny_recording.ts";

const dModel = 3;
const nImages = 21;
const tokensPerImage = 5; // CLS and four patches

// A token is its number, three times over.
const activations = Float32Array.from({ length: nImages * tokensPerImage * dModel }, (_, i) => Math.floor(i / dModel));

async function withShards(body: (shards: Shards) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-shuffle-"));
  try {
    await writeTinyRecording(folder, activations, { dModel, gridHeight: 2, gridWidth: 2, nSpecialTokens: 1 });
    const shards = await openShards(folder);
    try {
      await body(shards);
    } finally {
      await shards.close();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Numbers of the tokens of an epoch, batch by batch. */
async function epoch(
  shards: Shards,
  options: Partial<ShuffledTokensOptions> & { seed?: number } = {},
): Promise<number[][]> {
  const { seed = 1, ...rest } = options;
  const batches: number[][] = [];
  for await (
    const batch of shuffledTokens(shards, {
      layer: 3,
      tokens: "all",
      batchSize: 8,
      random: seededRandom(seed),
      ...rest,
    })
  ) {
    assert.ok(batch.every((value, i) => value === batch[i - i % dModel]), "a token must stay in one piece");
    batches.push(Array.from({ length: batch.length / dModel }, (_, token) => batch[token * dModel]));
  }
  return batches;
}

Deno.test("shuffledTokens() hands out every token exactly once an epoch, with pools of any size", async () => {
  const all = Array.from({ length: nImages * tokensPerImage }, (_, token) => token);
  await withShards(async (shards) => {
    for (const poolTokens of [0, 1, 7, 40, 1000]) {
      for (const batchSize of [1, 8, 200]) {
        const batches = await epoch(shards, { poolTokens, batchSize });
        assert.deepEqual(batches.flat().sort((a, b) => a - b), all);
        assert.equal(batches.length, Math.ceil(all.length / batchSize));
        assert.ok(batches.slice(0, -1).every((batch) => batch.length === batchSize));
      }
    }
    const ofKind = async (tokens: "patches" | "cls") => (await epoch(shards, { tokens })).flat().sort((a, b) => a - b);
    assert.deepEqual(await ofKind("patches"), all.filter((token) => token % tokensPerImage > 0));
    assert.deepEqual(await ofKind("cls"), all.filter((token) => token % tokensPerImage === 0));
  });
});

Deno.test("shuffledTokens() gives the same sequence for the same seed, another for another and for the next epoch", async () => {
  await withShards(async (shards) => {
    const first = await epoch(shards, { seed: 1 });
    assert.deepEqual(await epoch(shards, { seed: 1 }), first);
    assert.notDeepEqual(await epoch(shards, { seed: 2 }), first);
    const random = seededRandom(1);
    assert.deepEqual(await epoch(shards, { random }), first);
    assert.notDeepEqual(await epoch(shards, { random }), first);
  });
});

Deno.test("shuffledTokens() mixes tokens of different images", async () => {
  await withShards(async (shards) => {
    const batches = await epoch(shards, { poolTokens: 1000 });
    for (const batch of batches.slice(0, -1)) {
      assert.ok(new Set(batch.map((token) => Math.floor(token / tokensPerImage))).size > 4, String(batch));
    }
  });
});

Deno.test("shuffledTokens() hands out arrays that stay as they are", async () => {
  await withShards(async (shards) => {
    const batches: Float32Array[] = [];
    const copies: Float32Array[] = [];
    const options = { layer: 3, batchSize: 8, poolTokens: 16, random: seededRandom(3) };
    for await (const batch of shuffledTokens(shards, options)) {
      batches.push(batch);
      copies.push(batch.slice());
    }
    assert.deepEqual(batches, copies);
  });
});

Deno.test("shuffledTokens() stops when told", async () => {
  await withShards(async (shards) => {
    await assert.rejects(epoch(shards, { signal: AbortSignal.abort() }), { name: "AbortError" });
  });
});
