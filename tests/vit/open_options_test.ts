import assert from "node:assert/strict";
import { copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openVit } from "../../lib/vit/vit.ts";
import { fixture, withFolder } from "./fixtures.ts";

const torchvision = fixture("vit/torchvision.onnx");

Deno.test("openVit() takes images of the size asked for, where the graph does", async () => {
  const path = fixture("vits/dinov2.onnx");
  const imageSize = { heightPx: 42, widthPx: 63 };
  const vit = await openVit(path, { imageSize, threads: 1 });
  assert.deepEqual([vit.gridHeight, vit.gridWidth, vit.nSpecialTokens], [6, 9, 1]);
  const opened = await vit.openLayers([0]);
  const [activations] = await opened.run(new Float32Array(2 * 3 * 42 * 63));
  assert.equal(activations.length, 2 * (1 + 54) * vit.dModel);
  await opened.close();
  assert.deepEqual(vit.transform.crop, imageSize);

  const cases: [string, { heightPx: number; widthPx: number }, string, string | RegExp][] = [
    [
      torchvision,
      { heightPx: 40, widthPx: 40 },
      "RangeError",
      `Cannot open ViT ${torchvision}: imageSize must be 32 × 32, as the graph is fixed to it, current value is 40 × 40`,
    ],
    [
      path,
      { heightPx: 42, widthPx: 6.5 },
      "RangeError",
      `Cannot open ViT ${path}: imageSize must be whole pixels and at least a patch of 7 × 7, current value is 6.5 × 42`,
    ],
    [
      fixture("vits/clip_both.onnx"),
      { heightPx: 35, widthPx: 28 },
      "TypeError",
      /its graph must run on 28 × 35 pixels \(imageSize chooses others\), onnxruntime says: [^\n]*$/,
    ],
  ];
  for (const [model, size, name, message] of cases) {
    await assert.rejects(openVit(model, { imageSize: size, threads: 1 }), { name, message });
  }
});

Deno.test("openVit() fits what the configuration does to the size asked for", async () => {
  const configs: [object, object][] = [
    [
      { size: { shortest_edge: 256 }, crop_size: 224, image_mean: [0, 0, 0], image_std: [1, 1, 1] },
      { resize: { mode: "shortestEdge", sizePx: 64, kernel: "bicubic" }, crop: { heightPx: 56, widthPx: 35 } },
    ],
    [
      { size: { height: 224, width: 224 }, image_mean: [0, 0, 0], image_std: [1, 1, 1] },
      { resize: { mode: "squash", heightPx: 56, widthPx: 35, kernel: "bicubic" }, crop: undefined },
    ],
  ];
  await withFolder(async (folder) => {
    const path = join(folder, "model.onnx");
    await copyFile(fixture("vits/dinov2.onnx"), path);
    for (const [config, expected] of configs) {
      await writeFile(join(folder, "preprocessor_config.json"), JSON.stringify(config));
      const { transform } = await openVit(path, { imageSize: { heightPx: 56, widthPx: 35 }, threads: 1 });
      assert.deepEqual({ resize: transform.resize, crop: transform.crop }, expected);
    }
  });
});

Deno.test("openVit() looks for the family in config.json, then in the graph", async () => {
  const bare: [string, string | undefined, string[]][] = [
    ["clip", "clip", ["cls"]],
    ["open_clip_tokens_first", "openClip", ["cls"]],
    ["siglip", "siglip", []],
    ["dinov3", "dinov3", ["cls", "register", "register", "register", "register"]],
    ["vit", "vit", ["cls"]],
    ["deit", "deit", ["cls", "distillation"]],
    ["torchvision", undefined, ["cls"]],
  ];
  for (const [name, family, specialTokens] of bare) {
    const open = await openVit(fixture(`vits/${name}.onnx`), { threads: 1, imageSize: sizeOf(name) });
    assert.deepEqual([open.family, open.specialTokens], [family, specialTokens], name);
  }
  await withFolder(async (folder) => {
    const path = join(folder, "model.onnx");
    await copyFile(fixture("vits/siglip.onnx"), path);
    const config = { model_type: "siglip", text_config: { vocab_size: 256000 }, vision_config: { image_size: 28 } };
    await writeFile(join(folder, "config.json"), JSON.stringify(config));
    const siglip2 = await openVit(path, { threads: 1 });
    assert.equal(siglip2.family, "siglip2");
    assert.deepEqual(siglip2.transform.resize, { mode: "squash", heightPx: 28, widthPx: 28, kernel: "bilinear" });
    assert.equal((await openVit(path, { threads: 1, family: "siglip" })).family, "siglip");

    // Where the graph takes any size, the configuration says which.
    await copyFile(fixture("vits/dinov2.onnx"), path);
    await writeFile(join(folder, "config.json"), JSON.stringify({ model_type: "dinov2", image_size: [35, 42] }));
    const { heightPx, widthPx, family } = await openVit(path, { threads: 1 });
    assert.deepEqual([heightPx, widthPx, family], [35, 42, "dinov2"]);
  });
  await assert.rejects(openVit(torchvision, { family: "swin" }), {
    name: "RangeError",
    message:
      "Cannot find ViT family: name must be one of clip, openClip, siglip, siglip2, dinov2, dinov3, vit, deit, " +
      "timm, torchvision, peCore, current value is swin",
  });
});

/** Size for the fixtures that take any. */
function sizeOf(name: string): { heightPx: number; widthPx: number } | undefined {
  return name === "dinov3" ? { heightPx: 24, widthPx: 40 } : undefined;
}

Deno.test("openVit() takes the names of special tokens as given", async () => {
  const vit = await openVit(torchvision, { specialTokens: ["register"], threads: 1 });
  assert.deepEqual([vit.specialTokens, vit.nSpecialTokens], [["register"], 1]);
  await assert.rejects(openVit(torchvision, { specialTokens: [], threads: 1 }), {
    name: "RangeError",
    message: `Cannot open ViT ${torchvision}: specialTokens must name 1 tokens, current number is 0`,
  });
});
