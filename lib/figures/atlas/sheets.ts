/**
 * Sprite sheets: many crops in one WebP file, so that an atlas of ten thousand images has a few hundred files. Images
 * are in the order in which latents first show them, so that a page needs few sheets. Each image is stored twice, as
 * shown on the page of a latent and at half that size for the table.
 *
 * @module
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import type { RgbImage } from "../../images/decode.ts";
import { paste, resizeTo } from "../grid.ts";

/** Crops in a row and in a column of a sheet. */
export const CROPS_PER_SIDE = 8;

/** Thumbnails in a row and in a column of a sheet. */
export const THUMBS_PER_SIDE = 16;

/** Options of {@linkcode writeSheets}. */
export interface WriteSheetsOptions {
  /** An image's crop. Asked for once for each image, eight at a time. */
  crop: (imageIndex: number) => Promise<RgbImage>;
  /** Folder to write to; must exist. */
  directory: string;
  /** Side of a crop in pixels; even. */
  cropPx: number;
  /** Called after each image. */
  onImage?: () => void;
  signal?: AbortSignal;
}

/** Write all images, in order, into `crops-0000.webp`, … and `thumbs-0000.webp`, …; memory holds two sheets and 16 crops. */
export async function writeSheets(imageIndices: Iterable<number>, options: WriteSheetsOptions): Promise<void> {
  const { crop, directory, cropPx, onImage, signal } = options;
  const crops = new Sheet("crops", CROPS_PER_SIDE, cropPx, directory);
  const thumbs = new Sheet("thumbs", THUMBS_PER_SIDE, cropPx / 2, directory);
  const groups = groupsOf(imageIndices, CROPS_PER_SIDE);
  const loadNext = () => {
    const { done, value } = groups.next();
    if (done) return undefined;
    const squares = Promise.all(value.map(async (imageIndex) => resizeTo(await crop(imageIndex), cropPx)));
    // A failure is thrown where it is awaited, in its turn.
    squares.catch(() => {});
    return squares;
  };
  // The next images are decoded while a sheet is encoded.
  for (let next = loadNext(); next !== undefined;) {
    signal?.throwIfAborted();
    const squares: Uint8Array[] = await next;
    next = loadNext();
    for (const square of squares) {
      await crops.add(square);
      await thumbs.add(halve(square, cropPx));
      onImage?.();
    }
  }
  await crops.close();
  await thumbs.close();
}

/** File and place of the crop or thumbnail at `slot`, as CSS for an element of any size. */
export function spriteStyle(kind: "crops" | "thumbs", slot: number, root: string): string {
  const perSide = kind === "crops" ? CROPS_PER_SIDE : THUMBS_PER_SIDE;
  const cell = slot % (perSide * perSide);
  const percent = (i: number) => `${Math.round(i / (perSide - 1) * 1e4) / 100}%`;
  return `background-image:url(${root}sheets/${sheetName(kind, Math.floor(slot / perSide ** 2))});` +
    `background-position:${percent(cell % perSide)} ${percent(Math.floor(cell / perSide))}`;
}

function sheetName(kind: "crops" | "thumbs", index: number): string {
  return `${kind}-${String(index).padStart(4, "0")}.webp`;
}

/** A sheet that fills up; when it is full, it is written, and the next one begins. */
class Sheet {
  #canvas: RgbImage;
  #nCells = 0;
  #nSheets = 0;
  #kind: "crops" | "thumbs";
  #perSide: number;
  #cellPx: number;
  #directory: string;

  constructor(kind: "crops" | "thumbs", perSide: number, cellPx: number, directory: string) {
    const sidePx = perSide * cellPx;
    this.#canvas = { width: sidePx, height: sidePx, data: new Uint8Array(3 * sidePx * sidePx).fill(255) };
    this.#kind = kind;
    this.#perSide = perSide;
    this.#cellPx = cellPx;
    this.#directory = directory;
  }

  async add(rgb: Uint8Array): Promise<void> {
    const row = Math.floor(this.#nCells / this.#perSide);
    paste(this.#canvas, rgb, this.#cellPx, (this.#nCells % this.#perSide) * this.#cellPx, row * this.#cellPx);
    this.#nCells++;
    if (this.#nCells === this.#perSide ** 2) await this.close();
  }

  async close(): Promise<void> {
    if (this.#nCells === 0) return;
    const { width, height, data } = this.#canvas;
    // Lower efforts write files twice the size, higher ones take twice the time.
    const webp = await sharp(data, { raw: { width, height, channels: 3 } }).webp({ quality: 82, effort: 2 }).toBuffer();
    await writeFile(join(this.#directory, sheetName(this.#kind, this.#nSheets)), webp);
    this.#nSheets++;
    this.#nCells = 0;
    data.fill(255);
  }
}

/** Half the size, each pixel the mean of four: unlike resizing a whole sheet, it mixes no neighbors. */
function halve(rgb: Uint8Array, sizePx: number): Uint8Array {
  const half = sizePx / 2;
  const small = new Uint8Array(3 * half * half);
  for (let y = 0; y < half; y++) {
    for (let x = 0; x < half; x++) {
      for (let c = 0; c < 3; c++) {
        const at = 3 * (2 * y * sizePx + 2 * x) + c;
        const sum = rgb[at] + rgb[at + 3] + rgb[at + 3 * sizePx] + rgb[at + 3 * sizePx + 3];
        small[3 * (y * half + x) + c] = (sum + 2) >> 2;
      }
    }
  }
  return small;
}

function* groupsOf<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let group: T[] = [];
  for (const item of items) {
    group.push(item);
    if (group.length === size) {
      yield group;
      group = [];
    }
  }
  if (group.length > 0) yield group;
}
