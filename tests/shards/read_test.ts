import assert from "node:assert/strict";
import { openShards, type TokenKind } from "../../lib/shards/read.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { type ActivationBatch, recordActivations } from "../../lib/vit/record.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { fixture, withFolder } from "../vit/fixtures.ts";
import {
  collect,
  dModel,
  joinActivations,
  layers,
  nImages,
  openPictures,
  openSmallVit,
  tokensPerImage,
  withRecording,
} from "./recordings.ts";

Deno.test("writeShards() then openShards() gives exactly what recordActivations() gives", async () => {
  await withRecording(async (directory) => {
    const recorded: ActivationBatch[] = [];
    const pictures = await openPictures();
    for await (const batch of recordActivations(await openSmallVit(), pictures, { layers, batchSize: 2 })) {
      recorded.push(batch);
    }
    const shards = await openShards(directory);
    assert.equal(shards.nBatches, 9);
    const imageLength = tokensPerImage * dModel;
    const tokenKinds: [TokenKind, number, number][] = [["all", 0, 17], ["patches", 1, 17], ["cls", 0, 1]];
    for (const [position, layer] of layers.entries()) {
      const whole = recorded.flatMap(({ activations }) => [...activations[position]]);
      for (const [tokens, first, end] of tokenKinds) {
        const batches = await collect(shards.readBatches({ layer, tokens }));
        assert.deepEqual(batches.flatMap(({ imageIndices }) => [...imageIndices]), [...Array(nImages).keys()]);
        assert.ok(batches.every((batch) => batch.tokensPerImage === end - first));
        const expected = Array.from(
          { length: nImages },
          (_, image) => whole.slice(image * imageLength + first * dModel, image * imageLength + end * dModel),
        );
        assert.deepEqual(joinActivations(batches), Float32Array.from(expected.flat()), `${tokens} of layer ${layer}`);
      }
    }
    const [patches, last] = await Promise.all([
      collect(shards.readBatches({ layer: 2, order: [0] })),
      collect(shards.readBatches({ layer: -1, tokens: "patches", order: [0] })),
    ]);
    assert.deepEqual(patches, last, "patches are the default, and negative layers count from the last");
    await shards.close();
  });
});

Deno.test("readBatches() hands out all tokens as a view of the bytes read", async () => {
  await withRecording(async (directory) => {
    const shards = await openShards(directory);
    const typedArray = Object.getPrototypeOf(Float32Array.prototype);
    const { set, slice } = typedArray;
    let nCopies = 0;
    const counted = (copy: (...args: unknown[]) => unknown) =>
      function (this: unknown, ...args: unknown[]) {
        if (this instanceof Float32Array) nCopies++;
        return copy.apply(this, args);
      };
    try {
      Object.assign(typedArray, { set: counted(set), slice: counted(slice) });
      const [{ activations }] = await collect(shards.readBatches({ layer: 0, tokens: "all", order: [1] }));
      assert.equal(nCopies, 0);
      assert.equal(activations.byteOffset, 0);
      assert.equal(activations.buffer.byteLength, 2 * tokensPerImage * dModel * 4);
      await collect(shards.readBatches({ layer: 0, tokens: "patches", order: [1] }));
      assert.equal(nCopies, 2, "patches are moved together, once an image");
    } finally {
      Object.assign(typedArray, { set, slice });
      await shards.close();
    }
  });
});

Deno.test("readBatches() follows the order asked for, repetitions included", async () => {
  await withRecording(async (directory) => {
    const shards = await openShards(directory);
    const inOrder = await collect(shards.readBatches({ layer: 2 }));
    const order = [8, 0, 5, 3, 3, 1];
    assert.deepEqual(
      await collect(shards.readBatches({ layer: 2, order })),
      order.map((position) => inOrder[position]),
    );
    assert.deepEqual(await collect(shards.readBatches({ layer: 2, order: [] })), []);
    for (const position of [9, -1, 0.5]) {
      await assert.rejects(collect(shards.readBatches({ layer: 2, order: [position] })), {
        name: "RangeError",
        message: `Cannot read batch ${position} of ${directory}: it must be an integer from 0 to 8`,
      });
    }
    await shards.close();
  });
});

Deno.test("batchesOf() finds the batches that hold some images", async () => {
  await withRecording(async (directory) => {
    const shards = await openShards(directory);
    assert.deepEqual(await shards.batchesOf([16, 3, 2, 9]), [1, 4, 8]);
    assert.deepEqual(await shards.batchesOf([]), []);
    assert.deepEqual(await shards.batchesOf([99]), []);
    const order = await shards.batchesOf([9]);
    const [{ imageIndices }] = await collect(shards.readBatches({ layer: 0, order }));
    assert.deepEqual([...imageIndices], [8, 9]);
    await shards.close();
  });
});

Deno.test("readBatches() stops between batches when asked to", async () => {
  await withRecording(async (directory) => {
    const shards = await openShards(directory);
    const controller = new AbortController();
    let nBatches = 0;
    await assert.rejects(async () => {
      for await (const _ of shards.readBatches({ layer: 0, signal: controller.signal })) {
        if (++nBatches === 3) controller.abort();
      }
    }, { name: "AbortError" });
    assert.equal(nBatches, 3);
    await shards.close();
  });
});

Deno.test("readBatches() refuses layers and tokens that were not recorded", async () => {
  await withFolder(async (directory) => {
    const vit = await openVit(fixture("vit/mean_pooled.onnx"), { threads: 1 });
    const metadata = await writeShards(vit, await openPictures(1), { directory, layers: [1] });
    assert.deepEqual([metadata.cls, metadata.n_special_tokens, metadata.grid_height, metadata.grid_width], [
      false,
      0,
      2,
      3,
    ]);
    const shards = await openShards(directory);
    for (const layer of [0, -2, 7]) {
      assert.throws(() => shards.resolveLayer(layer), {
        name: "RangeError",
        message: `Cannot read layer ${layer} of ${directory}: layer must be one of 1`,
      });
    }
    await assert.rejects(collect(shards.readBatches({ layer: 1, tokens: "cls" })), {
      name: "RangeError",
      message: "Cannot read CLS: the model must have a CLS token, this one has only patches",
    });
    await assert.rejects(collect(shards.readBatches({ layer: 1, tokens: "content" as TokenKind })), {
      name: "RangeError",
      message: "Cannot read tokens: tokens must be one of patches, cls, all, current value is content",
    });
    await shards.close();
  });
});

Deno.test("readBatches() reads the next batch while the caller works on one", async () => {
  await withRecording(async (directory) => {
    const shards = await openShards(directory);
    const asked: number[] = [];
    function* order() {
      for (const position of [4, 0, 7]) {
        asked.push(position);
        yield position;
      }
    }
    const seen: number[] = [];
    for await (const { imageIndices } of shards.readBatches({ layer: 0, order: order() })) {
      seen.push(imageIndices[0]);
      assert.deepEqual(asked.length, Math.min(3, seen.length + 1));
    }
    assert.deepEqual(seen, [8, 0, 14]);
    await shards.close();
  });
});

Deno.test("readBatches() hands out arrays that later batches leave as they are", async () => {
  await withRecording(async (directory) => {
    const shards = await openShards(directory);
    for (const tokens of ["all", "patches", "cls"] as const) {
      const [together, alone] = [await collect(shards.readBatches({ layer: 0, tokens })), [] as number[][]];
      for (let position = 0; position < 9; position++) {
        const [{ activations }] = await collect(shards.readBatches({ layer: 0, tokens, order: [position] }));
        alone.push([...activations]);
      }
      assert.deepEqual(together.map(({ activations }) => [...activations]), alone);
    }
    await shards.close();
  });
});

Deno.test("readBatches() gives the same from memory that is used again", async () => {
  await withRecording(async (directory) => {
    const shards = await openShards(directory);
    // A smaller batch before a larger one, too.
    const order = [8, 0, 3, 8, 5];
    for (const tokens of ["all", "patches", "cls"] as const) {
      const expected = await collect(shards.readBatches({ layer: 2, tokens, order }));
      const seen: Float32Array[] = [];
      const buffers = new Set<ArrayBufferLike>();
      for await (const { activations } of shards.readBatches({ layer: 2, tokens, order, reuse: true })) {
        seen.push(activations.slice());
        buffers.add(activations.buffer);
      }
      assert.deepEqual(seen, expected.map(({ activations }) => activations), tokens);
      // Two at a time, each made again once, as the first batch is the smaller.
      assert.ok(buffers.size <= 3, `${buffers.size} buffers for ${tokens}`);
    }
    await shards.close();
  });
});
