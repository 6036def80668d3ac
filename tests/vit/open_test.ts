import assert from "node:assert/strict";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { centerCropTransform } from "../../lib/images/transform.ts";
import { bytesField, integerField } from "../../lib/onnx/wire.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { fixture, rewriteGraph, withFolder } from "./fixtures.ts";

const torchvision = fixture("vit/torchvision.onnx");

Deno.test("openVit() looks for the preprocessor config beside the model, then one folder up", async () => {
  const config = (mean: number) =>
    JSON.stringify({ size: 32, crop_size: 32, image_mean: [mean, 0, 0], image_std: [1, 1, 1] });
  await withFolder(async (folder) => {
    const path = join(folder, "onnx", "model.onnx");
    await mkdir(join(folder, "onnx"));
    await copyFile(torchvision, path);
    const open = () => openVit(path, { threads: 1 });
    assert.deepEqual((await open()).transform, centerCropTransform(32));
    await writeFile(join(folder, "preprocessor_config.json"), config(0.25));
    assert.equal((await open()).transform.mean[0], 0.25);
    await writeFile(join(folder, "onnx", "preprocessor_config.json"), config(0.5));
    assert.equal((await open()).transform.mean[0], 0.5);
    const given = centerCropTransform(32, { resizePx: 40 });
    assert.deepEqual((await openVit(path, { transform: given, threads: 1 })).transform, given);

    await assert.rejects(openVit(path, { transform: centerCropTransform(48), threads: 1 }), {
      name: "RangeError",
      message: `Cannot open ViT ${path}: preprocessing must give 32 × 32 pixels, it gives 48 × 48`,
    });
    const broken = join(folder, "onnx", "preprocessor_config.json");
    await writeFile(broken, "{size: 32}");
    await assert.rejects(open(), { name: "SyntaxError", message: `Cannot read ${broken}: it must be JSON` });
  });
});

Deno.test("openVit() crops to the graph's size where the image is no square and nothing is configured", async () => {
  const { transform, heightPx, widthPx } = await openVit(fixture("vit/mean_pooled.onnx"), { threads: 1 });
  assert.deepEqual([heightPx, widthPx], [8, 12]);
  assert.deepEqual(transform.crop, { heightPx: 8, widthPx: 12 });
  assert.deepEqual(transform.resize, { mode: "shortestEdge", sizePx: 12, kernel: "bicubic" });
});

Deno.test("openVit() gives one clear error for a file that is no ONNX model", async () => {
  const whole = await readFile(torchvision);
  const files: [string, Uint8Array | string, string][] = [
    ["empty.onnx", "", "the file must hold a graph, none was found"],
    ["text.onnx", "This is a text, not a model.", "the file must be a protobuf message, it may be cut short"],
    ["page.onnx", "<!doctype html><title>404</title>", "the file must be a protobuf message, it may be cut short"],
    [
      "pointer.onnx",
      "version https://git-lfs.github.com/spec/v1\n",
      "the file must be a protobuf message, it may be cut short",
    ],
    ["half.onnx", whole.subarray(0, whole.length / 2), "the file must be a protobuf message, it may be cut short"],
    ["early.onnx", whole.subarray(0, 2), "the file must hold a graph, none was found"],
    ["late.onnx", whole.subarray(0, -1), "the file must be a protobuf message, it may be cut short"],
  ];
  await withFolder(async (folder) => {
    for (const [name, content, reason] of files) {
      const path = join(folder, name);
      await writeFile(path, content);
      await assert.rejects(openVit(path), { name: "SyntaxError", message: `Cannot open ViT ${path}: ${reason}` });
    }
    const gone = join(folder, "gone.onnx");
    await assert.rejects(openVit(gone), {
      name: "Error",
      message: `Cannot open ViT ${gone}: the file must be readable (ENOENT)`,
    });
  });
});

Deno.test("openVit() refuses a model that it cannot record", async () => {
  const whole = await readFile(torchvision);
  const text = bytesField(11, bytesField(1, "input_ids"));
  const external = (content: Uint8Array, field: number) => field === 5 ? [content, ...integerField(14, 1)] : undefined;
  const models: [string, Uint8Array, string][] = [
    [
      "resnet.onnx",
      await readFile(fixture("vit/small_resnet.onnx")),
      "the graph must hold transformer blocks (attention and MLP, each added to what went in), none was found among 9 " +
      "nodes",
    ],
    [
      "clip.onnx",
      rewriteGraph(whole, () => undefined, text),
      "its input must be pixels [nImages, 3, height, width] alone, current inputs are pixels [batch, 3, 32, 32], " +
      "input_ids []; export the vision part by itself",
    ],
    [
      "external.onnx",
      rewriteGraph(whole, external),
      "weights must be inside the file, this model keeps them in another",
    ],
  ];
  await withFolder(async (folder) => {
    for (const [name, model, reason] of models) {
      const path = join(folder, name);
      await writeFile(path, model);
      await assert.rejects(openVit(path), { name: "TypeError", message: `Cannot open ViT ${path}: ${reason}` });
    }
  });
});
