import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { createSae } from "../../lib/sae/sae.ts";
import { openShards } from "../../lib/shards/read.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { saveSummary } from "../../lib/summary/file.ts";
import { collectHeatmaps } from "../../lib/summary/heatmaps.ts";
import { summarize } from "../../lib/summary/summarize.ts";
import { summarizeImages } from "../../lib/summary/summarize_images.ts";
import { dModel, nImages, openPictures, openSmallVit } from "../shards/recordings.ts";
import { randomWeights } from "../support/reference.ts";
import { withFolder } from "../vit/fixtures.ts";

const dSae = 41;
const sae = createSae(randomWeights({ dModel, dSae }, { rule: { kind: "relu" } }));

Deno.test("summarizeImages() gives the summary of a recording of the same images, byte for byte", async () => {
  const vit = await openSmallVit();
  const images = await openPictures();
  const backend = await createCpuBackend({ threads: 1 });
  const selections = [undefined, [1, 2, 5, 8, 13]];
  for (const tokens of ["patches", "cls", "all"] as const) {
    for (const imageIndices of selections) {
      for (const hook of ["residPost", "mlpOut"] as const) {
        await withFolder(async (folder) => {
          const record = { imageIndices, hook, batchSize: 3 };
          await writeShards(vit, images, { ...record, directory: join(folder, "shards"), layers: [1] });
          const shards = await openShards(join(folder, "shards"));
          const options = { backend, layer: 1, tokens, imagesPerLatent: 3, saePath: "saes/a" };
          const fromShards = await summarize(shards, sae, options);
          await shards.close();
          const fromImages = await summarizeImages(vit, images, { sae, ...record, ...options });
          assert.ok(fromImages.accumulated.nActive.some((count) => count > 0), "some latents must be active");
          assert.equal(fromImages.accumulated.nImages, imageIndices?.length ?? nImages);
          await saveSummary(fromShards, join(folder, "a.arrow"));
          await saveSummary(fromImages, join(folder, "b.arrow"));
          assert.deepEqual(await readFile(join(folder, "b.arrow")), await readFile(join(folder, "a.arrow")));
        });
      }
    }
  }
  await backend.close();
});

Deno.test("summarizeImages() leaves out images that cannot be read, says which, and how far it is", async () => {
  const vit = await openSmallVit();
  const pictures = await openPictures(5);
  const broken = {
    ...pictures,
    read: (i: number) => i === 3 ? Promise.resolve(Uint8Array.of(1, 2, 3)) : pictures.read(i),
  };
  const backend = await createCpuBackend({ threads: 1 });
  const skipped: number[] = [];
  const progress: [number, number][] = [];
  const { accumulated } = await summarizeImages(vit, broken, {
    sae,
    backend,
    layer: -1,
    batchSize: 2,
    onSkipped: ({ imageIndex }) => skipped.push(imageIndex),
    onProgress: (done, total) => progress.push([done, total]),
  });
  assert.deepEqual(skipped, [3]);
  assert.equal(accumulated.nImages, 4);
  assert.deepEqual(progress, [[2, 5], [4, 5], [5, 5]]);
  await assert.rejects(summarizeImages(vit, broken, { sae, backend, layer: 0, onBadImage: "error" }));
  await assert.rejects(summarizeImages(vit, broken, { sae, backend, layer: 0, imageIndices: [3] }), {
    name: "Error",
    message: /^Cannot summarize .*: at least one image must be readable, the last one: /,
  });
  await backend.close();
});

Deno.test("summarizeImages() refuses an SAE of another width and layers that there are not, and stops when told", async () => {
  const vit = await openSmallVit();
  const images = await openPictures(3);
  const backend = await createCpuBackend({ threads: 1 });
  const wide = createSae(randomWeights({ dModel: dModel + 1, dSae: 2 }, { rule: { kind: "relu" } }));
  await assert.rejects(summarizeImages(vit, images, { sae: wide, backend, layer: 1 }), {
    name: "RangeError",
    message: /^Cannot use this SAE on .*: its dModel must be 16, current value is 17; choose an SAE/,
  });
  await assert.rejects(summarizeImages(vit, images, { sae, backend, layer: 3 }), { name: "RangeError" });
  await assert.rejects(summarizeImages(vit, images, { sae, backend, layer: 1, signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
  await backend.close();
});

Deno.test("summarize(), summarizeImages() and collectHeatmaps() refuse latents that depend on the batch", async () => {
  const vit = await openSmallVit();
  const images = await openPictures(3);
  const backend = await createCpuBackend({ threads: 1 });
  const cases = [
    [{ ...sae, normalization: { kind: "batch", epsilon: 0 } }, "normalization is batch; give the SAE an affine one, "],
    [{ ...sae, rule: { kind: "batchTopK", k: 4 } }, "rule is batchTopK; give the SAE the rule topK, "],
  ] as const;
  await withFolder(async (folder) => {
    await writeShards(vit, images, { directory: folder, layers: [1] });
    const shards = await openShards(folder);
    for (const [dependent, why] of cases) {
      const reason = `they must not depend on how images are cut into batches, current ${why}`;
      const refusal = (what: string) => (error: Error) =>
        error.name === "RangeError" && error.message.startsWith(`Cannot ${what}: ${reason}`);
      const options = { backend, layer: 1 };
      await assert.rejects(summarize(shards, dependent, options), refusal("summarize latents"));
      await assert.rejects(summarizeImages(vit, images, { sae: dependent, ...options }), refusal("summarize latents"));
      await assert.rejects(
        collectHeatmaps(shards, dependent, { ...options, wanted: [{ latent: 0, imageIndex: 0 }] }),
        refusal("collect heat maps of latents"),
      );
    }
    await shards.close();
  });
  await backend.close();
});
