/**
 * Reads the configs of libraries whose transforms are composed of torchvision's: timm's `config.json` and OpenCLIP's
 * `open_clip_config.json`, as they come with models on the Hugging Face Hub.
 * Fields: https://huggingface.co/docs/timm/reference/data
 *
 * @module
 */
import { type Config, isRecord, pixels, positiveTriple, READING, show, triple } from "./config_fields.ts";
import type { ResampleKernel } from "./resample.ts";
import { CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD } from "./channels.ts";
import type { CropRule, PixelTransform } from "./transform.ts";

const KERNELS: readonly ResampleKernel[] = ["nearest", "bilinear", "bicubic", "lanczos"];

/**
 * Reads timm's `config.json`, or its `pretrained_cfg` alone: the image is enlarged by 1 / `crop_pct` and cropped.
 *
 * @throws {TypeError} If a field is missing or not of its type.
 * @throws {RangeError} If a field has a value outside its range, or `input_size` is no square where the crop keeps the
 * aspect.
 */
export function pixelTransformFromTimmConfig(config: unknown): PixelTransform {
  const fields = recordOf(isRecord(config) && config.pretrained_cfg !== undefined ? config.pretrained_cfg : config);
  const size = fields.input_size;
  if (!Array.isArray(size) || size.length !== 3) {
    throw new TypeError(`${READING}: input_size must be [channels, height, width], current value is ${show(size)}`);
  }
  const [heightPx, widthPx] = [pixels(size[1], "input_size[1]"), pixels(size[2], "input_size[2]")];
  const share = fields.crop_pct ?? 0.875;
  const mode = fields.crop_mode ?? "center";
  if (typeof share !== "number" || !(share > 0 && share <= 1)) {
    throw new RangeError(`${READING}: crop_pct must be above 0 and at most 1, current value is ${show(share)}`);
  }
  const kernel = kernelOf(fields.interpolation ?? "bicubic");
  const [largerHeight, largerWidth] = [Math.floor(heightPx / share), Math.floor(widthPx / share)];
  const rest = {
    crop: { widthPx, heightPx, rounding: "even" } satisfies CropRule,
    rescale: 1 / 255,
    mean: fields.mean === undefined ? IMAGENET_MEAN : triple(fields, "mean"),
    std: fields.std === undefined ? IMAGENET_STD : positiveTriple(fields, "std"),
    background: [255, 255, 255],
  } as const;
  if (mode === "squash") {
    return { resize: { mode: "squash", widthPx: largerWidth, heightPx: largerHeight, kernel }, ...rest };
  }
  if (mode !== "center") {
    throw new RangeError(`${READING}: crop_mode must be one of center, squash, current value is ${show(mode)}`);
  }
  if (heightPx !== widthPx) {
    throw new RangeError(
      `${READING}: input_size must be a square where crop_mode is center, current value is ${show(size)}`,
    );
  }
  return { resize: { mode: "shortestEdge", sizePx: largerWidth, kernel }, ...rest };
}

/**
 * Reads OpenCLIP's `open_clip_config.json`.
 *
 * @throws {TypeError} If a field is missing or not of its type.
 * @throws {RangeError} If a field has a value outside its range.
 */
export function pixelTransformFromOpenClipConfig(config: unknown): PixelTransform {
  const { model_cfg: model, preprocess_cfg: preprocess } = recordOf(config);
  const fields = recordOf(preprocess ?? {});
  const vision = isRecord(model) && isRecord(model.vision_cfg) ? model.vision_cfg : {};
  const sizePx = pixels(fields.size ?? vision.image_size ?? 224, "model_cfg.vision_cfg.image_size");
  const kernel = kernelOf(fields.interpolation ?? "bicubic");
  const { resize_mode: mode = "shortest" } = fields;
  if (mode !== "shortest" && mode !== "squash") {
    throw new RangeError(`${READING}: resize_mode must be one of shortest, squash, current value is ${show(mode)}`);
  }
  const isSquashed = mode === "squash";
  return {
    resize: isSquashed
      ? { mode: "squash", widthPx: sizePx, heightPx: sizePx, kernel }
      : { mode: "shortestEdge", sizePx, kernel },
    crop: isSquashed ? undefined : { widthPx: sizePx, heightPx: sizePx, rounding: "even" },
    rescale: 1 / 255,
    mean: fields.mean === undefined ? CLIP_MEAN : triple(fields, "mean"),
    std: fields.std === undefined ? CLIP_STD : positiveTriple(fields, "std"),
    background: [255, 255, 255],
  };
}

function recordOf(value: unknown): Config {
  if (isRecord(value)) return value;
  throw new TypeError(`${READING}: it must be an object, current value is ${show(value)}`);
}

function kernelOf(name: unknown): ResampleKernel {
  const kernel = KERNELS.find((known) => known === name);
  if (kernel !== undefined) return kernel;
  throw new RangeError(
    `${READING}: interpolation must be one of ${KERNELS.join(", ")}, current value is ${show(name)}`,
  );
}
