import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { readNpy } from "../../lib/tensors/npy.ts";
import { decodeImage, type RgbImage } from "../../lib/images/decode.ts";
import { patchGridTransform } from "../../lib/images/family_transforms.ts";
import { cropForDisplay, outputSize, toPixelValues } from "../../lib/images/pixels.ts";
import { resampleImage } from "../../lib/images/resample.ts";
import { centerCropTransform, type PixelTransform } from "../../lib/images/transform.ts";

/** Bytes as they are: no resize, no crop, no normalization. */
const PLAIN: PixelTransform = {
  resize: { mode: "none" },
  crop: undefined,
  rescale: 1,
  mean: [0, 0, 0],
  std: [1, 1, 1],
  background: [255, 255, 255],
};

/** Pixel `i` is (3i, 3i + 1, 3i + 2). */
function ramp(width: number, height: number): RgbImage {
  return { width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, i) => i) };
}

/** Red values, row by row. */
function reds({ data }: RgbImage): number[] {
  return [...data].filter((_, i) => i % 3 === 0);
}

Deno.test("toPixelValues() is within half a level of what the embedded model was given", async () => {
  const folder = new URL("../fixtures/tiny_clip/", import.meta.url);
  const images: { hex: string }[] = JSON.parse(await readFile(new URL("images.json", folder), "utf8"));
  const expected = readNpy(new Uint8Array(await readFile(new URL("pixel_values.npy", folder))));
  assert.deepEqual(expected.shape, [24, 3, 64, 64]);
  const transform = centerCropTransform(64);
  for (const [i, { hex }] of images.entries()) {
    const image = await decodeImage(await readFile(new URL(`rgba/${hex.toLowerCase()}.png`, folder)), { name: hex });
    const values = toPixelValues(image, transform);
    assert.equal(values.length, 3 * 64 * 64);
    // The reference composited in floating point, so it is not rounded to whole levels.
    const levels = values.map((value, k) => {
      const difference = value - Number(expected.data[i * values.length + k]);
      return Math.abs(difference * transform.std[Math.floor(k / 4096)] * 255);
    });
    assert.ok(levels.reduce((a, b) => Math.max(a, b)) <= 0.501, hex);
  }
});

Deno.test("toPixelValues() puts channels first and normalizes each", () => {
  const transform: PixelTransform = { ...PLAIN, rescale: 0.5, mean: [1, 2, 3], std: [1, 2, 4] };
  // Bytes 0…5: reds 0 and 3, greens 1 and 4, blues 2 and 5.
  const values = toPixelValues(ramp(2, 1), transform);
  assert.deepEqual([...values], [-1, 0.5, -0.75, 0, -0.5, -0.125]);
});

Deno.test("toPixelValues() takes the bytes of an image of the target size as they are", () => {
  const image = ramp(4, 4);
  const values = toPixelValues(image, { ...centerCropTransform(4), rescale: 1, mean: [0, 0, 0], std: [1, 1, 1] });
  const green = Array.from({ length: 16 }, (_, i) => image.data[i * 3 + 1]);
  assert.deepEqual([...values.subarray(16, 32)], green);
});

Deno.test("toPixelValues() resizes before it crops", () => {
  const image = ramp(9, 5);
  const transform = centerCropTransform(3, { resizePx: 4 });
  // Shorter side 5 to 4, so 9 to trunc(7.2) = 7; crop 3 from left (7 - 3) / 2 = 2 and top trunc((4 - 3) / 2) = 0.
  const resized = resampleImage(image, { widthPx: 7, heightPx: 4 });
  const expected = [0, 1, 2].flatMap((y) => [2, 3, 4].map((x) => resized.data[(y * 7 + x) * 3]));
  const values = toPixelValues(image, { ...transform, rescale: 1, mean: [0, 0, 0], std: [1, 1, 1] });
  assert.deepEqual([...values.subarray(0, 9)], expected);
});

Deno.test("toPixelValues() does not mutate its input", () => {
  const image = ramp(5, 3);
  toPixelValues(image, centerCropTransform(4));
  assert.deepEqual(image, ramp(5, 3));
});

Deno.test("outputSize() follows torchvision's rounding of the longer side", () => {
  const noCrop: PixelTransform = { ...centerCropTransform(224), crop: undefined };
  assert.deepEqual(outputSize({ widthPx: 500, heightPx: 375 }, noCrop), { widthPx: 298, heightPx: 224 });
  assert.deepEqual(outputSize({ widthPx: 333, heightPx: 500 }, noCrop), { widthPx: 224, heightPx: 336 });
  assert.deepEqual(outputSize({ widthPx: 7, heightPx: 9 }, PLAIN), { widthPx: 7, heightPx: 9 });
  assert.deepEqual(outputSize({ widthPx: 500, heightPx: 375 }, centerCropTransform(224)), {
    widthPx: 224,
    heightPx: 224,
  });
  const squash: PixelTransform = {
    ...PLAIN,
    resize: { mode: "squash", widthPx: 5, heightPx: 6, kernel: "bicubic" },
  };
  assert.deepEqual(outputSize({ widthPx: 50, heightPx: 50 }, squash), { widthPx: 5, heightPx: 6 });
});

Deno.test("outputSize() makes a grid of a fixed number of patches in the aspect of the image", () => {
  const size = (widthPx: number, heightPx: number, nPatches: number) => {
    const { widthPx: width, heightPx: height } = outputSize(
      { widthPx, heightPx },
      patchGridTransform(nPatches, { patchPx: 2 }),
    );
    return [width / 2, height / 2];
  };
  assert.deepEqual(size(100, 100, 640), [20, 32]); // 0.625 is closer to 1 than 1.6
  assert.deepEqual(size(640, 480, 640), [32, 20]);
  assert.deepEqual(size(480, 640, 640), [20, 32]);
  assert.deepEqual(size(5000, 1, 640), [640, 1]);
  assert.deepEqual(size(1, 5000, 640), [1, 640]);
  assert.deepEqual(size(16, 9, 7), [1, 7]); // a prime number has only two grids
  assert.deepEqual(size(125, 100, 2), [1, 2]); // 1/2 and 2/1 are as close: the smaller factor is first
});

Deno.test("toPixelValues() rounds the margins of a crop as transformers or as torchvision does", () => {
  const left = (widthPx: number, cropPx: number, rounding: "down" | "even") => {
    const transform: PixelTransform = { ...PLAIN, crop: { widthPx: cropPx, heightPx: 1, rounding } };
    // The red of pixel x is 3x; the first value of the crop that is not padding tells where it begins.
    const values = toPixelValues(ramp(widthPx, 1), transform);
    return cropPx <= widthPx ? values[0] / 3 : -values.subarray(0, cropPx).indexOf(3) + 1;
  };
  const margins = [[6, 5], [7, 5], [8, 5], [9, 5], [12, 5], [3, 4], [3, 6]];
  assert.deepEqual(margins.map(([width, crop]) => left(width, crop, "down")), [0, 1, 1, 2, 3, -1, -2]);
  assert.deepEqual(
    margins.map(([width, crop]) => left(width, crop, "even")),
    [0, 1, 2, 2, 4, 0, -1].map((x) => x || 0),
  );
});

Deno.test("toPixelValues() does not round levels where a processor resizes floats", () => {
  const image = { width: 2, height: 1, data: Uint8Array.of(0, 10, 20, 3, 11, 20) };
  const squash = (arithmetic: "bytes" | "floats"): PixelTransform => ({
    ...PLAIN,
    resize: { mode: "squash", widthPx: 1, heightPx: 1, kernel: "bilinear", arithmetic },
  });
  // Both pixels count the same: 1.5, 10.5, 20.
  assert.deepEqual([...toPixelValues(image, squash("floats"))], [1.5, 10.5, 20]);
  assert.deepEqual([...toPixelValues(image, squash("bytes"))], [2, 11, 20]);
});

Deno.test("toPixelValues() crops and pads floats as it does bytes", () => {
  const image = ramp(5, 4);
  const crop = (arithmetic: "bytes" | "floats", widthPx: number, heightPx: number): PixelTransform => ({
    ...PLAIN,
    mean: [1, 2, 3],
    resize: { mode: "squash", widthPx: 5, heightPx: 4, kernel: "bicubic", arithmetic },
    crop: { widthPx, heightPx },
  });
  for (const [width, height] of [[3, 2], [7, 2], [8, 9]]) {
    assert.deepEqual(
      toPixelValues(image, crop("floats", width, height)),
      toPixelValues(image, crop("bytes", width, height)),
    );
  }
});

Deno.test("cropForDisplay() cuts the center and pads with black, one pixel more in front", () => {
  const crop = (widthPx: number, heightPx: number): PixelTransform => ({ ...PLAIN, crop: { widthPx, heightPx } });
  // 4 x 3 pixels with reds 0 3 6 9 / 12 15 18 21 / 24 27 30 33.
  assert.deepEqual(reds(cropForDisplay(ramp(4, 3), crop(1, 2))), [3, 15]);
  assert.deepEqual(reds(cropForDisplay(ramp(4, 3), crop(2, 4))), [0, 0, 3, 6, 15, 18, 27, 30]);
});

Deno.test("cropForDisplay() shows the same part of the image at every scale", () => {
  // Left half black, right half white, so that the edge can be found; 64 wide after the resize, crop from 16.
  const data = Uint8Array.from({ length: 256 * 128 * 3 }, (_, i) => (Math.floor(i / 3) % 256 < 128 ? 0 : 255));
  const transform = centerCropTransform(32);
  for (const scale of [1, 2, 4]) {
    const shown = cropForDisplay({ width: 256, height: 128, data }, transform, { scale });
    assert.deepEqual([shown.width, shown.height], [32 * scale, 32 * scale]);
    const firstWhite = reds(shown).slice(0, shown.width).findIndex((red) => red > 127);
    assert.equal(firstWhite, 16 * scale, `scale ${scale}`);
  }
});

Deno.test("cropForDisplay() keeps the bytes where nothing is resized", () => {
  const image = ramp(5, 4);
  assert.deepEqual(cropForDisplay(image, PLAIN), image);
  assert.deepEqual(cropForDisplay(ramp(8, 8), centerCropTransform(4), { scale: 2 }), ramp(8, 8));
});

Deno.test("cropForDisplay() refuses a scale that is not above 0", () => {
  for (const scale of [0, -1, NaN]) {
    assert.throws(() => cropForDisplay(ramp(1, 1), PLAIN, { scale }), {
      name: "RangeError",
      message: `Cannot crop image: scale must be above 0, current value is ${scale}`,
    });
  }
});
