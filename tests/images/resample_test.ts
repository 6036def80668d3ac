import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { resampleImage, type ResampleKernel } from "../../lib/images/resample.ts";

interface PillowCase {
  kernel: ResampleKernel;
  width: number;
  height: number;
  data: number[];
}

Deno.test("resampleImage() gives Pillow's bytes for every kernel, larger and smaller", async () => {
  const path = new URL("../fixtures/images/pillow_resize.json", import.meta.url);
  const fixture: PillowCase & { cases: PillowCase[] } = JSON.parse(await readFile(path, "utf8"));
  const image = { width: fixture.width, height: fixture.height, data: Uint8Array.from(fixture.data) };
  assert.equal(fixture.cases.length, 24);
  for (const { kernel, width, height, data } of fixture.cases) {
    const resized = resampleImage(image, { widthPx: width, heightPx: height, kernel });
    assert.deepEqual([...resized.data], data, `${kernel} to ${width} x ${height}`);
  }
});

Deno.test("resampleImage() returns an image that has the size already as it is", () => {
  const image = { width: 2, height: 1, data: Uint8Array.of(1, 2, 3, 4, 5, 6) };
  assert.equal(resampleImage(image, { widthPx: 2, heightPx: 1 }), image);
});

Deno.test("resampleImage() does not mutate its input", () => {
  const image = { width: 2, height: 1, data: Uint8Array.of(0, 0, 0, 255, 255, 255) };
  resampleImage(image, { widthPx: 5, heightPx: 3 });
  assert.deepEqual([...image.data], [0, 0, 0, 255, 255, 255]);
});

Deno.test("resampleImage() refuses a size below one pixel", () => {
  const image = { width: 1, height: 1, data: new Uint8Array(3) };
  assert.throws(() => resampleImage(image, { widthPx: 0, heightPx: 4 }), {
    name: "RangeError",
    message: "Cannot resize image: width and height must be integers of at least 1 px, current value is 0 x 4",
  });
});
