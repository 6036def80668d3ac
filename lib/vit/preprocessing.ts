/**
 * Brings together the pixels that a graph takes and those that preprocessing gives.
 *
 * @module
 */
import { outputSize, type PixelSize } from "../images/pixels.ts";
import { centerCropTransform, type PixelTransform } from "../images/transform.ts";
import type { VitFamily } from "./families.ts";
import type { VitGraph } from "./graph.ts";

/** What is known about a ViT's pixels. */
export interface KnownPixels {
  /** Size asked for. */
  readonly imageSize: PixelSize | undefined;
  /** Transform asked for. */
  readonly asked: PixelTransform | undefined;
  /** Transform that came with the model. */
  readonly configured: PixelTransform | undefined;
  readonly family: VitFamily | undefined;
}

const usualSize: PixelSize = { heightPx: 224, widthPx: 224 };

/**
 * Size of the pixels of a ViT: as asked for, as its graph is fixed to, as preprocessing gives, or as `config.json` says.
 *
 * @param configured Size in `config.json`.
 * @throws {RangeError} If the graph is fixed to another size.
 */
export function chooseSize(
  path: string,
  { input, patch }: VitGraph,
  { known, configured }: { known: KnownPixels; configured: PixelSize | undefined },
): PixelSize {
  const transform = known.asked ?? known.configured;
  const size = known.imageSize ?? input.size ?? (transform && outputSize(usualSize, transform)) ?? configured ??
    (known.family ? outputSize(usualSize, known.family.transform) : usualSize);
  const { heightPx, widthPx } = size;
  const isWhole = Number.isInteger(heightPx) && Number.isInteger(widthPx);
  if (!isWhole || heightPx < patch.patchHeight || widthPx < patch.patchWidth) {
    throw new RangeError(
      `Cannot open ViT ${path}: imageSize must be whole pixels and at least a patch of ${patch.patchWidth} × ` +
        `${patch.patchHeight}, current value is ${widthPx} × ${heightPx}`,
    );
  }
  if (input.size && (input.size.heightPx !== heightPx || input.size.widthPx !== widthPx)) {
    throw new RangeError(
      `Cannot open ViT ${path}: imageSize must be ${input.size.widthPx} × ${input.size.heightPx}, as the graph is ` +
        `fixed to it, current value is ${widthPx} × ${heightPx}`,
    );
  }
  return { heightPx, widthPx };
}

/**
 * Transform that gives the chosen size.
 *
 * @throws {RangeError} If the one asked for, or the one that came with the model, gives another.
 */
export function chooseTransform(path: string, size: PixelSize, known: KnownPixels): PixelTransform {
  const { asked, configured, family, imageSize } = known;
  if (asked === undefined && configured === undefined) {
    return fitTransform(family?.transform ?? centerCropTransform(224), size);
  }
  // What was asked for is not changed.
  const transform = asked ?? (imageSize ? fitTransform(configured!, size) : configured!);
  const given = outputSize(size, transform);
  if (given.heightPx === size.heightPx && given.widthPx === size.widthPx) return transform;
  throw new RangeError(
    `Cannot open ViT ${path}: preprocessing must give ${size.widthPx} × ${size.heightPx} pixels, it gives ` +
      `${given.widthPx} × ${given.heightPx}`,
  );
}

/**
 * The same transform for images of another size: what the crop leaves out stays the same share.
 *
 * @throws {RangeError} If the transform chooses a size by itself.
 */
function fitTransform(transform: PixelTransform, size: PixelSize): PixelTransform {
  const { resize, crop } = transform;
  if (resize.mode === "none") return crop === undefined ? transform : { ...transform, crop: { ...crop, ...size } };
  if (resize.mode === "patchGrid") {
    throw new RangeError(
      "Cannot fit preprocessing: its resize mode must be shortestEdge, squash or none, current value is patchGrid",
    );
  }
  const longest = Math.max(size.heightPx, size.widthPx);
  if (resize.mode === "squash") {
    const whole = crop ?? resize;
    const heightPx = Math.round(resize.heightPx * size.heightPx / whole.heightPx);
    const widthPx = Math.round(resize.widthPx * size.widthPx / whole.widthPx);
    return { ...transform, resize: { ...resize, heightPx, widthPx }, crop: crop && { ...crop, ...size } };
  }
  const sizePx = crop === undefined
    ? longest
    : Math.round(resize.sizePx * longest / Math.max(crop.heightPx, crop.widthPx));
  return { ...transform, resize: { ...resize, sizePx }, crop: { ...crop, ...size } };
}
