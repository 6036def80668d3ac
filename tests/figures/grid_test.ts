import assert from "node:assert/strict";
import { colormaps, colormapTable } from "../../lib/figures/colormap.ts";
import { imageGrid } from "../../lib/figures/grid.ts";
import { enlargeHeat, heatmapRgba } from "../../lib/figures/heatmap.ts";
import type { RgbImage } from "../../lib/images/decode.ts";

const plain = (size: number, color: [number, number, number]): RgbImage => ({
  width: size,
  height: size,
  data: Uint8Array.from({ length: 3 * size * size }, (_, i) => color[i % 3]),
});

const pixel = (
  { width, data }: RgbImage,
  x: number,
  y: number,
) => [...data.subarray(3 * (y * width + x)).subarray(0, 3)];

Deno.test("colormapTable() runs from the first to the last color of plasma", () => {
  const table = colormapTable("plasma");
  assert.deepEqual([...table.subarray(0, 3)], [0x0d, 0x08, 0x87]);
  assert.deepEqual([...table.subarray(-3)], [0xf0, 0xf9, 0x21]);
  for (const name of colormaps) assert.equal(colormapTable(name).length, 768);
  // The single hues go from pale to dark.
  const reds = colormapTable("reds");
  assert.ok(reds[0] > 240 && reds[2] > 200 && reds[765] < 120 && reds[767] < 30);
});

Deno.test("colormapTable() lists the names it knows", () => {
  assert.throws(() => colormapTable("jet" as "plasma"), {
    name: "RangeError",
    message: 'Cannot find colormap: name must be one of plasma, viridis, reds, blues, current value is "jet"',
  });
});

Deno.test("heatmapRgba() colors by value and fades with it; zero, negative and NaN are invisible", () => {
  const values = [4, 2, 0, -3, NaN, 1];
  const rgba = heatmapRgba(values, { gridWidth: 3, gridHeight: 2, opacity: 0.5 });
  const table = colormapTable("plasma");
  const color = (step: number) => [...table.subarray(3 * step, 3 * step + 3)];
  assert.deepEqual([...rgba], [
    ...color(255),
    127,
    ...color(128),
    63,
    ...[0, 0, 0, 0],
    ...[0, 0, 0, 0],
    ...[0, 0, 0, 0],
    ...color(64),
    31,
  ]);
  assert.deepEqual(values, [4, 2, 0, -3, NaN, 1]);
});

Deno.test("heatmapRgba() gives values above upper the strongest color, and nothing if all are silent", () => {
  const rgba = heatmapRgba([8, Infinity], { gridWidth: 2, gridHeight: 1, upper: 4, opacity: 1 });
  assert.deepEqual([...rgba], [0xf0, 0xf9, 0x21, 255, 0xf0, 0xf9, 0x21, 255]);
  assert.deepEqual([...heatmapRgba([0, -1], { gridWidth: 2, gridHeight: 1 })], [0, 0, 0, 0, 0, 0, 0, 0]);
});

Deno.test("heatmapRgba() refuses values that do not fit the grid", () => {
  assert.throws(() => heatmapRgba([1, 2, 3], { gridWidth: 2, gridHeight: 2 }), {
    name: "RangeError",
    message: "Cannot draw heat map: there must be 2 x 2 values, current number is 3",
  });
  assert.throws(() => heatmapRgba([1], { gridWidth: 1, gridHeight: 1, opacity: 2 }), RangeError);
});

Deno.test("enlargeHeat() draws blocks, or blends between the middles of patches", () => {
  const size = { gridWidth: 2, gridHeight: 1, sizePx: 4 };
  assert.deepEqual([...enlargeHeat([0, 4], size)].slice(0, 4), [0, 0, 4, 4]);
  assert.deepEqual([...enlargeHeat([0, 4], { ...size, smooth: true })].slice(0, 4), [0, 1, 3, 4]);
  assert.deepEqual([...enlargeHeat([-8, 4], { ...size, smooth: true })].slice(0, 4), [0, 1, 3, 4]);
});

Deno.test("imageGrid() lays cells out in rows and blends heat on the shared scale", async () => {
  const white = plain(20, [255, 255, 255]);
  const cells = [
    { image: plain(20, [10, 20, 30]) },
    { image: white, heat: [0, 8, 0, 0] },
    { image: white, heat: [4, 0, 0, 0] },
  ];
  const grid = await imageGrid(cells, { columns: 2, cellPx: 20, gapPx: 5, opacity: 1 });
  assert.deepEqual([grid.width, grid.height], [55, 55]);
  assert.deepEqual(pixel(grid, 0, 0), [255, 255, 255]);
  assert.deepEqual(pixel(grid, 5, 5), [10, 20, 30]);
  // Cell 1, upper right patch: the strongest color, opaque.
  assert.deepEqual(pixel(grid, 30 + 15, 5 + 5), [0xf0, 0xf9, 0x21]);
  assert.deepEqual(pixel(grid, 30 + 5, 5 + 5), [255, 255, 255]);
  // Cell 2, half the largest value of all cells: color of step 128, alpha 127.
  const step = [...colormapTable("plasma").subarray(3 * 128, 3 * 129)];
  assert.deepEqual(pixel(grid, 5 + 5, 30 + 5), step.map((c) => Math.round(c * 127 / 255 + 255 * 128 / 255)));
  assert.deepEqual([...white.data], [...plain(20, [255, 255, 255]).data]);
});

Deno.test("imageGrid() scales images, writes captions and a title, and can show pairs", async () => {
  const cell = { image: plain(7, [0, 128, 255]), heat: [1, 0, 0, 0, 0, 0], caption: "4.2 a <cat> & a dog" };
  const options = { gridWidth: 3, cellPx: 32, gapPx: 4, pairs: true, title: "Latent 7", opacity: 1 };
  const grid = await imageGrid([cell], options);
  assert.deepEqual([grid.width, grid.height], [2 * 32 + 2 + 8, 30 + 32 + 18 + 8]);
  assert.deepEqual(pixel(grid, 4 + 2, 34 + 2), [0, 128, 255]);
  assert.deepEqual(pixel(grid, 4 + 34 + 2, 34 + 2), [0xf0, 0xf9, 0x21]);
  const dark = (top: number, bottom: number) =>
    grid.data.subarray(3 * grid.width * top, 3 * grid.width * bottom).some((value) => value < 160);
  assert.ok(dark(4, 26), "title");
  assert.ok(dark(68, 82), "caption");
});

Deno.test("imageGrid() refuses no cells, odd sizes and heat maps that fit no grid", async () => {
  await assert.rejects(imageGrid([]), {
    name: "RangeError",
    message: "Cannot draw grid: there must be at least one cell, current number is 0",
  });
  const image = plain(8, [0, 0, 0]);
  await assert.rejects(imageGrid([{ image }], { columns: 0 }), {
    name: "RangeError",
    message: "Cannot draw grid: columns must be an integer of at least 1, current value is 0",
  });
  await assert.rejects(imageGrid([{ image, heat: [1, 2, 3, 4, 5, 6] }], { gridWidth: 4 }), {
    name: "RangeError",
    message: "Cannot draw grid: gridWidth must divide the 6 values of a heat map, current value is 4",
  });
});
