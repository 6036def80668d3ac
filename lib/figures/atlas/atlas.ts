/**
 * A folder of web pages about all latents of a dictionary, to open from disk, send by mail, or put on any web server:
 * one page with a table and plots, and one page for each latent. Nothing is fetched, so it works without a server.
 *
 * @module
 */
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RgbImage } from "../../images/decode.ts";
import type { LatentSummary, Summary } from "../../summary/summary.ts";
import { type Colormap, colormapTable } from "../colormap.ts";
import { indexData, indexPage, type IndexRow } from "./index_page.ts";
import { latentPage } from "./latent_page.ts";
import { replaceFolder } from "./replace_folder.ts";
import { atlasJs } from "./script.ts";
import { writeSheets } from "./sheets.ts";
import { styleCss } from "./style.ts";
import { tallyLabels } from "./tally.ts";

/** Options of {@linkcode writeAtlas}. */
export interface WriteAtlasOptions {
  /** Statistics and top images of the latents. */
  summary: Summary;
  /** Name and label of an image, such as `(i) => source.info(i)`. */
  info: (imageIndex: number) => { readonly name: string; readonly label?: string };
  /** What to show of an image: the square that the patch grid lies on. Asked for once for each image. */
  crop: (imageIndex: number) => Promise<RgbImage>;
  /** Folder to write; made or, if it is an atlas, replaced in one step when all is ready. */
  out: string;
  /**
   * Activation of a latent on each patch of one of its top images, shape [nPatches], row-major in the patch grid of the
   * summary; `undefined` where it is not known. `collectHeatmaps()` makes one. By default pages have no heat maps.
   */
  heat?: (latent: number, imageIndex: number) => ArrayLike<number> | undefined;
  /** Heading of the first page. @default {"Latent atlas"} */
  title?: string;
  /** Facts for the first page, such as `{ Model: "CLIP ViT-B/16", Layer: 10, "Explained variance": 0.82 }`. @default {{}} */
  facts?: Readonly<Record<string, string | number>>;
  /** Latents that get a page. By default all that were ever active. */
  latents?: Iterable<number>;
  /** Top images on the page of a latent, at most. @default {12} */
  imagesPerPage?: number;
  /** Side of the stored crops in pixels; even. @default {128} */
  cropPx?: number;
  /** Colors of the heat maps. @default {"plasma"} */
  colormap?: Colormap;
  /** Called after each image and each page. */
  onProgress?: (done: number, total: number) => void;
  /** Stops the work; nothing is left behind. */
  signal?: AbortSignal;
}

/** What was written. */
export interface WrittenAtlas {
  /** The page to open first. */
  readonly indexPath: string;
  /** Latents that got a page. */
  readonly nPages: number;
  /** Distinct images shown. */
  readonly nImages: number;
}

const THUMBS_PER_ROW = 4;

/**
 * Write the atlas. Memory holds a page and two sprite sheets at a time, whatever the number of latents.
 *
 * @throws {RangeError} If an option is out of range, a latent in `latents` does not exist, or a heat map has another
 * size than the patch grid.
 * @throws {Error} If `out` exists and is not an atlas.
 */
export async function writeAtlas(options: WriteAtlasOptions): Promise<WrittenAtlas> {
  const { summary, info, crop, out, heat, title = "Latent atlas", facts = {}, signal, onProgress } = options;
  const { imagesPerPage = 12, cropPx = 128, colormap = "plasma" } = options;
  const { gridWidth, gridHeight } = summary.source;
  checkOptions(imagesPerPage, cropPx);
  const gradient = cssGradient(colormap);
  const latents = options.latents === undefined
    ? activeLatents(summary)
    : [...new Set(options.latents)].sort((a, b) => a - b);
  for (const latent of latents) {
    if (!Number.isInteger(latent) || latent < 0 || latent >= summary.dSae) {
      throw new RangeError(
        `Cannot write atlas: latents must be between 0 and ${summary.dSae - 1}, current value is ${latent}`,
      );
    }
  }
  const withPage = new Set(latents);
  const pageNameLetters = Math.max(4, String(summary.dSae - 1).length);
  const pageName = (latent: number) => `${String(latent).padStart(pageNameLetters, "0")}.html`;

  // Images get their places in the sprite sheets in the order in which pages show them.
  const slots = new Map<number, number>();
  for (const latent of latents) {
    for (const { imageIndex } of summary.latent(latent).topImages.slice(0, imagesPerPage)) {
      if (!slots.has(imageIndex)) slots.set(imageIndex, slots.size);
    }
  }
  const total = slots.size + latents.length + 1;
  let done = 0;
  const step = () => onProgress?.(++done, total);

  await replaceFolder(out, async (folder) => {
    await mkdir(join(folder, "sheets"));
    await mkdir(join(folder, "latents"));
    await writeFile(join(folder, "style.css"), styleCss);
    await writeFile(join(folder, "atlas.js"), atlasJs);
    await writeSheets(slots.keys(), { crop, directory: join(folder, "sheets"), cropPx, onImage: step, signal });
    for (const [i, latent] of latents.entries()) {
      signal?.throwIfAborted();
      const text = latentPage(summary.latent(latent), {
        title,
        previous: i > 0 ? pageName(latents[i - 1]) : undefined,
        next: i + 1 < latents.length ? pageName(latents[i + 1]) : undefined,
        nImages: imagesPerPage,
        info,
        slot: (imageIndex) => slots.get(imageIndex)!,
        heat,
        gridWidth,
        gridHeight,
        colormap,
        gradient,
      });
      await writeFile(join(folder, "latents", pageName(latent)), text);
      step();
    }
    const row = (latent: LatentSummary): IndexRow => {
      const top = latent.topImages.slice(0, imagesPerPage);
      return {
        latent,
        slots: top.slice(0, THUMBS_PER_ROW).map(({ imageIndex }) => slots.get(imageIndex)!),
        topLabel: tallyLabels(top.map(({ imageIndex }) => info(imageIndex).label))[0],
      };
    };
    const rows = (function* () {
      for (const latent of latents) yield row(summary.latent(latent));
    })();
    await writePieces(join(folder, "data.js"), indexData(rows, { pageNameLetters, dSae: summary.dSae }));
    signal?.throwIfAborted();
    const nAlive = options.latents === undefined ? latents.length : activeLatents(summary).length;
    const href = (latent: number) => withPage.has(latent) ? `latents/${pageName(latent)}` : undefined;
    await writeFile(join(folder, "index.html"), indexPage(summary, { title, facts, nAlive, href }));
    step();
  });
  return { indexPath: join(out, "index.html"), nPages: latents.length, nImages: slots.size };
}

function activeLatents(summary: Summary): number[] {
  return Array.from({ length: summary.dSae }, (_, latent) => latent)
    .filter((latent) => summary.latent(latent).nActive > 0);
}

function checkOptions(imagesPerPage: number, cropPx: number): void {
  if (!Number.isInteger(imagesPerPage) || imagesPerPage < 1) {
    throw new RangeError(
      `Cannot write atlas: imagesPerPage must be a positive integer, current value is ${imagesPerPage}`,
    );
  }
  if (!Number.isInteger(cropPx / 2) || cropPx < 16) {
    throw new RangeError(
      `Cannot write atlas: cropPx must be an even integer of at least 16, current value is ${cropPx}`,
    );
  }
}

/** The colormap as the heat maps show it on white: fading in from nothing. */
function cssGradient(colormap: Colormap): string {
  const table = colormapTable(colormap);
  const stops = [0, 32, 64, 96, 128, 160, 192, 224, 255].map((i) =>
    `rgb(${table.subarray(3 * i, 3 * i + 3).join(" ")}/${Math.round(i / 2.55)}%)`
  );
  return `linear-gradient(90deg,${stops.join(",")})`;
}

async function writePieces(path: string, pieces: Iterable<string>): Promise<void> {
  const stream = createWriteStream(path);
  const finished = once(stream, "finish");
  for (const piece of pieces) {
    if (!stream.write(piece)) await Promise.race([once(stream, "drain"), finished]);
  }
  stream.end();
  await finished;
}
