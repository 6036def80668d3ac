import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openShards } from "../../lib/shards/read.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { imageSource, makePicture, withFolder } from "../vit/fixtures.ts";
import { collect, openPictures, openSmallVit, smallOptions } from "./recordings.ts";

Deno.test("writeShards() lists the images that it skipped, and leaves them out", async () => {
  await withFolder(async (directory) => {
    const files = await Promise.all([0, 1, 2, 3, 4, 5, 6].map((seed) => makePicture(seed)));
    const jpeg = await makePicture(9, "jpeg");
    for (const bad of [2, 3, 5]) files[bad] = jpeg.slice(0, jpeg.length / 2);
    const metadata = await writeShards(await openSmallVit(), imageSource(files), {
      ...smallOptions(directory),
      imageIndices: [0, 2, 3, 4, 5, 6],
    });
    assert.deepEqual(metadata.skipped.map((image) => [image.image_index, image.name]), [
      [2, "picture 2"],
      [3, "picture 3"],
      [5, "picture 5"],
    ]);
    assert.ok(metadata.skipped.every(({ reason }) => reason.startsWith("Cannot decode image ")));
    assert.deepEqual([metadata.n_done, metadata.n_images, metadata.n_tokens], [6, 3, 3 * 17]);
    assert.deepEqual([metadata.dataset.n_images, metadata.dataset.n_selected], [7, 6]);
    const shards = await openShards(directory);
    assert.deepEqual(shards.metadata, metadata);
    const batches = await collect(shards.readBatches({ layer: 0 }));
    assert.deepEqual(batches.map(({ imageIndices }) => [...imageIndices]), [[0], [4], [6]]);
    await shards.close();
  });
});

Deno.test("writeShards() refuses a source without a readable image, and leaves nothing behind", async () => {
  await withFolder(async (directory) => {
    const files = [new TextEncoder().encode("no picture"), new Uint8Array(0)];
    const vit = await openSmallVit();
    const record = () => writeShards(vit, imageSource(files), { directory, layers: [0] });
    const expected = /^Cannot record memory: at least one image must be readable, the first of 2 failed with: Cannot /;
    await assert.rejects(record(), { name: "Error", message: expected });
    await assert.rejects(record(), { name: "Error", message: expected });
  });
});

Deno.test("writeShards() says why it cannot write", async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, "file"), "");
    const directory = join(folder, "file", "shards");
    const vit = await openSmallVit();
    await assert.rejects(writeShards(vit, await openPictures(1), { directory, layers: [0] }), {
      name: "Error",
      message: `Cannot write ${directory}: its parent is a file, choose another folder`,
    });
    for (const shardBytes of [0, -1, NaN]) {
      await assert.rejects(writeShards(vit, await openPictures(1), { directory: folder, layers: [0], shardBytes }), {
        name: "RangeError",
        message: `Cannot record shards: shardBytes must be above 0, current value is ${shardBytes}`,
      });
    }
  });
});

Deno.test("writeShards() throws what went wrong while the model ran on", async () => {
  await withFolder(async (folder) => {
    const directory = join(folder, "shards");
    const seen: number[] = [];
    const recording = writeShards(await openSmallVit(), await openPictures(), {
      ...smallOptions(directory),
      onProgress: (done) => {
        seen.push(done);
        if (done === 2) rmSync(directory, { recursive: true });
      },
    });
    await assert.rejects(recording, { name: "Error", message: /^Cannot write .*: its folder does not exist$/ });
    // The first shard of 4 images cannot get its name; one batch more was in the model by then.
    assert.ok(seen.at(-1)! <= 8, `${seen} images`);
  });
});
