import assert from "node:assert/strict";
import { cutPatches } from "../../lib/figures/patches.ts";

/** Each pixel is [row, column, 7], so that it tells where it came from. */
const image = {
  width: 6,
  height: 4,
  data: Uint8Array.from({ length: 3 * 6 * 4 }, (_, i) => {
    const pixel = Math.floor(i / 3);
    return [Math.floor(pixel / 6), pixel % 6, 7][i % 3];
  }),
};

Deno.test("cutPatches() cuts row by row and leaves the picture as it is", () => {
  const before = image.data.slice();
  const patches = cutPatches(image, { gridWidth: 3, gridHeight: 2 });
  assert.equal(patches.length, 6);
  assert.deepEqual(patches.map(({ width, height }) => [width, height]), Array(6).fill([2, 2]));
  assert.deepEqual([...patches[0].data], [0, 0, 7, 0, 1, 7, 1, 0, 7, 1, 1, 7]);
  assert.deepEqual([...patches[5].data], [2, 4, 7, 2, 5, 7, 3, 4, 7, 3, 5, 7]);
  patches[0].data.fill(255);
  assert.deepEqual(image.data, before);
});

Deno.test("cutPatches() gives oblong patches where the grid asks for them", () => {
  const patches = cutPatches(image, { gridWidth: 1, gridHeight: 4 });
  assert.deepEqual(patches.map(({ width, height }) => [width, height]), Array(4).fill([6, 1]));
  assert.deepEqual(patches[3].data, image.data.slice(3 * 18));
});

Deno.test("cutPatches() refuses a grid that does not divide the picture", () => {
  assert.throws(() => cutPatches(image, { gridWidth: 4, gridHeight: 2 }), {
    name: "RangeError",
    message: "Cannot cut patches: gridWidth must divide a picture of 6 × 4 pixels, current value is 4",
  });
  assert.throws(() => cutPatches(image, { gridWidth: 3, gridHeight: 0 }), {
    name: "RangeError",
    message: "Cannot cut patches: gridHeight must divide a picture of 6 × 4 pixels, current value is 0",
  });
});
