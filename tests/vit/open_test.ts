import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { centerCropTransform } from "../../lib/images/transform.ts";
import { buildOnnx, makeInput, makeNode } from "../../lib/onnx/build.ts";
import { readNode, readOnnx } from "../../lib/onnx/model.ts";
import { bytesField, integerField } from "../../lib/onnx/wire.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { assertWithin, fixture, rewriteGraph, withFolder } from "./fixtures.ts";

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
  const bfloat16 = (content: Uint8Array, field: number) => field === 5 ? [content, ...integerField(2, 16)] : undefined;
  const oneChannel = (_: Uint8Array, field: number) =>
    field === 11 ? makeInput({ name: "pixels", dims: ["n", 1, 32, 32] }).bytes : undefined;
  const patches = (_: Uint8Array, field: number) =>
    field === 11 ? makeInput({ name: "pixels", dims: ["n", 16, 192] }).bytes : undefined;
  const bytes = (_: Uint8Array, field: number) =>
    field === 11 ? makeInput({ name: "pixels", dims: ["n", 3, 32, 32], type: "uint8" }).bytes : undefined;
  const pixels = "the graph must take pixels [nImages, 3, height, width] as floats, current inputs are pixels";
  const models: [string, Uint8Array, string][] = [
    [
      "resnet.onnx",
      await readFile(fixture("vit/small_resnet.onnx")),
      "the graph must hold transformer blocks (attention and MLP, each added to what went in), none was found among 9 " +
      "nodes",
    ],
    ["gray.onnx", rewriteGraph(whole, oneChannel), `${pixels} [n, 1, 32, 32]`],
    ["naflex.onnx", rewriteGraph(whole, patches), `${pixels} [n, 16, 192]; cutting patches must be part of it`],
    ["bytes.onnx", rewriteGraph(whole, bytes), `${pixels} [n, 3, 32, 32] of uint8`],
    [
      "bfloat16.onnx",
      rewriteGraph(whole, bfloat16),
      "its numbers must be float32, float16 or quantized, current type is bfloat16; export it in float16 or float32",
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

Deno.test("openVit() leaves out the inputs that the vision part does not need", async () => {
  const whole = await readFile(torchvision);
  const words = bytesField(11, makeInput({ name: "input_ids", dims: ["n", "words"], type: "int64" }).bytes);
  await withFolder(async (folder) => {
    const path = join(folder, "clip.onnx");
    await writeFile(path, rewriteGraph(whole, () => undefined, words));
    const vit = await openVit(path, { threads: 1 });
    const opened = await vit.openLayers([2]);
    const [activations] = await opened.run(new Float32Array(3 * 32 * 32));
    assert.equal(activations.length, 17 * 16);
    await opened.close();

    const scale = bytesField(11, makeInput({ name: "scale", dims: [16] }).bytes);
    const { inputs, outputs } = readOnnx(whole).nodes.find(({ opType }) => opType === "Conv")!;
    const scaled = rewriteGraph(whole, (content, field) => {
      if (field !== 1 || readNode(content).opType !== "Conv") return undefined;
      return makeNode({
        op: "Conv",
        inputs: [...inputs.slice(0, 2), "scale"],
        outputs,
        attributes: { strides: [8, 8] },
      })
        .bytes;
    }, scale);
    await writeFile(path, scaled);
    await assert.rejects(openVit(path), {
      name: "TypeError",
      message:
        `Cannot open ViT ${path}: it must need pixels alone, it also needs scale [16]; export the vision part by ` +
        "itself",
    });
  });
});

Deno.test("openVit() reads weights from the file beside the model, and knows when it is not whole", async () => {
  const name = "vit_external.onnx";
  const weights = await readFile(fixture(`vits/${name}_data`));
  await withFolder(async (folder) => {
    const path = join(folder, name);
    await copyFile(fixture(`vits/${name}`), path);
    const reason = `Cannot open ViT ${path}: ${name}_data must be beside the model and hold ${weights.length} bytes, `;
    await assert.rejects(openVit(path), { name: "Error", message: `${reason}it is missing` });
    await writeFile(`${path}_data`, weights.subarray(0, -4));
    await assert.rejects(openVit(path), {
      name: "Error",
      message: `${reason}current size is ${weights.length - 4}`,
    });

    await writeFile(`${path}_data`, weights);
    const before = await openVit(path, { threads: 1 });
    assert.equal(
      before.fingerprint,
      createHash("sha256").update(await readFile(path)).update(weights).digest("hex"),
    );
    const other = weights.slice();
    other[other.length - 2] ^= 1;
    await writeFile(`${path}_data`, other);
    assert.notEqual((await openVit(path, { threads: 1 })).fingerprint, before.fingerprint);
  });
});

Deno.test("openVit() opens a model that cuts patches by reshaping", async () => {
  const [edge, width] = [4, 5];
  const numbers = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i));
  const shape = (name: string, ...dims: number[]) => ({
    name,
    dims: [dims.length],
    data: BigInt64Array.from(dims, BigInt),
  });
  const model = buildOnnx({
    inputs: [{ name: "pixels", dims: ["n", 3, 8, 12] }],
    constants: [
      shape("cut", -1, 3, 2, edge, 3, edge),
      shape("flat", -1, 6, 3 * edge * edge),
      { name: "projection", dims: [3 * edge * edge, width], data: numbers(3 * edge * edge * width) },
    ],
    nodes: [
      { op: "Reshape", inputs: ["pixels", "cut"], outputs: ["grid"] },
      { op: "Transpose", inputs: ["grid"], outputs: ["turned"], attributes: { perm: [0, 2, 4, 1, 3, 5] } },
      { op: "Reshape", inputs: ["turned", "flat"], outputs: ["patches"] },
      { op: "MatMul", inputs: ["patches", "projection"], outputs: ["h0"] },
      { op: "Softmax", inputs: ["h0"], outputs: ["attended"] },
      { op: "Add", inputs: ["h0", "attended"], outputs: ["h1"] },
      { op: "Relu", inputs: ["h1"], outputs: ["up"] },
      { op: "Add", inputs: ["h1", "up"], outputs: ["h2"] },
    ],
    outputs: ["h2"],
  });
  await withFolder(async (folder) => {
    const path = join(folder, "reshaped.onnx");
    await writeFile(path, model);
    const vit = await openVit(path, { threads: 1 });
    assert.deepEqual([vit.gridHeight, vit.gridWidth, vit.dModel, vit.nSpecialTokens], [2, 3, width, 0]);
    const pixels = numbers(3 * 8 * 12);
    const opened = await vit.openLayers([0], { hook: "residPre" });
    const [activations] = await opened.run(pixels);
    await opened.close();
    // The patch in the second row and third column, by plain loops.
    const projection = numbers(3 * edge * edge * width);
    const expected = new Float32Array(width);
    for (let i = 0; i < 3 * edge * edge; i++) {
      const [channel, y, x] = [Math.floor(i / 16), Math.floor(i / 4) % 4, i % 4];
      const pixel = pixels[(channel * 8 + 4 + y) * 12 + 8 + x];
      for (let column = 0; column < width; column++) expected[column] += pixel * projection[i * width + column];
    }
    assertWithin(activations.subarray(5 * width), expected, 1e-5);
  });
});
