import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openVit, type Vit } from "../../lib/vit/vit.ts";
import { assertWithin, embeddedModel, fixture, readArray, withFolder, withoutNames } from "./fixtures.ts";

const torchvision = fixture("vit/torchvision.onnx");

/** Residual streams after all layers. */
async function runAll(vit: Vit, pixels: Float32Array): Promise<Float32Array[]> {
  const opened = await vit.openLayers(Array.from({ length: vit.nLayers }, (_, layer) => layer));
  const outputs = await opened.run(pixels);
  await opened.close();
  return outputs;
}

Deno.test("openVit() describes the embedded model", async () => {
  const vit = await openVit(embeddedModel);
  const { nLayers, dModel, heightPx, widthPx, gridHeight, gridWidth, nPatches, nSpecialTokens, tokensPerImage } = vit;
  assert.deepEqual(
    { nLayers, dModel, heightPx, widthPx, gridHeight, gridWidth, nPatches, nSpecialTokens, tokensPerImage },
    {
      nLayers: 6,
      dModel: 192,
      heightPx: 64,
      widthPx: 64,
      gridHeight: 8,
      gridWidth: 8,
      nPatches: 64,
      nSpecialTokens: 1,
      tokensPerImage: 65,
    },
  );
  assert.equal(vit.path, embeddedModel);
  assert.equal(vit.fingerprint, createHash("sha256").update(await readFile(embeddedModel)).digest("hex"));
});

/** Shape `[nImages, 1 + nLayers, nTokens, dModel]`, computed with PyTorch; entry `layer + 1` leaves block `layer`. */
async function assertEmbeddedStream(vit: Vit): Promise<void> {
  const pixels = await readArray("tiny_clip/pixel_values.npy");
  const { shape, data } = await readArray("tiny_clip/residual_stream.npy");
  const [nImages, nStages, nTokens, dModel] = shape;
  const imageLength = nTokens * dModel;
  const outputs = await runAll(vit, pixels.data.subarray(0, nImages * 3 * 64 * 64));
  assert.equal(outputs.length, nStages - 1);
  outputs.forEach((output, layer) => {
    for (let image = 0; image < nImages; image++) {
      const start = (image * nStages + layer + 1) * imageLength;
      const actual = output.subarray(image * imageLength, (image + 1) * imageLength);
      assertWithin(actual, data.subarray(start, start + imageLength), 1e-4);
    }
  });
}

Deno.test("openVit() gives the embedded model's residual stream as PyTorch computes it", async () => {
  await assertEmbeddedStream(await openVit(embeddedModel));
});

Deno.test("openVit() understands the embedded model with all its names replaced by numbers", async () => {
  await withFolder(async (folder) => {
    const { model } = withoutNames(await readFile(embeddedModel));
    assert.ok(!new TextDecoder().decode(model).includes("encoder"));
    await writeFile(join(folder, "nameless.onnx"), model);
    await assertEmbeddedStream(await openVit(join(folder, "nameless.onnx")));
  });
});

Deno.test("openVit() gives the residual stream of other ViTs as forward hooks see it", async () => {
  const cases = [
    { name: "torchvision", grid: [4, 4], nSpecialTokens: 1, nImages: 3 },
    { name: "fixed_batch", grid: [3, 3], nSpecialTokens: 1, nImages: 1 },
    { name: "mean_pooled", grid: [2, 3], nSpecialTokens: 0, nImages: 2 },
  ];
  for (const { name, grid, nSpecialTokens, nImages } of cases) {
    const vit = await openVit(fixture(`vit/${name}.onnx`), { threads: 1 });
    const pixels = await readArray(`vit/${name}_pixels.npy`);
    const { shape, data } = await readArray(`vit/${name}_stream.npy`);
    assert.deepEqual(pixels.shape, [nImages, 3, vit.heightPx, vit.widthPx]);
    assert.deepEqual(shape, [1 + vit.nLayers, nImages, vit.tokensPerImage, vit.dModel]);
    assert.deepEqual([vit.gridHeight, vit.gridWidth], grid);
    assert.equal(vit.nSpecialTokens, nSpecialTokens);
    const layerLength = data.length / shape[0];
    (await runAll(vit, pixels.data)).forEach((output, layer) => {
      const before = data.subarray(layer * layerLength, (layer + 1) * layerLength);
      const after = data.subarray((layer + 1) * layerLength, (layer + 2) * layerLength);
      assertWithin(output, after, 1e-4);
      // A block that changes nothing would prove nothing.
      assert.ok(after.some((value, i) => Math.abs(value - before[i]) > 0.5));
    });
  }
});

Deno.test("openVit() runs any number of images through a graph that takes one at a time", async () => {
  const vit = await openVit(fixture("vit/fixed_batch.onnx"), { threads: 1 });
  const { data: pixels } = await readArray("vit/fixed_batch_pixels.npy");
  const { shape, data } = await readArray("vit/fixed_batch_stream.npy");
  const negated = pixels.map((value) => -value);
  const three = new Float32Array(3 * pixels.length);
  [pixels, negated, pixels].forEach((image, i) => three.set(image, i * pixels.length));
  const last = (await runAll(vit, three))[vit.nLayers - 1];
  const expected = data.subarray(data.length - data.length / shape[0]);
  assertWithin(last.subarray(0, expected.length), expected, 1e-4);
  assertWithin(last.subarray(2 * expected.length), expected, 1e-4);
  assert.deepEqual(last.subarray(expected.length, 2 * expected.length), (await runAll(vit, negated))[vit.nLayers - 1]);
});

Deno.test("openLayers() gives several layers in one pass, as single runs do", async () => {
  const vit = await openVit(torchvision, { threads: 1 });
  const { data: pixels } = await readArray("vit/torchvision_pixels.npy");
  const before = pixels.slice();
  const both = await vit.openLayers([2, 0]);
  const [third, first] = await both.run(pixels);
  assert.deepEqual(both.layers, [2, 0]);
  for (const [layer, expected] of [[2, third], [0, first], [-1, third], [-3, first]] as const) {
    const single = await vit.openLayers([layer]);
    assertWithin((await single.run(pixels))[0], expected, 1e-6);
    await single.close();
  }
  await both.close();
  assert.deepEqual(pixels, before, "pixels must stay as they were");
});

Deno.test("resolveLayers() counts negative layers from the last", async () => {
  const vit = await openVit(torchvision, { threads: 1 });
  assert.deepEqual(vit.resolveLayers([-1, 0, -2]), [2, 0, 1]);
});

Deno.test("resolveLayers() refuses layers that are not there", async () => {
  const vit = await openVit(torchvision, { threads: 1 });
  for (const layer of [3, -4, 0.5, NaN]) {
    assert.throws(() => vit.resolveLayers([0, layer]), {
      name: "RangeError",
      message:
        `Cannot record layer ${layer}: layer must be an integer between 0 and 2, or between -3 and -1 to count ` +
        "from the last",
    });
  }
  for (const [layers, shown] of [[[], "[]"], [[2, -1], "[2, -1]"]] as const) {
    await assert.rejects(vit.openLayers(layers), {
      name: "RangeError",
      message: `Cannot record layers ${shown}: there must be at least one, and each only once`,
    });
  }
});

Deno.test("run() refuses pixels of another size", async () => {
  const vit = await openVit(torchvision, { threads: 1 });
  const opened = await vit.openLayers([0]);
  for (const length of [0, 3 * 32 * 31]) {
    await assert.rejects(opened.run(new Float32Array(length)), {
      name: "RangeError",
      message: `Cannot run ViT: pixels must have shape [nImages, 3, 32, 32], current length is ${length}`,
    });
  }
  await opened.close();
});
