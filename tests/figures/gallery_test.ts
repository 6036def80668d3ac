import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import type { Backend } from "../../lib/compute/contract.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { embeddedPaths } from "../../lib/embedded.ts";
import { type GalleryParts, openGallery } from "../../lib/figures/gallery.ts";
import type { RgbImage } from "../../lib/images/decode.ts";
import { openImages } from "../../lib/images/open.ts";
import type { ImageSource } from "../../lib/images/source.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { createSae, type Sae } from "../../lib/sae/sae.ts";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { summarize } from "../../lib/summary/summarize.ts";
import { viewSummary } from "../../lib/summary/summary.ts";
import { openVit } from "../../lib/vit/vit.ts";

const GRID_WIDTH = 8;

/** Runs `body` with a folder to write into and a back end, and clears up after it. */
async function withBackend(body: (folder: string, backend: Backend) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-gallery-"));
  const backend = await createCpuBackend({ threads: 1 });
  try {
    await body(folder, backend);
  } finally {
    await backend.close();
    await rm(folder, { recursive: true });
  }
}

/** Records some images with the embedded ViT. */
async function record(images: ImageSource, directory: string, options: { layer: number; imageIndices?: number[] }) {
  const vit = await openVit(embeddedPaths().vit, { threads: 1 });
  const { layer, imageIndices } = options;
  await writeShards(vit, images, { directory, layers: [layer], imageIndices });
  return await openShards(directory);
}

/** Everything a gallery is made of, for a layer of a recording. */
async function assemble(images: ImageSource, shards: Shards, sae: Sae, backend: Backend): Promise<GalleryParts> {
  const [layer] = shards.metadata.layers;
  const { accumulated, source } = await summarize(shards, sae, { backend, layer });
  return { images, shards, sae, summary: viewSummary(accumulated, source), backend };
}

/** A gray picture of 96 × 64 pixels, of which the model sees the middle 64 × 64, with a red square on one patch of it. */
async function drawSquare(path: string, place?: { row: number; column: number }): Promise<void> {
  const gray = sharp({ create: { width: 96, height: 64, channels: 3, background: "#808080" } });
  const square = sharp({ create: { width: 8, height: 8, channels: 3, background: "#ff0000" } });
  const input = await square.png().toBuffer();
  const overlays = place ? [{ input, left: 16 + 8 * place.column, top: 8 * place.row }] : [];
  await gray.composite(overlays).png().toFile(path);
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((total, value, i) => total + value * b[i], 0);
}

function subtract(a: Float32Array, b: Float32Array, factor = 1): Float32Array {
  return a.map((value, i) => value - factor * b[i]);
}

/** The part of `vector` at right angles to all of `others` (Gram–Schmidt). */
function outsideOf(others: readonly Float32Array[], vector: Float32Array): Float32Array {
  const basis: Float32Array[] = [];
  // Twice, since once leaves rounding errors.
  const rest = (from: Float32Array) =>
    [...basis, ...basis].reduce((left, axis) => subtract(left, axis, dot(left, axis)), from);
  for (const other of others) {
    const left = rest(other);
    const length = Math.sqrt(dot(left, left));
    if (length > 1e-4) basis.push(left.map((value) => value / length));
  }
  return rest(vector);
}

/** Patches, 16 pixels a side, with a pixel that differs by more than `tolerance`. */
function changedPatches(one: RgbImage, other: RgbImage, tolerance: number): number[] {
  const changed = new Set<number>();
  one.data.forEach((value, i) => {
    if (Math.abs(value - other.data[i]) <= tolerance) return;
    const pixel = Math.floor(i / 3);
    const [x, y] = [pixel % one.width, Math.floor(pixel / one.width)];
    changed.add(Math.floor(y / 16) * GRID_WIDTH + Math.floor(x / 16));
  });
  return [...changed].sort((a, b) => a - b);
}

Deno.test("openGallery() lines heat maps up with what is seen in the picture", async () => {
  await withBackend(async (folder, backend) => {
    const [shown, learned] = [{ row: 2, column: 5 }, { row: 6, column: 1 }];
    await mkdir(join(folder, "images"));
    await drawSquare(join(folder, "images", "0 plain.png"));
    await drawSquare(join(folder, "images", "1 learned.png"), learned);
    await drawSquare(join(folder, "images", "2 shown.png"), shown);
    const images = await openImages(join(folder, "images"));
    const shards = await record(images, join(folder, "shards"), { layer: 0 });
    const dModel = shards.metadata.d_model;

    // A latent for red squares: what one square changes about the patch that it is on, less what sets the patches of
    // the plain picture apart, which is only where they are.
    const [{ activations, tokensPerImage }] = await Array.fromAsync(shards.readBatches({ layer: 0 }));
    assert.equal(tokensPerImage, GRID_WIDTH * GRID_WIDTH);
    const tokenAt = (image: number, patch: number) => {
      const start = (image * tokensPerImage + patch) * dModel;
      return activations.slice(start, start + dModel);
    };
    const patch = learned.row * GRID_WIDTH + learned.column;
    const plain = tokenAt(0, patch);
    const positions = Array.from({ length: tokensPerImage }, (_, other) => subtract(tokenAt(0, other), plain));
    const direction = outsideOf(positions, subtract(tokenAt(1, patch), plain));
    const half = dot(direction, direction) / 2;
    const sae = createSae({
      dModel,
      dSae: 1,
      wEnc: direction,
      bEnc: Float32Array.of(-half),
      wDec: direction,
      bDec: plain,
      subtractBDec: true,
      rule: { kind: "relu" },
    });

    const gallery = openGallery(await assemble(images, shards, sae, backend));
    const heatmaps = await gallery.heatmaps([0, 1, 2].map((imageIndex) => ({ latent: 0, imageIndex })));
    const active = (imageIndex: number) =>
      [...heatmaps(0, imageIndex)!.entries()].filter(([, value]) => value > 0).map(([patch]) => patch);
    const shownPatch = shown.row * GRID_WIDTH + shown.column;
    assert.deepEqual([active(0), active(1), active(2)], [[], [patch], [shownPatch]]);

    // The square is seen where the heat map says. (Enlarging makes it spread by a few shades of gray.)
    const [blank, crop] = [await gallery.crop(0), await gallery.crop(2)];
    assert.deepEqual([crop.width, crop.height], [128, 128]);
    assert.deepEqual(changedPatches(blank, crop, 40), [shownPatch]);

    // So is the color in the grid, which differs from the plain grid on that patch alone.
    const options = { captions: false, cellPx: 128, gapPx: 0, columns: 1 };
    const grid = await gallery.latentGrid(0, options);
    const plainGrid = await gallery.latentGrid(0, { ...options, opacity: 0 });
    assert.deepEqual([grid.width, grid.height], [128, 256]);
    const nPatches = GRID_WIDTH * GRID_WIDTH;
    const { topImages } = await assemble(images, shards, sae, backend).then(({ summary }) => summary.latent(0));
    const expected = topImages.map(({ patchIndex }, cell) => cell * nPatches + patchIndex).sort((a, b) => a - b);
    assert.deepEqual(topImages.map(({ imageIndex }) => imageIndex).sort(), [1, 2]);
    assert.deepEqual(changedPatches(grid, plainGrid, 0), expected);
    await shards.close();
  });
});

Deno.test("openGallery() shows the embedded SAE on a few emoji", async () => {
  await withBackend(async (folder, backend) => {
    const paths = embeddedPaths();
    const images = await openImages(paths.images);
    const imageIndices = [3, 100, 101, 102, 500, 1000, 2000];
    const shards = await record(images, join(folder, "shards"), { layer: paths.layer, imageIndices });
    const parts = await assemble(images, shards, await loadSae(paths.sae), backend);
    const gallery = openGallery(parts);
    const { summary } = parts;

    const latents = Array.from({ length: summary.dSae }, (_, latent) => summary.latent(latent))
      .filter(({ nImagesActive }) => nImagesActive === imageIndices.length).slice(0, 20);
    assert.ok(latents.length > 0, "some latent must be active on every image");
    const heatmaps = await gallery.heatmaps(
      latents.flatMap(({ latent }) => imageIndices.map((imageIndex) => ({ latent, imageIndex }))),
    );
    for (const { latent, topImages, nActive } of latents) {
      let nPositive = 0;
      for (const { imageIndex, value, patchIndex } of topImages) {
        const heat = heatmaps(latent, imageIndex)!;
        assert.equal(heat.length, GRID_WIDTH * GRID_WIDTH);
        assert.equal(heat.indexOf(Math.max(...heat)), patchIndex);
        assert.ok(Math.abs(heat[patchIndex] - value) <= 1e-5 * value);
        nPositive += heat.filter((value) => value > 0).length;
      }
      assert.equal(nPositive, nActive);
    }

    const [{ latent }] = latents;
    // Cells of 96 pixels with 18 for the caption, 8 around each: six in a row by default.
    const sizeOf = ({ width, height }: RgbImage) => [width, height];
    assert.deepEqual(sizeOf(await gallery.latentGrid(latent)), [6 * 104 + 8, 2 * 122 + 8]);
    assert.deepEqual(sizeOf(await gallery.latentGrid(latent, { captions: false })), [6 * 104 + 8, 2 * 104 + 8]);
    assert.deepEqual(
      sizeOf(await gallery.latentGrid(latent, { count: 3, columns: 2, cellPx: 50, gapPx: 1, captions: false })),
      [2 * 51 + 1, 2 * 51 + 1],
    );
    await shards.close();
  });
});

Deno.test("openGallery() refuses other images than those that were recorded", async () => {
  await withBackend(async (folder, backend) => {
    for (const name of ["recorded", "others"]) await mkdir(join(folder, name));
    await drawSquare(join(folder, "recorded", "plain.png"));
    await drawSquare(join(folder, "others", "square.png"), { row: 1, column: 1 });
    const shards = await record(await openImages(join(folder, "recorded")), join(folder, "shards"), { layer: 0 });
    const { d_model: dModel } = shards.metadata;
    const sae = createSae({
      dModel,
      dSae: 1,
      wEnc: new Float32Array(dModel),
      bEnc: Float32Array.of(1),
      wDec: new Float32Array(dModel),
      bDec: new Float32Array(dModel),
      subtractBDec: false,
      rule: { kind: "relu" },
    });
    const others = await openImages(join(folder, "others"));
    const parts = await assemble(others, shards, sae, backend);
    assert.throws(() => openGallery(parts), {
      name: "Error",
      message:
        `Cannot show ${join(folder, "others")}: the images must be those that were recorded, they have changed ` +
        "since or are others",
    });
    await shards.close();
  });
});
