import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { openPasses } from "../../lib/train/passes.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { makePool, shuffledTokens, type ShuffledTokensOptions } from "../../lib/train/shuffle.ts";
import { shardTokens, type TokenSource, toTokenSource } from "../../lib/train/source.ts";
import { writeTinyRecording } from "../summary/tiny_recording.ts";

const dModel = 3;
const tokenBytes = 4 * dModel;
const nImages = 21;
const tokensPerImage = 5; // CLS and four patches

// A token is its number, three times over.
const activations = Float32Array.from({ length: nImages * tokensPerImage * dModel }, (_, i) => Math.floor(i / dModel));

async function withShards(body: (shards: Shards, source: TokenSource) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-shuffle-"));
  try {
    await writeTinyRecording(folder, activations, { dModel, gridHeight: 2, gridWidth: 2, nSpecialTokens: 1 });
    const shards = await openShards(folder);
    try {
      await body(shards, toTokenSource(shards));
    } finally {
      await shards.close();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Number of each token of a batch. */
function numbers(batch: Float32Array): number[] {
  assert.ok(batch.every((value, i) => value === batch[i - i % dModel]), "a token must stay in one piece");
  return Array.from({ length: batch.length / dModel }, (_, token) => batch[token * dModel]);
}

/** Numbers of the tokens of an epoch, batch by batch. */
async function epoch(
  source: TokenSource,
  options: Partial<ShuffledTokensOptions> & { seed?: number; poolTokens?: number } = {},
): Promise<number[][]> {
  const { seed = 1, poolTokens, ...rest } = options;
  const poolBytes = poolTokens && poolTokens * tokenBytes;
  const shuffle = { layer: 3, tokens: "all", batchSize: 8, poolBytes, random: seededRandom(seed), ...rest } as const;
  const batches: number[][] = [];
  for await (const batch of shuffledTokens(source, shuffle)) batches.push(numbers(batch));
  return batches;
}

const ascending = (values: readonly number[]) => [...values].sort((a, b) => a - b);

/** Numbers of the tokens of some images. */
function tokensOf(images: readonly number[], kind: "patches" | "cls" | "all"): number[] {
  const wanted = { patches: [1, 2, 3, 4], cls: [0], all: [0, 1, 2, 3, 4] }[kind];
  return images.flatMap((image) => wanted.map((token) => image * tokensPerImage + token));
}

const everyImage = Array.from({ length: nImages }, (_, image) => image);

Deno.test("openPasses() hands out every token exactly once a pass, whatever the sizes, and the same from any step", async () => {
  await withShards(async (shards) => {
    const cases = fc.record({
      images: fc.oneof(fc.constant(everyImage), fc.uniqueArray(fc.nat(nImages - 1), { minLength: 1 })),
      tokens: fc.constantFrom("patches", "cls", "all"),
      batchSize: fc.integer({ min: 1, max: 130 }),
      // Smaller than a batch, or larger than all there is.
      poolTokens: fc.integer({ min: 1, max: 130 }),
      seed: fc.nat(),
      resumeAt: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ images, tokens, batchSize, poolTokens, seed, resumeAt }) => {
        const source = await shardTokens(shards, { imageIndices: images });
        const all = tokensOf(ascending(images), tokens);
        const open = () =>
          openPasses(source, { layer: 3, tokens, batchSize, poolBytes: poolTokens * tokenBytes, seed });
        const nSteps = open().countSteps({ epochs: 3 });
        assert.equal(nSteps, 3 * Math.ceil(all.length / batchSize));
        const readFrom = async (firstStep: number) => {
          const steps: number[][] = [];
          for await (const { index, x } of open().batches(firstStep)) {
            assert.equal(index, firstStep + steps.length);
            steps.push(numbers(x));
            if (index === nSteps - 1) break;
          }
          return steps;
        };
        const steps = await readFrom(0);
        const passes = [0, 1, 2].map((pass) => steps.slice(pass * nSteps / 3, (pass + 1) * nSteps / 3));
        for (const pass of passes) {
          assert.deepEqual(ascending(pass.flat()), all);
          assert.ok(pass.slice(0, -1).every((batch) => batch.length === batchSize));
        }
        const firstStep = Math.floor(resumeAt * nSteps);
        assert.deepEqual(await readFrom(firstStep), steps.slice(firstStep));
      }),
      { numRuns: 60, seed: 7 },
    );
  });
});

Deno.test("shuffledTokens() gives the same sequence for the same seed, another for another and for the next epoch", async () => {
  await withShards(async (_, source) => {
    const first = await epoch(source, { seed: 1 });
    assert.deepEqual(await epoch(source, { seed: 1 }), first);
    assert.notDeepEqual(await epoch(source, { seed: 2 }), first);
    const random = seededRandom(1);
    assert.deepEqual(await epoch(source, { random }), first);
    assert.notDeepEqual(await epoch(source, { random }), first);
  });
});

Deno.test("shuffledTokens() puts an epoch that fits into its pool in any order alike", async () => {
  await withShards(async (shards) => {
    const source = await shardTokens(shards, { imageIndices: [2, 9, 17] }); // of three different batches
    const counts = new Map<string, number>();
    for (let seed = 0; seed < 600; seed++) {
      const order = (await epoch(source, { seed, tokens: "cls" })).join();
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    // Chi-squared with 5 degrees of freedom is above 20.5 once in a thousand times.
    const chiSquared = [...counts.values()].reduce((sum, count) => sum + (count - 100) ** 2 / 100, 0);
    assert.equal(counts.size, 6);
    assert.ok(chiSquared < 20.5, `${chiSquared}: ${[...counts.values()]}`);
  });
});

Deno.test("shuffledTokens() mixes tokens of different images, also those that come after the pool is full", async () => {
  await withShards(async (_, source) => {
    for (const poolTokens of [30, 1000]) {
      const batches = await epoch(source, { poolTokens });
      for (const batch of batches.slice(0, -1)) {
        assert.ok(new Set(batch.map((token) => Math.floor(token / tokensPerImage))).size > 3, String(batch));
      }
    }
  });
});

Deno.test("shuffledTokens() hands out arrays that stay as they are, or one array if it may", async () => {
  await withShards(async (_, source) => {
    const read = async (reuse: boolean) => {
      const batches: Float32Array[] = [];
      const copies: Float32Array[] = [];
      const shuffle = { layer: 3, batchSize: 8, poolBytes: 16 * tokenBytes, random: seededRandom(3), reuse };
      for await (const batch of shuffledTokens(source, shuffle)) {
        batches.push(batch);
        copies.push(batch.slice());
      }
      return { batches, copies };
    };
    const [own, shared] = [await read(false), await read(true)];
    assert.deepEqual(own.batches, own.copies);
    assert.deepEqual(shared.copies, own.copies);
    assert.equal(new Set(shared.batches.map(({ buffer }) => buffer)).size, 1);
  });
});

Deno.test("makePool() takes what it is given, and no more than all tokens need", async () => {
  await withShards((_, source) => {
    const places = (poolBytes: number | undefined, tokens: "patches" | "cls" | "all" = "all") =>
      makePool(source, { tokens, poolBytes }).memory.length / dModel;
    assert.deepEqual([places(12), places(23), places(24), places(undefined), places(undefined, "cls")], [
      ...[1, 1, 2, nImages * tokensPerImage, nImages],
    ]);
    assert.throws(() => places(11), {
      name: "RangeError",
      message: "Cannot shuffle tokens: poolBytes must be at least 12, the size of a token, current value is 11",
    });
    assert.throws(() => places(NaN), { name: "RangeError" });
    return Promise.resolve();
  });
});

Deno.test("openPasses() reads tokens that all fit into the pool only once, and others in each pass", async () => {
  await withShards(async (_, source) => {
    const countReads = async (poolTokens: number) => {
      let nReads = 0;
      const counted: TokenSource = {
        ...source,
        readBatches(options) {
          nReads++;
          return source.readBatches(options);
        },
      };
      const options = { layer: 3, tokens: "all", batchSize: 8, poolBytes: poolTokens * tokenBytes, seed: 1 } as const;
      const passes = openPasses(counted, options);
      await passes.readSample();
      for await (const { index } of passes.batches(0)) if (index === 3 * 14 - 1) break;
      return nReads;
    };
    assert.equal(await countReads(nImages * tokensPerImage), 1);
    assert.equal(await countReads(nImages * tokensPerImage - 1), 1 + 3);
  });
});

Deno.test("shuffledTokens() stops when told, also after all has been read", async () => {
  await withShards(async (_, source) => {
    await assert.rejects(epoch(source, { signal: AbortSignal.abort() }), { name: "AbortError" });
    const controller = new AbortController();
    const shuffle = { layer: 3, batchSize: 8, random: seededRandom(1), signal: controller.signal };
    const iterator = shuffledTokens(source, shuffle)[Symbol.asyncIterator]();
    await iterator.next();
    controller.abort();
    await assert.rejects(iterator.next(), { name: "AbortError" });
  });
});

Deno.test("openPasses() takes a sample that is no larger than the pool", async () => {
  await withShards(async (_, source) => {
    const sample = async (poolTokens: number) => {
      const shuffle = { layer: 3, tokens: "all", batchSize: 8, poolBytes: poolTokens * tokenBytes, seed: 1 } as const;
      return numbers(await openPasses(source, shuffle).readSample());
    };
    for (const poolTokens of [7, 40]) assert.equal(new Set(await sample(poolTokens)).size, poolTokens);
    const whole = await sample(1000);
    assert.deepEqual(ascending(whole), tokensOf(everyImage, "all"));
    assert.notDeepEqual(whole, ascending(whole));
  });
});
