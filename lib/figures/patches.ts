/**
 * A picture cut along a ViT's patch grid, so that one can see what each token starts from.
 *
 * @module
 */
import type { RgbImage } from "../images/decode.ts";

/** Options of {@linkcode cutPatches}; a `Vit` has both. */
export interface CutPatchesOptions {
  /** Patches in a row. */
  gridWidth: number;
  /** Patches in a column. */
  gridHeight: number;
}

/**
 * Cuts a picture into its patches, row by row: patch `row * gridWidth + column` is the one at that row and column.
 *
 * @returns Copies, each of `width / gridWidth` by `height / gridHeight` pixels.
 * @throws {RangeError} If the grid does not divide the picture.
 *
 * @example
 * ```ts ignore
 * const tiles = cutPatches(cropForDisplay(image, vit.transform, { scale: 4 }), vit);
 * await show(await imageGrid(tiles.map((image) => ({ image })), { columns: vit.gridWidth, cellPx: 32, gapPx: 3 }));
 * ```
 */
export function cutPatches(image: RgbImage, options: CutPatchesOptions): RgbImage[] {
  const { gridWidth, gridHeight } = options;
  const width = image.width / gridWidth;
  const height = image.height / gridHeight;
  for (const [name, grid, length] of [["gridWidth", gridWidth, width], ["gridHeight", gridHeight, height]] as const) {
    if (!Number.isInteger(grid) || !Number.isInteger(length) || grid < 1) {
      throw new RangeError(
        `Cannot cut patches: ${name} must divide a picture of ${image.width} × ${image.height} pixels, current value ` +
          `is ${grid}`,
      );
    }
  }
  return Array.from({ length: gridHeight * gridWidth }, (_, patch) => {
    const left = (patch % gridWidth) * width;
    const top = Math.floor(patch / gridWidth) * height;
    const data = new Uint8Array(3 * width * height);
    for (let y = 0; y < height; y++) {
      const start = 3 * ((top + y) * image.width + left);
      data.set(image.data.subarray(start, start + 3 * width), 3 * y * width);
    }
    return { width, height, data };
  });
}
