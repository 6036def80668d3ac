import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeInput } from "../../lib/onnx/build.ts";
import { type OnnxNode, readOnnx } from "../../lib/onnx/model.ts";
import { openShards } from "../../lib/shards/read.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { type HookPoint, hookPoints } from "../../lib/vit/hooks.ts";
import { cutPart } from "../../lib/vit/part.ts";
import { findPixelInput } from "../../lib/vit/pixel_input.ts";
import { recordActivations } from "../../lib/vit/record.ts";
import { findResidualStream } from "../../lib/vit/residual_stream.ts";
import { openVit, type Vit } from "../../lib/vit/vit.ts";
import {
  assertWithin,
  embeddedModel,
  fixture,
  imageSource,
  makePicture,
  rewriteGraph,
  withFolder,
} from "./fixtures.ts";

const torchvision = fixture("vit/torchvision.onnx");

async function runHook(vit: Vit, hook: HookPoint, pixels: Float32Array): Promise<Float32Array[]> {
  const opened = await vit.openLayers(Array.from({ length: vit.nLayers }, (_, layer) => layer), { hook });
  assert.equal(opened.hook, hook);
  const outputs = await opened.run(pixels);
  await opened.close();
  return outputs;
}

Deno.test("openLayers() gives hook points that add up", async () => {
  for (const path of [embeddedModel, torchvision, fixture("vit/mean_pooled.onnx"), fixture("vit/fixed_batch.onnx")]) {
    const vit = await openVit(path, { threads: 1 });
    const pixels = Float32Array.from({ length: 2 * 3 * vit.heightPx * vit.widthPx }, (_, i) => Math.sin(i * 0.37));
    const before = await runHook(vit, "residPre", pixels);
    const attention = await runHook(vit, "attnOut", pixels);
    const mlp = await runHook(vit, "mlpOut", pixels);
    const after = await runHook(vit, "residPost", pixels);
    for (let layer = 0; layer < vit.nLayers; layer++) {
      assertWithin(after[layer], before[layer].map((h, i) => h + attention[layer][i] + mlp[layer][i]), 1e-4);
      if (layer > 0) assertWithin(before[layer], after[layer - 1], 1e-5);
      for (const added of [attention[layer], mlp[layer]]) assert.ok(added.some((value) => Math.abs(value) > 0.05));
    }
  }
});

Deno.test("openLayers() gives the same whatever order the graph has its dimensions in", async () => {
  const vit = await openVit(fixture("vits/open_clip_tokens_first.onnx"), { threads: 1 });
  const image = Float32Array.from({ length: 3 * vit.heightPx * vit.widthPx }, (_, i) => Math.sin(i * 0.37));
  const two = new Float32Array(2 * image.length);
  two.set(image.map((value) => -value));
  two.set(image, image.length);
  for (const hook of hookPoints) {
    const [single] = await runHook(vit, hook, image);
    const [both] = await runHook(vit, hook, two);
    assertWithin(both.subarray(single.length), single, 1e-5);
  }
});

Deno.test("openLayers() turns tokens and images of a graph that takes one image at a time", async () => {
  const path = fixture("vits/open_clip_tokens_first.onnx");
  const open = await openVit(path, { threads: 1 });
  const pixels = Float32Array.from({ length: 3 * 3 * 28 * 28 }, (_, i) => Math.sin(i * 0.37));
  await withFolder(async (folder) => {
    const input = makeInput({ name: "image", dims: [1, 3, 28, 28] }).bytes;
    const single = rewriteGraph(await readFile(path), (_, field) => field === 11 ? input : undefined);
    await writeFile(join(folder, "single.onnx"), single);
    const vit = await openVit(join(folder, "single.onnx"), { threads: 1 });
    assert.deepEqual([vit.tokensPerImage, vit.nSpecialTokens], [open.tokensPerImage, 1]);
    const expected = await runHook(open, "residPost", pixels);
    (await runHook(vit, "residPost", pixels)).forEach((output, layer) => assertWithin(output, expected[layer], 1e-5));
  });
});

Deno.test("openLayers() refuses a hook point that is none", async () => {
  const vit = await openVit(torchvision, { threads: 1 });
  await assert.rejects(vit.openLayers([0], { hook: "residMid" as HookPoint }), {
    name: "RangeError",
    message: "Cannot record hook point: hook must be one of residPre, attnOut, mlpOut, residPost, current value is " +
      "residMid",
  });
});

Deno.test("cutPart() leaves out the blocks after the last one needed", async () => {
  const model = readOnnx(await readFile(embeddedModel));
  const input = findPixelInput(model);
  const blocks = findResidualStream(model, input.name);
  const kept = (hook: HookPoint, layer: number): readonly OnnxNode[] => {
    const tensors = [[blocks[layer][hook]].flat()];
    return readOnnx(cutPart(model, { input, tensors, tokensFirst: false }).bytes).nodes;
  };
  const counts = blocks.map((_, layer) => kept("residPost", layer).length);
  for (let layer = 1; layer < blocks.length; layer++) {
    // Every block costs the same, and the first also what is before it.
    assert.equal(counts[layer] - counts[layer - 1], counts[1] - counts[0]);
    assert.equal(kept("residPre", layer).length, counts[layer - 1]);
    assert.ok(kept("attnOut", layer).length < kept("mlpOut", layer).length);
    assert.equal(kept("mlpOut", layer).length, counts[layer] - 1);
  }
  assert.ok(counts[0] < 0.25 * model.nodes.length);
  assert.ok(kept("residPost", 2).some(({ name }) => name.includes("layers.2")));
  assert.ok(!kept("residPost", 2).some(({ name }) => name.includes("layers.3")));
});

Deno.test("recordActivations() and writeShards() record the hook point asked for", async () => {
  const vit = await openVit(torchvision, { threads: 1 });
  const images = imageSource(await Promise.all([0, 1, 2].map((seed) => makePicture(seed))));
  const batches: Float32Array[] = [];
  for await (const { activations } of recordActivations(vit, images, { layers: [1], hook: "mlpOut" })) {
    batches.push(activations[0]);
  }
  await withFolder(async (directory) => {
    const metadata = await writeShards(vit, images, { directory, layers: [1], hook: "mlpOut" });
    assert.equal(metadata.stream, "mlp_out");
    const shards = await openShards(directory);
    assert.equal(shards.hook, "mlpOut");
    for await (const { activations } of shards.readBatches({ layer: 1, tokens: "all" })) {
      assert.deepEqual(activations, batches[0]);
    }
    await shards.close();
    await assert.rejects(writeShards(vit, images, { directory, layers: [1] }), /differs in stream; choose another/);
  });
});

Deno.test("writeShards() keeps registers apart from patches, and CLS only where there is one", async () => {
  const images = imageSource([await makePicture(0)]);
  const cases: [string, number, number, boolean][] = [
    ["dinov2_registers", 5, 20, true],
    ["siglip", 0, 16, false],
  ];
  for (const [name, nSpecialTokens, nPatches, cls] of cases) {
    const imageSize = name === "siglip" ? undefined : { heightPx: 35, widthPx: 28 };
    const vit = await openVit(fixture(`vits/${name}.onnx`), { threads: 1, imageSize });
    await withFolder(async (directory) => {
      const metadata = await writeShards(vit, images, { directory, layers: [0] });
      assert.deepEqual([metadata.n_special_tokens, metadata.cls], [nSpecialTokens, cls]);
      const shards = await openShards(directory);
      const read = async (tokens: "all" | "patches" | "cls") => {
        for await (const { activations } of shards.readBatches({ layer: 0, tokens })) return activations;
        throw new Error("there must be a batch");
      };
      const all = await read("all");
      assert.equal(all.length, (nSpecialTokens + nPatches) * vit.dModel);
      assert.deepEqual(await read("patches"), all.subarray(nSpecialTokens * vit.dModel));
      if (cls) assert.deepEqual(await read("cls"), all.subarray(0, vit.dModel));
      else {
        await assert.rejects(read("cls"), {
          name: "RangeError",
          message: "Cannot read CLS: the model must have a CLS token, this one has only patches",
        });
      }
      await shards.close();
    });
  }
});
