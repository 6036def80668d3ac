import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { readImage } from "../../lib/images/decode.ts";
import { openImageFolder } from "../../lib/images/folder.ts";
import { toPixelValues } from "../../lib/images/pixels.ts";
import { type ActivationBatch, recordActivations, type RecordOptions } from "../../lib/vit/record.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { assertWithin, embeddedModel, fixture, imageSource, makePicture, readArray } from "./fixtures.ts";

const torchvision = fixture("vit/torchvision.onnx");
const openSmallVit = () => openVit(torchvision, { threads: 1 });

async function makePictures(count: number): Promise<Uint8Array[]> {
  return await Promise.all(Array.from({ length: count }, (_, i) => makePicture(i)));
}

/** A JPEG whose second half is missing. */
async function makeTruncatedJpeg(): Promise<Uint8Array> {
  const whole = await makePicture(5, "jpeg");
  return whole.slice(0, whole.length / 2);
}

async function record(files: readonly Uint8Array[], options: Partial<RecordOptions> = {}): Promise<ActivationBatch[]> {
  const batches: ActivationBatch[] = [];
  const recording = recordActivations(await openSmallVit(), imageSource(files), { layers: [2], ...options });
  for await (const batch of recording) batches.push(batch);
  return batches;
}

function joinLayer(batches: readonly ActivationBatch[], layer = 0): number[] {
  return batches.flatMap(({ activations }) => [...activations[layer]]);
}

Deno.test("recordActivations() gives what PyTorch computes, from PNG files on", async () => {
  const images = await openImageFolder(fixture("tiny_clip/rgba"));
  const order: { hex: string }[] = JSON.parse(await readFile(fixture("tiny_clip/images.json"), "utf8"));
  const { shape: [nExpected, nStages, nTokens, dModel], data } = await readArray("tiny_clip/residual_stream.npy");
  const vit = await openVit(embeddedModel);
  const layers = [0, 3, 5];
  const imageLength = nTokens * dModel;
  let nCompared = 0;
  let nSeen = 0;
  for await (const { imageIndices, activations, skipped } of recordActivations(vit, images, { layers, batchSize: 7 })) {
    assert.deepEqual(skipped, []);
    imageIndices.forEach((imageIndex, i) => {
      assert.equal(imageIndex, nSeen++);
      const expected = order.findIndex(({ hex }) => `${hex.toLowerCase()}.png` === images.info(imageIndex).name);
      assert.ok(expected >= 0);
      if (expected >= nExpected) return;
      layers.forEach((layer, position) => {
        const start = (expected * nStages + layer + 1) * imageLength;
        const actual = activations[position].subarray(i * imageLength, (i + 1) * imageLength);
        // The reference composited transparent pixels in floating point, up to half a level away from whole ones.
        const error = relativeError(actual, data.subarray(start, start + imageLength));
        assert.ok(error < 2e-3, `layer ${layer}: ${error}`);
        nCompared++;
      });
    });
  }
  assert.deepEqual([nSeen, nCompared], [24, 8 * 3]);
});

/** Length of the difference over the length of the expected vector. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  const square = (total: number, value: number) => total + value * value;
  const difference = expected.map((value, i) => actual[i] - value);
  return Math.sqrt(difference.reduce(square, 0) / expected.reduce(square, 0));
}

Deno.test("recordActivations() gives what the ViT makes of each image's pixels", async () => {
  const images = await openImageFolder(fixture("tiny_clip/rgba"));
  const vit = await openVit(embeddedModel);
  const imageIndices = [2, 3, 23];
  const pixels = await Promise.all(imageIndices.map(async (imageIndex) => {
    const image = await readImage(images, imageIndex, { background: vit.transform.background });
    return [...toPixelValues(image, vit.transform)];
  }));
  const opened = await vit.openLayers([1]);
  const [expected] = await opened.run(Float32Array.from(pixels.flat()));
  await opened.close();
  for await (const { activations } of recordActivations(vit, images, { layers: [1], imageIndices })) {
    assertWithin(activations[0], expected, 1e-4);
  }
});

Deno.test("recordActivations() gives the same whatever the batch size", async () => {
  const files = await makePictures(5);
  const [whole] = await record(files);
  assert.deepEqual([...whole.imageIndices], [0, 1, 2, 3, 4]);
  for (const batchSize of [1, 2, 3]) {
    const batches = await record(files, { batchSize });
    assert.deepEqual(
      batches.map(({ imageIndices }) => imageIndices.length),
      {
        1: [1, 1, 1, 1, 1],
        2: [2, 2, 1],
        3: [3, 2],
      }[batchSize],
    );
    assertWithin(Float32Array.from(joinLayer(batches)), whole.activations[0], 1e-5);
  }
});

Deno.test("recordActivations() keeps the index of the source for selected images", async () => {
  const files = await makePictures(5);
  const [all] = await record(files);
  const [some] = await record(files, { imageIndices: [1, 4] });
  const imageLength = all.activations[0].length / 5;
  assert.deepEqual([...some.imageIndices], [1, 4]);
  assertWithin(some.activations[0].subarray(imageLength), all.activations[0].subarray(4 * imageLength), 1e-5);
  assert.deepEqual(await record(files, { imageIndices: [] }), []);
});

Deno.test("recordActivations() leaves out images that cannot be decoded, and names them", async () => {
  const files = await makePictures(5);
  const good = [files[0], files[2], files[4]];
  files[1] = await makeTruncatedJpeg();
  files[3] = new TextEncoder().encode("no picture");
  const batches = await record(files, { layers: [0, 2], batchSize: 2 });
  assert.deepEqual(batches.map(({ imageIndices }) => [...imageIndices]), [[0], [2], [4]]);
  const skipped = batches.map((batch) => batch.skipped.map(({ imageIndex, name }) => [imageIndex, name]));
  assert.deepEqual(skipped, [[[1, "picture 1"]], [[3, "picture 3"]], []]);
  assert.match(batches[0].skipped[0].reason, /^Cannot decode image "picture 1": .*premature end of JPEG image/);
  const [expected] = await record(good, { layers: [0, 2] });
  for (const layer of [0, 1]) {
    assertWithin(Float32Array.from(joinLayer(batches, layer)), expected.activations[layer], 1e-5);
  }
});

Deno.test("recordActivations() gives an empty batch where no image can be decoded", async () => {
  const bad = await makeTruncatedJpeg();
  const batches = await record([bad, bad, await makePicture(0)], { batchSize: 2, layers: [0, 1] });
  assert.deepEqual([...batches[0].imageIndices], []);
  assert.deepEqual(batches[0].activations.map(({ length }) => length), [0, 0]);
  assert.equal(batches[0].skipped.length, 2);
  assert.deepEqual([...batches[1].imageIndices], [2]);
});

Deno.test("recordActivations() throws at a bad image if asked to, after the batches before it", async () => {
  const files = await makePictures(3);
  files.push(await makeTruncatedJpeg());
  const seen: number[] = [];
  const options = { layers: [0], batchSize: 2, onBadImage: "error" } as const;
  await assert.rejects(
    async () => {
      for await (const batch of recordActivations(await openSmallVit(), imageSource(files), options)) {
        seen.push(...batch.imageIndices);
      }
    },
    { name: "Error", message: /^Cannot decode image "picture 3": / },
  );
  assert.deepEqual(seen, [0, 1]);
});

Deno.test("recordActivations() reports progress, skipped images included", async () => {
  const files = await makePictures(5);
  files[0] = await makeTruncatedJpeg();
  const progress: number[][] = [];
  await record(files, { batchSize: 2, onProgress: (done, total) => progress.push([done, total]) });
  assert.deepEqual(progress, [[2, 5], [4, 5], [5, 5]]);
});

Deno.test("recordActivations() stops between batches when asked to", async () => {
  const files = await makePictures(6);
  const controller = new AbortController();
  const seen: number[] = [];
  const options = { layers: [0], batchSize: 2, signal: controller.signal };
  await assert.rejects(
    async () => {
      for await (const batch of recordActivations(await openSmallVit(), imageSource(files), options)) {
        seen.push(...batch.imageIndices);
        if (seen.length === 4) controller.abort();
      }
    },
    { name: "AbortError" },
  );
  assert.deepEqual(seen, [0, 1, 2, 3]);
});

Deno.test("recordActivations() stops before the first batch, even if that would have failed", async () => {
  const files = [await makeTruncatedJpeg()];
  await assert.rejects(record(files, { signal: AbortSignal.abort(), onBadImage: "error" }), { name: "AbortError" });
  // A rejection that nobody handles would fail this test by the time the image is decoded.
  await new Promise((resolve) => setTimeout(resolve, 100));
});

Deno.test("recordActivations() changes neither its options nor the encoded images", async () => {
  const files = await makePictures(3);
  const before = files.map((file) => file.slice());
  const imageIndices = Object.freeze([0, 2]);
  const layers = Object.freeze([-1]);
  await record(files, Object.freeze({ imageIndices, layers, batchSize: 1 }));
  assert.deepEqual(files, before);
});

Deno.test("recordActivations() refuses what it cannot record", async () => {
  const files = await makePictures(1);
  for (const batchSize of [0, 1.5, -1]) {
    await assert.rejects(record(files, { batchSize }), {
      name: "RangeError",
      message: `Cannot record activations: batchSize must be an integer of 1 or more, current value is ${batchSize}`,
    });
  }
  await assert.rejects(record(files, { layers: [7] }), { name: "RangeError", message: /^Cannot record layer 7: / });
  await assert.rejects(record(files, { imageIndices: [1] }), {
    name: "RangeError",
    message: "Cannot read image: there is none at 1",
  });
});

Deno.test("recordActivations() names the first bad image in order, not the first to fail", async () => {
  const [good] = await makePictures(1);
  const truncated = await makeTruncatedJpeg();
  // A file without any bytes fails at once, long before a JPEG is found to be cut short.
  const files = [good, truncated, new Uint8Array(0)];
  await assert.rejects(() => record(files, { onBadImage: "error" }), (error: Error) => {
    assert.match(error.message, new RegExp(`"${imageSource(files).info(1).name}"`));
    return true;
  });
});
