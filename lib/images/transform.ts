/**
 * What a model family does to an image before it looks: a plain record, read from the `preprocessor_config.json` that
 * comes with a model on the Hugging Face Hub, or put together by hand.
 * Field names: https://huggingface.co/docs/transformers/main_classes/image_processor
 *
 * @module
 */

import type { RgbColor } from "./decode.ts";
import type { ResampleKernel } from "./resample.ts";

/** One number per color channel: red, green, blue. */
export type ChannelTriple = readonly [red: number, green: number, blue: number];

/** How an image gets its size, before the crop. */
export type ResizeRule =
  /** The shorter side becomes `sizePx`; the longer keeps the aspect, truncated to whole pixels. */
  | { readonly mode: "shortestEdge"; readonly sizePx: number; readonly kernel: ResampleKernel }
  /** Both sides are set, whatever the aspect. */
  | { readonly mode: "squash"; readonly widthPx: number; readonly heightPx: number; readonly kernel: ResampleKernel }
  | { readonly mode: "none" };

/** How pixels become what a model expects: resize, crop the center, then `(byte * rescale - mean) / std`. */
export interface PixelTransform {
  /** How the image gets its size, before the crop. */
  readonly resize: ResizeRule;
  /** Size cut from the center, padded with black where the image is smaller; `undefined` for no crop. */
  readonly crop: { readonly widthPx: number; readonly heightPx: number } | undefined;
  /** Factor from bytes to the scale of `mean` and `std`, usually 1/255. */
  readonly rescale: number;
  /** Subtracted from each channel, after `rescale`. */
  readonly mean: ChannelTriple;
  /** Divides each channel, after `mean` is subtracted. */
  readonly std: ChannelTriple;
  /** What shows through transparent pixels; to be given to `decodeImage`. */
  readonly background: RgbColor;
}

/** Channel means of the images that OpenAI's CLIP was trained on. */
export const CLIP_MEAN: ChannelTriple = [0.48145466, 0.4578275, 0.40821073];
/** Channel standard deviations of the images that OpenAI's CLIP was trained on. */
export const CLIP_STD: ChannelTriple = [0.26862954, 0.26130258, 0.27577711];
/** Channel means of ImageNet: DINO, DINOv2, torchvision. */
export const IMAGENET_MEAN: ChannelTriple = [0.485, 0.456, 0.406];
/** Channel standard deviations of ImageNet: DINO, DINOv2, torchvision. */
export const IMAGENET_STD: ChannelTriple = [0.229, 0.224, 0.225];

/** Options for {@linkcode centerCropTransform}. */
export interface CenterCropTransformOptions {
  /**
   * Length of the shorter side before the crop, in pixels.
   *
   * @default {sizePx}
   */
  resizePx?: number;
  /**
   * How pixels are weighed when resizing.
   *
   * @default {"bicubic"}
   */
  kernel?: ResampleKernel;
  /**
   * Channel means.
   *
   * @default {CLIP_MEAN}
   */
  mean?: ChannelTriple;
  /**
   * Channel standard deviations.
   *
   * @default {CLIP_STD}
   */
  std?: ChannelTriple;
  /**
   * What shows through transparent pixels.
   *
   * @default {[255, 255, 255]}
   */
  background?: RgbColor;
}

/** The usual transform for a model that comes without a config: shorter side to size, center crop, normalize. */
export function centerCropTransform(sizePx: number, options: CenterCropTransformOptions = {}): PixelTransform {
  const { resizePx = sizePx, kernel = "bicubic", mean = CLIP_MEAN, std = CLIP_STD, background = [255, 255, 255] } =
    options;
  return {
    resize: { mode: "shortestEdge", sizePx: resizePx, kernel },
    crop: { widthPx: sizePx, heightPx: sizePx },
    rescale: 1 / 255,
    mean,
    std,
    background,
  };
}

/** Pillow's numbers for its kernels, as the config has them. */
const KERNEL_BY_CODE: Readonly<Record<number, ResampleKernel>> = {
  0: "nearest",
  1: "lanczos",
  2: "bilinear",
  3: "bicubic",
};

/** Processors for which a bare number as size means a square; for the others it is the shorter side. */
const SQUARE_SIZE = /^(ViT|DeiT|Siglip|Beit|Blip)/;
/** Processors that resize bilinearly if the config does not say. */
const BILINEAR = /^ViT/;

type Config = Readonly<Record<string, unknown>>;

/**
 * Reads the contents of a `preprocessor_config.json`, parsed. A step that the config does not mention is done if its
 * numbers are there (`crop_size`, `image_mean`), which is what the families' own defaults amount to.
 *
 * @throws {TypeError} If a field is missing or not of its type.
 * @throws {RangeError} If a field has a value outside its range.
 */
export function pixelTransformFromConfig(config: unknown): PixelTransform {
  if (!isRecord(config)) throw new TypeError(`${READING}: it must be an object, current value is ${show(config)}`);
  const processor = String(config.image_processor_type ?? config.feature_extractor_type ?? "");
  const normalize = flag(config, "do_normalize", config.image_mean !== undefined);
  return {
    resize: flag(config, "do_resize", config.size !== undefined) ? resizeFrom(config, processor) : { mode: "none" },
    crop: flag(config, "do_center_crop", config.crop_size !== undefined) ? cropFrom(config) : undefined,
    rescale: flag(config, "do_rescale", true) ? rescaleFrom(config) : 1,
    mean: normalize ? triple(config, "image_mean") : [0, 0, 0],
    std: normalize ? positiveTriple(config, "image_std") : [1, 1, 1],
    background: [255, 255, 255],
  };
}

const READING = "Cannot read preprocessor config";

function resizeFrom(config: Config, processor: string): ResizeRule {
  const code = config.resample ?? (BILINEAR.test(processor) ? 2 : 3);
  const kernel = KERNEL_BY_CODE[code as number];
  if (kernel === undefined) {
    const allowed = Object.entries(KERNEL_BY_CODE).map(([number, name]) => `${number} (${name})`).join(", ");
    throw new RangeError(`${READING}: resample must be one of ${allowed}, current value is ${show(code)}`);
  }
  const { size } = config;
  if (typeof size === "number") {
    const sizePx = pixels(size, "size");
    return SQUARE_SIZE.test(processor)
      ? { mode: "squash", widthPx: sizePx, heightPx: sizePx, kernel }
      : { mode: "shortestEdge", sizePx, kernel };
  }
  if (isRecord(size) && size.shortest_edge !== undefined && size.longest_edge === undefined) {
    return { mode: "shortestEdge", sizePx: pixels(size.shortest_edge, "size.shortest_edge"), kernel };
  }
  if (isRecord(size) && size.height !== undefined) {
    return {
      mode: "squash",
      widthPx: pixels(size.width, "size.width"),
      heightPx: pixels(size.height, "size.height"),
      kernel,
    };
  }
  throw new TypeError(
    `${READING}: size must be a number, {shortest_edge} or {height, width}, current value is ${show(size)}`,
  );
}

function cropFrom({ crop_size: size }: Config): { widthPx: number; heightPx: number } {
  if (isRecord(size)) {
    return { widthPx: pixels(size.width, "crop_size.width"), heightPx: pixels(size.height, "crop_size.height") };
  }
  const sizePx = pixels(size, "crop_size");
  return { widthPx: sizePx, heightPx: sizePx };
}

function rescaleFrom({ rescale_factor: factor = 1 / 255 }: Config): number {
  if (typeof factor === "number" && Number.isFinite(factor)) return factor;
  throw new TypeError(`${READING}: rescale_factor must be a number, current value is ${show(factor)}`);
}

function flag(config: Config, field: string, byDefault: boolean): boolean {
  const value = config[field] ?? byDefault;
  if (typeof value === "boolean") return value;
  throw new TypeError(`${READING}: ${field} must be true or false, current value is ${show(value)}`);
}

function pixels(value: unknown, field: string): number {
  if (typeof value !== "number") {
    throw new TypeError(`${READING}: ${field} must be a number of pixels, current value is ${show(value)}`);
  }
  if (Number.isInteger(value) && value >= 1) return value;
  throw new RangeError(`${READING}: ${field} must be an integer of at least 1, current value is ${value}`);
}

function triple(config: Config, field: string): ChannelTriple {
  const value = config[field];
  if (Array.isArray(value) && value.length === 3 && value.every(Number.isFinite)) return [value[0], value[1], value[2]];
  throw new TypeError(`${READING}: ${field} must be three numbers, current value is ${show(value)}`);
}

function positiveTriple(config: Config, field: string): ChannelTriple {
  const value = triple(config, field);
  if (value.every((number) => number > 0)) return value;
  throw new RangeError(`${READING}: ${field} must be three numbers above 0, current value is ${show(value)}`);
}

function isRecord(value: unknown): value is Config {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
