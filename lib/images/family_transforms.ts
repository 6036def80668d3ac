/**
 * The pixels of each model family, as data: what its own processor does, and, where an SAE was trained on other pixels,
 * what that training did. An SAE reads the pixels that it was trained on; a pixel's shift in the crop is a different
 * patch.
 * Based on the processors of transformers, OpenCLIP, timm and torchvision, and on saev's recording code:
 * https://github.com/OSU-NLP-Group/saev
 *
 * @module
 */
import type { ResampleKernel } from "./resample.ts";
import { type ChannelTriple, HALF, IMAGENET_MEAN, IMAGENET_STD } from "./channels.ts";
import { centerCropTransform, type PixelTransform } from "./transform.ts";

/** ImageNet's statistics, and the crop of torchvision. */
const torchvisionStyle = { mean: IMAGENET_MEAN, std: IMAGENET_STD, rounding: "even" } as const;

/** Options of {@linkcode squashTransform}. */
export interface SquashTransformOptions {
  /**
   * How pixels are weighed when resizing.
   *
   * @default {"bicubic"}
   */
  kernel?: ResampleKernel;
  /**
   * Channel means.
   *
   * @default {HALF}
   */
  mean?: ChannelTriple;
  /**
   * Channel standard deviations.
   *
   * @default {HALF}
   */
  std?: ChannelTriple;
}

/** Both sides to `sizePx`, whatever the aspect, without a crop: SigLIP, the first ViT, PE. */
export function squashTransform(sizePx: number, options: SquashTransformOptions = {}): PixelTransform {
  const { kernel = "bicubic", mean = HALF, std = HALF } = options;
  return {
    resize: { mode: "squash", widthPx: sizePx, heightPx: sizePx, kernel },
    crop: undefined,
    rescale: 1 / 255,
    mean,
    std,
    background: [255, 255, 255],
  };
}

/** Options of {@linkcode patchGridTransform}. */
export interface PatchGridTransformOptions {
  /**
   * Edge of a patch, in pixels.
   *
   * @default {16}
   */
  patchPx?: number;
}

/**
 * As saev records DINOv3 (its `FlexResize`): a grid of exactly `nPatches` patches in the image's own aspect, resized
 * with Lanczos, ImageNet's statistics. 640 patches give grids from 1 × 640 over 20 × 32 to 640 × 1.
 */
export function patchGridTransform(nPatches: number, options: PatchGridTransformOptions = {}): PixelTransform {
  const { patchPx = 16 } = options;
  return {
    resize: { mode: "patchGrid", patchPx, nPatches, kernel: "lanczos" },
    crop: undefined,
    rescale: 1 / 255,
    mean: IMAGENET_MEAN,
    std: IMAGENET_STD,
    background: [255, 255, 255],
  };
}

/** Both sides to 256, whatever the aspect, then the center 224, with ImageNet's statistics. */
function squashAndCrop(kernel: ResampleKernel, rounding: "down" | "even"): PixelTransform {
  const cropped = centerCropTransform(224, { mean: IMAGENET_MEAN, std: IMAGENET_STD, rounding });
  return { ...cropped, resize: { mode: "squash", widthPx: 256, heightPx: 256, kernel } };
}

/**
 * Pixels by family, at the size of the family's usual checkpoint. The `preprocessor_config.json` of a model, where there
 * is one, knows better; these are for models that come without, and for SAEs trained on other pixels.
 */
export const familyTransforms: Readonly<Record<string, PixelTransform>> = {
  /** OpenAI's CLIP by transformers: 224 shortest side, bicubic. */
  clip: centerCropTransform(224),
  /**
   * OpenCLIP's evaluation transform, for OpenAI's and LAION's weights alike; saev's CLIP SAEs were trained on it. One
   * checkpoint, `ViT-L-14/laion2b_s32b_b82k`, takes `HALF` as mean and standard deviation instead.
   */
  openClip: centerCropTransform(224, { rounding: "even" }),
  /** SigLIP: 224 × 224 whatever the aspect, bicubic, -1…1. OpenCLIP does the same. */
  siglip: squashTransform(224),
  /** SigLIP 2 at a fixed size by transformers: bilinear. OpenCLIP's own stays bicubic, as `siglip`. */
  siglip2: squashTransform(224, { kernel: "bilinear" }),
  /** DINOv2 by transformers: shortest side 256, bicubic, crop 224. */
  dinov2: centerCropTransform(224, { resizePx: 256, mean: IMAGENET_MEAN, std: IMAGENET_STD }),
  /** What saev recorded DINOv2 with at first: shortest side 256, bilinear, crop 224. */
  dinov2Saev2024: centerCropTransform(224, { resizePx: 256, kernel: "bilinear", ...torchvisionStyle }),
  /** What saev records DINOv2 with since: 256 × 256 whatever the aspect, bilinear, crop 224. */
  dinov2Saev2025: squashAndCrop("bilinear", "even"),
  /** DINOv3 by transformers: 224 × 224, bilinear, on floats. */
  dinov3: {
    ...squashTransform(224, { mean: IMAGENET_MEAN, std: IMAGENET_STD }),
    resize: { mode: "squash", widthPx: 224, heightPx: 224, kernel: "bilinear", arithmetic: "floats" },
  },
  /** What saev records DINOv3 with: 640 patches of 16 pixels in the image's own aspect, Lanczos. */
  dinov3Flex: patchGridTransform(640),
  /** The first ViT by transformers: 224 × 224, bilinear, -1…1. */
  vit: squashTransform(224, { kernel: "bilinear" }),
  /** ViTs of timm with the usual crop of 0.9: shortest side 248, bicubic, crop 224, -1…1. */
  timm: centerCropTransform(224, { resizePx: 248, mean: HALF, std: HALF, rounding: "even" }),
  /** `ViT_B_16_Weights.IMAGENET1K_V1` and its like: shortest side 256, bilinear, crop 224. */
  torchvision: centerCropTransform(224, { resizePx: 256, kernel: "bilinear", ...torchvisionStyle }),
  /** DeiT by transformers: 256 × 256 whatever the aspect, bicubic, crop 224. */
  deit: squashAndCrop("bicubic", "down"),
};
