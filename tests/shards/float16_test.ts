import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { tableFromIPC } from "apache-arrow";
import { fromFloat16, toFloat16 } from "../../lib/runtime/float16.ts";
import { shardSchema } from "../../lib/shards/format.ts";
import { openShards } from "../../lib/shards/read.ts";
import { writeShards } from "../../lib/shards/write.ts";
import type { Vit } from "../../lib/vit/vit.ts";
import { withFolder } from "../vit/fixtures.ts";
import { collect, dModel, layers, openPictures, openSmallVit, smallOptions, tokensPerImage } from "./recordings.ts";

Deno.test("writeShards() stores float16 on request, readBatches() gives the nearest float16 as float32", async () => {
  await withFolder(async (folder) => {
    const [whole, half] = [join(folder, "float32"), join(folder, "float16")];
    await writeShards(await openSmallVit(), await openPictures(), smallOptions(whole));
    const metadata = await writeShards(await openSmallVit(), await openPictures(), {
      ...smallOptions(half),
      shardBytes: 4 * tokensPerImage * (6 + layers.length * dModel * 2),
      dtype: "float16",
    });
    assert.equal(metadata.dtype, "float16");
    assert.deepEqual(metadata.shards.map((shard) => shard.n_images), [4, 4, 4, 4, 1]);
    const [expected, actual] = await Promise.all([openShards(whole), openShards(half)]);
    for (const layer of layers) {
      for (const tokens of ["all", "patches", "cls"] as const) {
        // Not in order, so that one batch is read into memory that held another, the last and smaller one included.
        const options = { layer, tokens, order: [8, 3, 8, 0] };
        const [floats, halves] = await Promise.all([
          collect(expected.readBatches(options)),
          collect(actual.readBatches(options)),
        ]);
        assert.deepEqual(
          halves,
          floats.map((batch) => ({ ...batch, activations: fromFloat16(toFloat16(batch.activations)) })),
        );
        let nRounded = 0;
        floats.forEach(({ activations }, i) =>
          activations.forEach((value, j) => {
            const error = Math.abs(halves[i].activations[j] - value);
            assert.ok(error <= Math.max(Math.abs(value) * 2 ** -11, 2 ** -25));
            if (error > 0) nRounded++;
          })
        );
        assert.ok(nRounded > 0, "float32 must not have been stored");
      }
    }
    await Promise.all([expected.close(), actual.close()]);
    const { schema } = tableFromIPC(await readFile(join(half, "shard_000004.arrow")));
    assert.equal(`${schema.fields[3]}`, `layer_2: FixedSizeList[${dModel}]<Float16>`);
    assert.equal(`${schema.fields}`, `${shardSchema(metadata).fields}`);
  });
});

/** Gives a ViT whose activations hold one number of choice: batch 1, its second image, token 3, dimension 5. */
function withActivation(vit: Vit, value: number): Vit {
  return {
    ...vit,
    async openLayers(wanted, options) {
      const opened = await vit.openLayers(wanted, options);
      let nRuns = 0;
      return {
        ...opened,
        async run(pixels) {
          const activations = await opened.run(pixels);
          if (++nRuns === 4) activations[1][(tokensPerImage + 3) * dModel + 5] = value;
          return activations;
        },
      };
    },
  };
}

Deno.test("writeShards() refuses to store as float16 what it does not hold, and says where it is", async () => {
  await withFolder(async (folder) => {
    const options = { ...smallOptions(folder), dtype: "float16", shardBytes: 1000 } as const;
    for (const value of [70000, -Infinity]) {
      await assert.rejects(writeShards(withActivation(await openSmallVit(), value), await openPictures(), options), {
        name: "RangeError",
        message: "Cannot record layer 2 as float16: activations must be between -65504 and 65504, current value is " +
          `${value} at token 3 of image ${value === 70000 ? 7 : 13}; record as float32`,
      });
    }
    // What was complete stays, and nothing else.
    assert.deepEqual((await readdir(folder)).filter((name) => name.endsWith(".partial")), []);
    const metadata = await writeShards(await openSmallVit(), await openPictures(), options);
    assert.equal(metadata.n_images, 17);
  });
});

Deno.test("writeShards() refuses another dtype, and another than the recording has", async () => {
  await withFolder(async (directory) => {
    const vit = await openSmallVit();
    const dtype = "bfloat16" as "float16";
    await assert.rejects(writeShards(vit, await openPictures(1), { directory, layers: [0], dtype }), {
      name: "RangeError",
      message: "Cannot record shards: dtype must be one of float32, float16, current value is bfloat16",
    });
    await writeShards(vit, await openPictures(1), { directory, layers: [0] });
    await assert.rejects(writeShards(vit, await openPictures(1), { directory, layers: [0], dtype: "float16" }), {
      name: "Error",
      message:
        `Cannot record into ${directory}: it must be empty or hold the same recording, the one in it differs in ` +
        "dtype; choose another folder or delete it",
    });
  });
});
