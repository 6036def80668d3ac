import assert from "node:assert/strict";
import fc from "fast-check";
import { openShards } from "../../lib/shards/read.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { openPasses } from "../../lib/train/passes.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { imageTokens, type ReadTokensOptions, shardTokens, type TokenSource } from "../../lib/train/source.ts";
import { trainSae } from "../../lib/train/train.ts";
import { dModel, nImages, openPictures, openSmallVit, tokensPerImage } from "../shards/recordings.ts";
import { withFolder } from "../vit/fixtures.ts";

/** Tokens as text, so that equal ones are found. */
async function readTokens(source: TokenSource, options: ReadTokensOptions): Promise<string[]> {
  const tokens: string[] = [];
  for await (const batch of source.readBatches(options)) tokens.push(...rows(batch));
  return tokens;
}

function rows(batch: Float32Array): string[] {
  return Array.from({ length: batch.length / dModel }, (_, i) => batch.subarray(i * dModel, (i + 1) * dModel).join());
}

Deno.test("imageTokens() gives the tokens of a recording, each image once, in any order, of chosen images only", async () => {
  const [vit, images] = [await openSmallVit(), await openPictures()];
  await withFolder(async (folder) => {
    await writeShards(vit, images, { directory: folder, layers: [1], hook: "mlpOut" });
    const shards = await openShards(folder);
    for (const imageIndices of [undefined, [16, 3, 4, 3]]) {
      const recorded = await shardTokens(shards, { imageIndices });
      const looked = imageTokens(vit, images, { hook: "mlpOut", imageIndices });
      assert.deepEqual([recorded.nImages, looked.nImages], imageIndices ? [3, 3] : [nImages, nImages]);
      for (const tokens of ["patches", "cls", "all"] as const) {
        const inOrder = await readTokens(recorded, { layer: 1, tokens });
        assert.equal(inOrder.length, recorded.nImages * { patches: 16, cls: 1, all: tokensPerImage }[tokens]);
        // Rounding may depend on how many images the model sees at once, so only where it sees the same ones.
        if (imageIndices === undefined) assert.deepEqual(await readTokens(looked, { layer: 1, tokens }), inOrder);
        const shuffled = await readTokens(recorded, { layer: 1, tokens, random: seededRandom(3) });
        assert.deepEqual(shuffled.toSorted(), inOrder.toSorted());
      }
      const shuffled = () => readTokens(looked, { layer: 1, random: seededRandom(3) });
      const first = await shuffled();
      assert.deepEqual(await shuffled(), first);
      if (imageIndices === undefined) {
        assert.notDeepEqual(await readTokens(looked, { layer: 1, random: seededRandom(4) }), first);
      }
    }
    await shards.close();
  });
});

Deno.test("openPasses() through images hands out every token once a pass, and the same from any step", async () => {
  const [vit, images] = [await openSmallVit(), await openPictures()];
  const cases = fc.record({
    imageIndices: fc.uniqueArray(fc.nat(nImages - 1), { minLength: 1 }),
    tokens: fc.constantFrom("patches", "cls", "all"),
    batchSize: fc.integer({ min: 1, max: 300 }),
    poolTokens: fc.integer({ min: 1, max: 300 }),
    seed: fc.nat(),
    resumeAt: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ imageIndices, tokens, batchSize, poolTokens, seed, resumeAt }) => {
      const source = imageTokens(vit, images, { imageIndices });
      const open = () => openPasses(source, { layer: 0, tokens, batchSize, poolBytes: 4 * dModel * poolTokens, seed });
      const nSteps = open().countSteps({ epochs: 2 });
      const readFrom = async (firstStep: number) => {
        const steps: string[][] = [];
        for await (const { index, x } of open().batches(firstStep)) {
          steps.push(rows(x));
          if (index === nSteps - 1) return steps;
        }
        throw new Error("There must be no end");
      };
      const steps = await readFrom(0);
      const passes = [steps.slice(0, nSteps / 2).flat(), steps.slice(nSteps / 2).flat()];
      const nTokens = imageIndices.length * { patches: 16, cls: 1, all: tokensPerImage }[tokens];
      for (const pass of passes) {
        assert.equal(pass.length, nTokens);
        // Pictures differ in each patch; CLS with its position does not.
        assert.equal(new Set(pass).size, nTokens);
      }
      const firstStep = Math.floor(resumeAt * nSteps);
      assert.deepEqual(await readFrom(firstStep), steps.slice(firstStep));
    }),
    { numRuns: 12, seed: 5 },
  );
});

Deno.test("shardTokens() reads only batches with wanted images, and leaves out those that were not recorded", async () => {
  const [vit, images] = [await openSmallVit(), await openPictures()];
  await withFolder(async (folder) => {
    await writeShards(vit, images, { directory: folder, layers: [0], batchSize: 3, imageIndices: [0, 2, 4, 6, 8, 10] });
    const shards = await openShards(folder);
    const orders: number[][] = [];
    const watched = {
      ...shards,
      readBatches: (options: Parameters<typeof shards.readBatches>[0]) => {
        orders.push([...options.order!]);
        return shards.readBatches({ ...options, order: orders.at(-1) });
      },
    };
    const source = await shardTokens(watched, { imageIndices: [10, 3, 8] });
    assert.equal(source.nImages, 2);
    assert.equal((await readTokens(source, { layer: 0, tokens: "all" })).length, 2 * tokensPerImage);
    assert.deepEqual(orders, [[1]]);

    const all = await shardTokens(shards);
    assert.deepEqual([all.selection, all.nImages], ["all", 6]);
    assert.deepEqual((await shardTokens(shards, { imageIndices: Array(20).keys() })).selection, "all");
    const same = await shardTokens(shards, { imageIndices: new Set([8, 10]) });
    assert.deepEqual([same.selection, same.fingerprint], [source.selection, all.fingerprint]);
    assert.notEqual((await shardTokens(shards, { imageIndices: [6, 10] })).selection, source.selection);
    await assert.rejects(shardTokens(shards, { imageIndices: [1, 3] }), {
      name: "RangeError",
      message: `Cannot read tokens of ${folder}: imageIndices must name images that were recorded, none of 2 is`,
    });
    await shards.close();
  });
});

Deno.test("imageTokens() tells models, hooks and selections apart, and refuses images that there are not", async () => {
  const [vit, images] = [await openSmallVit(), await openPictures(5)];
  const source = imageTokens(vit, images);
  assert.deepEqual([source.kind, source.selection, source.nImages, source.hook], ["images", "all", 5, "residPost"]);
  assert.equal(imageTokens(vit, { ...images, location: "moved" }).fingerprint, source.fingerprint);
  for (const other of [imageTokens(vit, images, { hook: "attnOut" }), imageTokens(vit, await openPictures(4))]) {
    assert.notEqual(other.fingerprint, source.fingerprint);
  }
  const some = imageTokens(vit, images, { imageIndices: [4, 1] });
  assert.equal(some.fingerprint, source.fingerprint);
  assert.equal(some.selection, imageTokens(vit, images, { imageIndices: [1, 4, 4] }).selection);
  assert.equal(source.resolveLayer(-1), 2);
  assert.throws(() => source.resolveLayer(3), { name: "RangeError" });
  assert.throws(() => imageTokens(vit, images, { imageIndices: [] }), {
    name: "RangeError",
    message: /^Cannot read tokens of .*: imageIndices must name at least one image, it is empty$/,
  });
  assert.throws(() => imageTokens(vit, images, { imageIndices: [5] }), {
    name: "RangeError",
    message: "Cannot read image: imageIndex must be an integer from 0 to 4, current value is 5",
  });
});

Deno.test("imageTokens() stops at an image that cannot be read, with its name and what helps", async () => {
  const [vit, pictures] = [await openSmallVit(), await openPictures(5)];
  const broken = {
    ...pictures,
    read: (i: number) => i === 3 ? Promise.resolve(Uint8Array.of(1, 2, 3)) : pictures.read(i),
  };
  const options = { layer: 0, dSae: 20, k: 2, epochs: 1, threads: 1 };
  await assert.rejects(trainSae(imageTokens(vit, broken), options), {
    name: "Error",
    message: /^Cannot read tokens of .*: every image must be readable, .* is not \(.*\); choose others, or record the /,
  });
  const sae = await trainSae(imageTokens(vit, broken, { imageIndices: [0, 1, 2, 4] }), options);
  assert.deepEqual([sae.dModel, sae.dSae], [dModel, 20]);
});

Deno.test("trainSae() trains on images as on a recording of them, and says of which model and layer", async () => {
  const [vit, images] = [await openSmallVit(), await openPictures()];
  const seen: number[] = [];
  const options = { layer: -1, dSae: 20, k: 2, batchSize: 50, epochs: 3, threads: 1, tokens: "all" } as const;
  const sae = await trainSae(imageTokens(vit, images, { hook: "mlpOut" }), {
    ...options,
    onStep: ({ nTokens }) => seen.push(nTokens),
  });
  assert.equal(seen.at(-1), 3 * nImages * tokensPerImage);
  const { training, ...rest } = sae.provenance;
  const model = { name: "torchvision.onnx", sha256: vit.fingerprint };
  assert.deepEqual(rest, { model, layer: 2, hook: "mlpOut", tokens: "all" });
  assert.equal(training?.epochs, 3);
  const again = await trainSae(imageTokens(vit, images, { hook: "mlpOut" }), options);
  assert.deepEqual(again.wEnc, sae.wEnc);
});
