/** Which tile the tuner takes and how it remembers: on the software adapter, with a cache folder of its own. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { tileBytes, tileInvocations } from "../../lib/compute/webgpu/encode_kernel.ts";
import { readTile, writeTile } from "../../lib/compute/webgpu/tile_cache.ts";
import { candidateTiles, tuneWebGpu } from "../../lib/compute/webgpu/tuner.ts";
import { topK, withSae } from "../support/backend_case.ts";
import { assertSameLatents } from "../support/numeric_assertions.ts";
import { randomIntegers, randomWeights, referenceEncode, seededRandom } from "../support/reference.ts";
import { findTestAdapter, openTestBackend } from "../support/software_adapter.ts";

// Mesa's own cache follows the same variable, and does not expect its folder to vanish.
process.env.MESA_SHADER_CACHE_DIR ??= join(homedir(), ".cache");
const ignore = !await findTestAdapter();

/** Runs `body` with a cache folder of its own; `folder` is where tiles go. */
async function withCache(body: (folder: string) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), "sparsight-cache-"));
  const before = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = root;
  try {
    await body(join(root, "sparsight", "webgpu_tiles"));
  } finally {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
    await rm(root, { recursive: true });
  }
}

Deno.test("candidateTiles stay within what WebGPU guarantees, and cut evenly", () => {
  for (const tile of candidateTiles) {
    const { tokens, latents, depth, blockTokens, blockLatents, unroll = 1 } = tile;
    const what = JSON.stringify(tile);
    assert.ok(tileInvocations(tile) <= 256, what);
    assert.ok(tileBytes(tile) <= 16 * 1024, what);
    const rests = [tokens % blockTokens, latents % blockLatents, depth % unroll, depth % 4, blockLatents % 4];
    assert.deepEqual(rests, [0, 0, 0, 0, 0], what);
  }
});

Deno.test("writeTile() then readTile() returns the same tile, for that key only", async () => {
  await withCache(async (folder) => {
    assert.equal(await readTile("a", candidateTiles), undefined);
    await writeTile("a", candidateTiles[2]);
    assert.equal(await readTile("a", candidateTiles), candidateTiles[2]);
    assert.equal(await readTile("b", candidateTiles), undefined);
    assert.equal(await readTile("a", candidateTiles.slice(0, 2)), undefined); // no longer a candidate
    await writeTile("a", candidateTiles[1]);
    assert.equal(await readTile("a", candidateTiles), candidateTiles[1]);
    assert.equal((await readdir(folder)).length, 1); // nothing unfinished is left
  });
});

Deno.test("readTile() takes a damaged file for none, and writeTile() mends it", async () => {
  await withCache(async (folder) => {
    await writeTile("a", candidateTiles[1]);
    const [file] = await readdir(folder);
    const whole = await readFile(join(folder, file), "utf8");
    for (const damaged of ["", whole.slice(0, -5), "null", '{"key":"a"}', whole.replace('"a"', '"b"')]) {
      await writeFile(join(folder, file), damaged);
      assert.equal(await readTile("a", candidateTiles), undefined, damaged);
    }
    await writeTile("a", candidateTiles[1]);
    assert.equal(await readTile("a", candidateTiles), candidateTiles[1]);
  });
});

Deno.test("writeTile() is silent where nothing can be written", async () => {
  await withCache(async () => {
    const file = join(process.env.XDG_CACHE_HOME!, "file");
    await writeFile(file, "in the way");
    process.env.XDG_CACHE_HOME = file;
    await writeTile("a", candidateTiles[1]);
    assert.equal(await readTile("a", candidateTiles), undefined);
    process.env.XDG_CACHE_HOME = join(file, "..");
  });
});

Deno.test({
  name: "tuneWebGpu() takes the fastest of those it tried, and the second time measures nothing",
  ignore,
  async fn() {
    await withCache(async () => {
      const size = { dModel: 33, dSae: 131, nTokens: 70 };
      const times: number[] = [];
      const tune = async () =>
        await tuneWebGpu((await findTestAdapter())!, size, {
          budgetMs: 60_000,
          onTried: (tile, medianMs) => times[candidateTiles.indexOf(tile)] = medianMs,
        });
      const tile = await tune();
      assert.equal(times.length, candidateTiles.length);
      const fastest = Math.min(...times);
      // One that is hardly slower than the fastest may have been kept.
      assert.ok(
        times[candidateTiles.indexOf(tile)] * 0.95 ** 5 <= fastest,
        `${candidateTiles.indexOf(tile)} of ${times}`,
      );
      times.length = 0;
      assert.deepEqual(await tune(), tile);
      assert.deepEqual(times, []);
    });
  },
});

Deno.test({
  name: "tuneWebGpu() tries only the default without time",
  ignore,
  async fn() {
    await withCache(async () => {
      const tried: number[] = [];
      const options = {
        budgetMs: 0,
        onTried: (tile: typeof candidateTiles[0]) => tried.push(candidateTiles.indexOf(tile)),
      };
      const size = { dModel: 8, dSae: 16, nTokens: 4 };
      assert.equal(await tuneWebGpu((await findTestAdapter())!, size, options), candidateTiles[0]);
      assert.deepEqual(tried, [0]);
    });
  },
});

Deno.test({
  name: "encode() gives the same numbers with every tile that the tuner may have remembered",
  ignore,
  async fn() {
    const [nTokens, dModel, dSae] = [70, 33, 131];
    const weights = randomWeights({ dModel, dSae }, { rule: topK(4, true), integers: true });
    const x = randomIntegers(nTokens * dModel, seededRandom(8), { limit: 3 });
    await withCache(async (folder) => {
      const gpu = (await openTestBackend({ tune: "auto" }))!;
      await withSae(
        gpu.backend,
        weights,
        async (sae) => assertSameLatents(await sae.encode(x), referenceEncode(weights, x)),
      );
      const [file] = await readdir(folder); // loading has tuned
      const entry = JSON.parse(await readFile(join(folder, file), "utf8"));
      for (const tile of candidateTiles) {
        await writeFile(join(folder, file), JSON.stringify({ ...entry, tile }));
        await withSae(gpu.backend, weights, async (sae) => {
          assertSameLatents(await sae.encode(x), referenceEncode(weights, x));
        });
      }
      await gpu.backend.close();
    });
  },
});

Deno.test({
  name: "load() does not tune on a software adapter unless it is asked to",
  ignore,
  async fn() {
    await withCache(async (folder) => {
      const gpu = (await openTestBackend())!;
      await withSae(
        gpu.backend,
        randomWeights({ dModel: 5, dSae: 7 }, { rule: topK(2, true) }),
        () => Promise.resolve(),
      );
      await assert.rejects(readdir(folder), { code: "ENOENT" });
      await gpu.backend.close();
    });
  },
});
