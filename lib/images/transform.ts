/**
 * What a model family does to an image before it looks: a plain record, read from the `preprocessor_config.json` that
 * comes with a model on the Hugging Face Hub, or put together by hand.
 * Field names: https://huggingface.co/docs/transformers/main_classes/image_processor
 *
 * @module
 */

import { type ChannelTriple, CLIP_MEAN, CLIP_STD } from "./channels.ts";
import { type Config, flag, isRecord, pixels, positiveTriple, READING, show, triple } from "./config_fields.ts";
import type { RgbColor } from "./decode.ts";
import type { ResampleKernel } from "./resample.ts";

/** How pixels are made when an image is resized. */
export interface Resampling {
  /** How pixels are weighed. */
  readonly kernel: ResampleKernel;
  /**
   * `bytes` rounds to whole levels after each of the two passes, as Pillow does; `floats` does not round, as torch does
   * where a processor turns bytes into floats before it resizes.
   *
   * @default {"bytes"}
   */
  readonly arithmetic?: "bytes" | "floats";
}

/** How an image gets its size, before the crop. */
export type ResizeRule =
  /** The shorter side becomes `sizePx`; the longer keeps the aspect, truncated to whole pixels. */
  | Resampling & { readonly mode: "shortestEdge"; readonly sizePx: number }
  /** Both sides are set, whatever the aspect. */
  | Resampling & { readonly mode: "squash"; readonly widthPx: number; readonly heightPx: number }
  /**
   * A grid of exactly `nPatches` square patches of `patchPx` pixels, as many across and down as come closest to the
   * aspect of the image: so the size depends on the image, and the number of patches does not.
   */
  | Resampling & { readonly mode: "patchGrid"; readonly patchPx: number; readonly nPatches: number }
  | { readonly mode: "none" };

/** What is cut from the center of the resized image. */
export interface CropRule {
  /** Width, in pixels. */
  readonly widthPx: number;
  /** Height, in pixels. */
  readonly heightPx: number;
  /**
   * Where the crop lies when the margins cannot be equal. `down`: the margin in front is the smaller one (transformers).
   * `even`: half of the rest is rounded to the even number, so it is the larger one for 3, 7, 11, … pixels
   * (torchvision, and so OpenCLIP, timm and saev). Padding in front is rounded the other way, up and down.
   *
   * @default {"down"}
   */
  readonly rounding?: "down" | "even";
}

/** How pixels become what a model expects: resize, crop the center, then `(byte * rescale - mean) / std`. */
export interface PixelTransform {
  /** How the image gets its size, before the crop. */
  readonly resize: ResizeRule;
  /** Size cut from the center, padded with black where the image is smaller; `undefined` for no crop. */
  readonly crop: CropRule | undefined;
  /** Factor from bytes to the scale of `mean` and `std`, usually 1/255. */
  readonly rescale: number;
  /** Subtracted from each channel, after `rescale`. */
  readonly mean: ChannelTriple;
  /** Divides each channel, after `mean` is subtracted. */
  readonly std: ChannelTriple;
  /** What shows through transparent pixels; to be given to `decodeImage`. */
  readonly background: RgbColor;
}

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
   * How unequal margins of the crop are rounded: see {@linkcode CropRule}.
   *
   * @default {"down"}
   */
  rounding?: "down" | "even";
  /**
   * What shows through transparent pixels.
   *
   * @default {[255, 255, 255]}
   */
  background?: RgbColor;
}

/** The usual transform for a model that comes without a config: shorter side to size, center crop, normalize. */
export function centerCropTransform(sizePx: number, options: CenterCropTransformOptions = {}): PixelTransform {
  const {
    resizePx = sizePx,
    kernel = "bicubic",
    mean = CLIP_MEAN,
    std = CLIP_STD,
    rounding = "down",
    background = [255, 255, 255],
  } = options;
  return {
    resize: { mode: "shortestEdge", sizePx: resizePx, kernel },
    crop: { widthPx: sizePx, heightPx: sizePx, ...(rounding === "down" ? {} : { rounding }) },
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
const BILINEAR = /^(ViT|DINOv3|Siglip2)/;
/** Processors that scale to floats first and resize then. */
const FLOATS = /^DINOv3/;

/**
 * Reads the contents of a `preprocessor_config.json`, parsed. A step that the config does not mention is done if its
 * numbers are there (`crop_size`, `image_mean`), which is what the families' own defaults amount to.
 *
 * @throws {TypeError} If a field is missing or not of its type.
 * @throws {RangeError} If a field has a value outside its range.
 */
export function pixelTransformFromConfig(config: unknown): PixelTransform {
  if (!isRecord(config)) throw new TypeError(`${READING}: it must be an object, current value is ${show(config)}`);
  if (config.max_num_patches !== undefined) {
    throw new TypeError(
      `${READING}: it must give a size in pixels, current processor cuts patches itself (SigLIP 2 NaFlex)`,
    );
  }
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

function resizeFrom(config: Config, processor: string): ResizeRule {
  const code = config.resample ?? (BILINEAR.test(processor) ? 2 : 3);
  const kernel = KERNEL_BY_CODE[code as number];
  if (kernel === undefined) {
    const allowed = Object.entries(KERNEL_BY_CODE).map(([number, name]) => `${number} (${name})`).join(", ");
    throw new RangeError(`${READING}: resample must be one of ${allowed}, current value is ${show(code)}`);
  }
  const resampling: Resampling = FLOATS.test(processor) ? { kernel, arithmetic: "floats" } : { kernel };
  const { size } = config;
  if (typeof size === "number") {
    const sizePx = pixels(size, "size");
    return SQUARE_SIZE.test(processor)
      ? { mode: "squash", widthPx: sizePx, heightPx: sizePx, ...resampling }
      : { mode: "shortestEdge", sizePx, ...resampling };
  }
  if (isRecord(size) && size.shortest_edge !== undefined && size.longest_edge === undefined) {
    return { mode: "shortestEdge", sizePx: pixels(size.shortest_edge, "size.shortest_edge"), ...resampling };
  }
  if (isRecord(size) && size.height !== undefined) {
    return {
      mode: "squash",
      widthPx: pixels(size.width, "size.width"),
      heightPx: pixels(size.height, "size.height"),
      ...resampling,
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
