/**
 * Means and deviations of color channels that model families normalize with.
 *
 * @module
 */

/** One number per color channel: red, green, blue. */
export type ChannelTriple = readonly [red: number, green: number, blue: number];

/** Channel means of the images that OpenAI's CLIP was trained on. */
export const CLIP_MEAN: ChannelTriple = [0.48145466, 0.4578275, 0.40821073];
/** Channel standard deviations of the images that OpenAI's CLIP was trained on. */
export const CLIP_STD: ChannelTriple = [0.26862954, 0.26130258, 0.27577711];
/** Channel means of ImageNet: DINO, DINOv2, torchvision. */
export const IMAGENET_MEAN: ChannelTriple = [0.485, 0.456, 0.406];
/** Channel standard deviations of ImageNet: DINO, DINOv2, torchvision. */
export const IMAGENET_STD: ChannelTriple = [0.229, 0.224, 0.225];
/** Mean and standard deviation that take bytes to -1…1: SigLIP, the first ViT. */
export const HALF: ChannelTriple = [0.5, 0.5, 0.5];
