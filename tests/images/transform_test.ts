import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { familyTransforms } from "../../lib/images/family_transforms.ts";
import { CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD } from "../../lib/images/channels.ts";
import { centerCropTransform, pixelTransformFromConfig } from "../../lib/images/transform.ts";

const CLIP = {
  do_resize: true,
  size: { shortest_edge: 224 },
  resample: 3,
  do_center_crop: true,
  crop_size: { height: 224, width: 224 },
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [...CLIP_MEAN],
  image_std: [...CLIP_STD],
  image_processor_type: "CLIPImageProcessor",
};

Deno.test("pixelTransformFromConfig() reads CLIP's config, the same as the default", () => {
  assert.deepEqual(pixelTransformFromConfig(CLIP), centerCropTransform(224));
});

Deno.test("pixelTransformFromConfig() reads the embedded model's config", async () => {
  const path = new URL("../../data/tiny_clip/preprocessor_config.json", import.meta.url);
  const transform = pixelTransformFromConfig(JSON.parse(await readFile(path, "utf8")));
  assert.deepEqual({ ...transform, rescale: 0 }, { ...centerCropTransform(64), rescale: 0 });
  assert.ok(Math.abs(transform.rescale * 255 - 1) < 1e-14);
});

Deno.test("pixelTransformFromConfig() reads DINOv2's config: resize to 256, crop to 224", () => {
  const transform = pixelTransformFromConfig({
    ...CLIP,
    size: { shortest_edge: 256 },
    image_mean: [...IMAGENET_MEAN],
    image_std: [...IMAGENET_STD],
    image_processor_type: "BitImageProcessor",
  });
  assert.deepEqual(
    transform,
    centerCropTransform(224, { resizePx: 256, mean: IMAGENET_MEAN, std: IMAGENET_STD }),
  );
});

Deno.test("pixelTransformFromConfig() reads SigLIP's config: squash, no crop", () => {
  const transform = pixelTransformFromConfig({
    do_resize: true,
    do_rescale: true,
    do_normalize: true,
    size: { height: 256, width: 192 },
    resample: 2,
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
  });
  assert.deepEqual(transform.resize, { mode: "squash", widthPx: 192, heightPx: 256, kernel: "bilinear" });
  assert.equal(transform.crop, undefined);
});

Deno.test("pixelTransformFromConfig() reads DINOv3's config: floats are resized, bilinearly unless it says otherwise", () => {
  const config = {
    do_resize: true,
    size: { height: 224, width: 224 },
    image_mean: [...IMAGENET_MEAN],
    image_std: [...IMAGENET_STD],
    image_processor_type: "DINOv3ViTImageProcessorFast",
  };
  assert.deepEqual(pixelTransformFromConfig(config), familyTransforms.dinov3);
  assert.deepEqual(pixelTransformFromConfig({ ...config, resample: 3 }).resize, {
    mode: "squash",
    widthPx: 224,
    heightPx: 224,
    kernel: "bicubic",
    arithmetic: "floats",
  });
});

Deno.test("familyTransforms has what the configs on the Hub say", () => {
  const half = { image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] };
  const imagenet = { image_mean: [...IMAGENET_MEAN], image_std: [...IMAGENET_STD] };
  const square = (sizePx: number) => ({ height: sizePx, width: sizePx });
  const configs: Record<string, unknown> = {
    clip: CLIP,
    siglip: { size: square(224), resample: 3, ...half, image_processor_type: "SiglipImageProcessor" },
    siglip2: { size: square(224), resample: 2, ...half, image_processor_type: "SiglipImageProcessor" },
    dinov2: {
      size: { shortest_edge: 256 },
      crop_size: square(224),
      resample: 3,
      ...imagenet,
      image_processor_type: "BitImageProcessor",
    },
    vit: { size: 224, resample: 2, ...half, feature_extractor_type: "ViTFeatureExtractor" },
    deit: { size: 256, crop_size: 224, resample: 3, ...imagenet, feature_extractor_type: "DeiTFeatureExtractor" },
  };
  for (const [family, config] of Object.entries(configs)) {
    assert.deepEqual(pixelTransformFromConfig(config), familyTransforms[family], family);
  }
});

Deno.test("pixelTransformFromConfig() reads a bare number as the processor does", () => {
  const resize = (type: string) => pixelTransformFromConfig({ ...CLIP, size: 96, image_processor_type: type }).resize;
  assert.deepEqual(resize("CLIPImageProcessor"), { mode: "shortestEdge", sizePx: 96, kernel: "bicubic" });
  assert.deepEqual(resize("ViTFeatureExtractor"), { mode: "squash", widthPx: 96, heightPx: 96, kernel: "bicubic" });
  assert.deepEqual(pixelTransformFromConfig({ ...CLIP, crop_size: 80 }).crop, { widthPx: 80, heightPx: 80 });
});

Deno.test("pixelTransformFromConfig() leaves out the steps that are switched off", () => {
  const transform = pixelTransformFromConfig({
    ...CLIP,
    do_resize: false,
    do_center_crop: false,
    do_rescale: false,
    do_normalize: false,
  });
  assert.deepEqual(transform, {
    resize: { mode: "none" },
    crop: undefined,
    rescale: 1,
    mean: [0, 0, 0],
    std: [1, 1, 1],
    background: [255, 255, 255],
  });
});

Deno.test("pixelTransformFromConfig() says which field is wrong", () => {
  const cases: [unknown, string, string][] = [
    [null, "TypeError", "it must be an object, current value is null"],
    [
      { max_num_patches: 256, patch_size: 16 },
      "TypeError",
      "it must give a size in pixels, current processor cuts patches itself (SigLIP 2 NaFlex)",
    ],
    [
      { ...CLIP, resample: 5 },
      "RangeError",
      "resample must be one of 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), current value is 5",
    ],
    [
      { ...CLIP, size: { longest_edge: 9 } },
      "TypeError",
      'size must be a number, {shortest_edge} or {height, width}, current value is {"longest_edge":9}',
    ],
    [
      { ...CLIP, size: { shortest_edge: 0 } },
      "RangeError",
      "size.shortest_edge must be an integer of at least 1, current value is 0",
    ],
    [
      { ...CLIP, crop_size: { height: 2 } },
      "TypeError",
      "crop_size.width must be a number of pixels, current value is undefined",
    ],
    [{ ...CLIP, do_resize: "yes" }, "TypeError", 'do_resize must be true or false, current value is "yes"'],
    [{ ...CLIP, rescale_factor: "1" }, "TypeError", 'rescale_factor must be a number, current value is "1"'],
    [{ ...CLIP, image_mean: [1, 2] }, "TypeError", "image_mean must be three numbers, current value is [1,2]"],
    [
      { ...CLIP, image_std: [1, 0, 1] },
      "RangeError",
      "image_std must be three numbers above 0, current value is [1,0,1]",
    ],
  ];
  for (const [config, name, message] of cases) {
    assert.throws(() => pixelTransformFromConfig(config), {
      name,
      message: `Cannot read preprocessor config: ${message}`,
    });
  }
});
