/**
 * Puts a recording, an SAE and a summary together with the images themselves, so that latents can be looked at: crops
 * that line up with the patch grid, grids of top images with heat maps, and the atlas.
 *
 * @module
 */
import type { Backend } from "../compute/contract.ts";
import { readImage, type RgbImage } from "../images/decode.ts";
import { cropForDisplay, outputSize } from "../images/pixels.ts";
import type { ImageSource } from "../images/source.ts";
import type { PixelTransform } from "../images/transform.ts";
import { describeRule, type Sae } from "../sae/sae.ts";
import type { Shards } from "../shards/read.ts";
import { collectHeatmaps, type Heatmaps, type LatentOnImage } from "../summary/heatmaps.ts";
import type { Summary } from "../summary/summary.ts";
import { writeAtlas, type WriteAtlasOptions, type WrittenAtlas } from "./atlas/atlas.ts";
import { checkReplaceable } from "./atlas/replace_folder.ts";
import { formatCount, formatValue } from "./format.ts";
import { imageGrid, type ImageGridOptions } from "./grid.ts";

/** What a gallery is made of. All of it must belong together. */
export interface GalleryParts {
  readonly images: ImageSource;
  readonly shards: Shards;
  readonly sae: Sae;
  readonly summary: Summary;
  readonly backend: Backend;
}

/** Options of {@linkcode Gallery.latentGrid}. */
export interface LatentGridOptions extends Omit<ImageGridOptions, "gridWidth"> {
  /**
   * Number of images.
   *
   * @default {12}
   */
  count?: number;
  /**
   * Whether to write the image's name and value below it.
   *
   * @default {true}
   */
  captions?: boolean;
}

/** Options of {@linkcode Gallery.writeAtlas}. */
export interface GalleryAtlasOptions
  extends Pick<WriteAtlasOptions, "out" | "title" | "latents" | "imagesPerPage" | "onProgress" | "signal"> {
  /**
   * Facts for the first page, added to those that the recording knows.
   *
   * @default {{}}
   */
  facts?: Readonly<Record<string, string | number>>;
  /** Called while heat maps are collected. */
  onHeatmapProgress?: (done: number, total: number) => void;
}

/** A way to look at latents. */
export interface Gallery {
  /** What the model sees of an image, at 128 pixels or more a side. */
  crop(imageIndex: number): Promise<RgbImage>;
  /** Heat maps of some latents on some images. */
  heatmaps(wanted: Iterable<LatentOnImage>): Promise<Heatmaps>;
  /** The top images of a latent, each with its heat map. */
  latentGrid(latent: number, options?: LatentGridOptions): Promise<RgbImage>;
  /** Writes the atlas of the recording. */
  writeAtlas(options: GalleryAtlasOptions): Promise<WrittenAtlas>;
}

const DISPLAY_PX = 128;

/**
 * Opens a gallery.
 *
 * @throws {Error} If the images are not those that were recorded.
 */
export function openGallery(parts: GalleryParts): Gallery {
  const { images, shards, sae, summary, backend } = parts;
  const { metadata } = shards;
  if (images.fingerprint !== metadata.dataset.fingerprint) {
    throw new Error(
      `Cannot show ${images.location}: the images must be those that were recorded, they have changed since or are others`,
    );
  }
  const { layer } = summary.source;
  const transform = metadata.transform as unknown as PixelTransform;

  const crop = async (imageIndex: number) => {
    const image = await readImage(images, imageIndex, { background: transform.background });
    const { widthPx, heightPx } = outputSize({ widthPx: image.width, heightPx: image.height }, transform);
    return cropForDisplay(image, transform, { scale: Math.ceil(DISPLAY_PX / Math.min(widthPx, heightPx)) });
  };
  const heatmaps = (
    wanted: Iterable<LatentOnImage>,
    options: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void } = {},
  ) => collectHeatmaps(shards, sae, { backend, layer, wanted, ...options });

  return {
    crop,
    heatmaps: (wanted) => heatmaps(wanted),
    async latentGrid(latent, options = {}) {
      const { count = 12, captions = true, ...gridOptions } = options;
      const topImages = summary.latent(latent).topImages.slice(0, count);
      const heat = await heatmaps(topImages.map(({ imageIndex }) => ({ latent, imageIndex })));
      const cells = await Promise.all(topImages.map(async ({ imageIndex, value }) => ({
        image: await crop(imageIndex),
        heat: heat(latent, imageIndex),
        caption: captions ? `${formatValue(value)} ${images.info(imageIndex).name}` : undefined,
      })));
      return await imageGrid(cells, { gridWidth: metadata.grid_width, ...gridOptions });
    },
    async writeAtlas({ onHeatmapProgress, facts = {}, imagesPerPage = 12, ...options }) {
      const latents = [...options.latents ?? Array(summary.dSae).keys()]
        .filter((latent) => summary.latent(latent).nActive > 0);
      // Heat maps may take long: a folder that cannot be written to should be known before.
      await checkReplaceable(options.out);
      const heat = await heatmaps(
        latents.flatMap((latent) =>
          summary.latent(latent).topImages.slice(0, imagesPerPage).map(({ imageIndex }) => ({ latent, imageIndex }))
        ),
        { signal: options.signal, onProgress: onHeatmapProgress },
      );
      return await writeAtlas({
        summary,
        info: (imageIndex) => images.info(imageIndex),
        crop,
        heat,
        imagesPerPage,
        ...options,
        latents,
        facts: {
          // Many towers are called model.onnx: their folder tells them apart.
          Model: metadata.model.path.split(/[\\/]/).slice(-2).join("/"),
          Layer: layer,
          Dictionary: `${describeRule(sae.rule)}, ${formatCount(sae.dSae)} × ${formatCount(sae.dModel)}`,
          Images: summary.nImages,
          Tokens: summary.nTokens,
          ...facts,
        },
      });
    },
  };
}
