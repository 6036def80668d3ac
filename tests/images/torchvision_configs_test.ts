import assert from "node:assert/strict";
import { familyTransforms } from "../../lib/images/family_transforms.ts";
import {
  pixelTransformFromOpenClipConfig,
  pixelTransformFromTimmConfig,
} from "../../lib/images/torchvision_configs.ts";

const TIMM = {
  input_size: [3, 224, 224],
  interpolation: "bicubic",
  crop_pct: 0.9,
  crop_mode: "center",
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
};

Deno.test("pixelTransformFromTimmConfig() enlarges by 1 / crop_pct, then crops", () => {
  assert.deepEqual(pixelTransformFromTimmConfig({ architecture: "vit", pretrained_cfg: TIMM }), familyTransforms.timm);
  assert.deepEqual(pixelTransformFromTimmConfig(TIMM), familyTransforms.timm);
  const { resize, crop } = pixelTransformFromTimmConfig({ ...TIMM, input_size: [3, 518, 518], crop_pct: 1 });
  assert.deepEqual(resize, { mode: "shortestEdge", sizePx: 518, kernel: "bicubic" });
  assert.deepEqual(crop, { widthPx: 518, heightPx: 518, rounding: "even" });
});

Deno.test("pixelTransformFromTimmConfig() knows timm's defaults", () => {
  const { resize, mean } = pixelTransformFromTimmConfig({ input_size: [3, 224, 224], crop_pct: null });
  assert.deepEqual(resize, { mode: "shortestEdge", sizePx: 256, kernel: "bicubic" });
  assert.deepEqual(mean, [0.485, 0.456, 0.406]);
});

Deno.test("pixelTransformFromTimmConfig() squashes where the config says so", () => {
  const config = { ...TIMM, input_size: [3, 192, 256], crop_mode: "squash", crop_pct: 0.95, interpolation: "bilinear" };
  const { resize, crop } = pixelTransformFromTimmConfig(config);
  assert.deepEqual(resize, { mode: "squash", widthPx: 269, heightPx: 202, kernel: "bilinear" });
  assert.deepEqual(crop, { widthPx: 256, heightPx: 192, rounding: "even" });
});

Deno.test("pixelTransformFromOpenClipConfig() reads CLIP's and SigLIP's configs", () => {
  const clip = { model_cfg: { vision_cfg: { image_size: 224 } }, preprocess_cfg: {} };
  assert.deepEqual(pixelTransformFromOpenClipConfig(clip), familyTransforms.openClip);
  const siglip = {
    model_cfg: { vision_cfg: { image_size: 224 } },
    preprocess_cfg: {
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
      interpolation: "bicubic",
      resize_mode: "squash",
    },
  };
  assert.deepEqual(pixelTransformFromOpenClipConfig(siglip), familyTransforms.siglip);
});

Deno.test("pixelTransformFromTimmConfig() and pixelTransformFromOpenClipConfig() say which field is wrong", () => {
  const cases: [() => unknown, string, string][] = [
    [() => pixelTransformFromTimmConfig([]), "TypeError", "it must be an object, current value is []"],
    [
      () => pixelTransformFromTimmConfig({ ...TIMM, input_size: 224 }),
      "TypeError",
      "input_size must be [channels, height, width], current value is 224",
    ],
    [
      () => pixelTransformFromTimmConfig({ ...TIMM, input_size: [3, 224, 192] }),
      "RangeError",
      "input_size must be a square where crop_mode is center, current value is [3,224,192]",
    ],
    [
      () => pixelTransformFromTimmConfig({ ...TIMM, crop_pct: 1.5 }),
      "RangeError",
      "crop_pct must be above 0 and at most 1, current value is 1.5",
    ],
    [
      () => pixelTransformFromTimmConfig({ ...TIMM, crop_mode: "border" }),
      "RangeError",
      'crop_mode must be one of center, squash, current value is "border"',
    ],
    [
      () => pixelTransformFromTimmConfig({ ...TIMM, interpolation: "random" }),
      "RangeError",
      'interpolation must be one of nearest, bilinear, bicubic, lanczos, current value is "random"',
    ],
    [
      () => pixelTransformFromOpenClipConfig({ preprocess_cfg: { resize_mode: "longest" } }),
      "RangeError",
      'resize_mode must be one of shortest, squash, current value is "longest"',
    ],
    [
      () => pixelTransformFromOpenClipConfig({ model_cfg: { vision_cfg: { image_size: "224" } } }),
      "TypeError",
      'model_cfg.vision_cfg.image_size must be a number of pixels, current value is "224"',
    ],
  ];
  for (const [read, name, message] of cases) {
    assert.throws(read, { name, message: `Cannot read preprocessor config: ${message}` });
  }
});
