/**
 * Resized bytes and pixel values against Pillow and torchvision, for every kernel and every model family, over pictures
 * of odd sizes. The numbers are made by `tests/fixtures/images/make_pixels.py`, which draws the same pictures.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { decodeImage, type RgbImage } from "../../lib/images/decode.ts";
import { familyTransforms } from "../../lib/images/family_transforms.ts";
import { cropForDisplay, outputSize, toPixelValues } from "../../lib/images/pixels.ts";
import { resampleImage, type ResampleKernel } from "../../lib/images/resample.ts";

interface ResizeCase {
  picture: string;
  kernel: ResampleKernel;
  width: number;
  height: number;
  sha256: string;
  samples: string;
}

interface PixelCase extends Omit<ResizeCase, "kernel" | "sha256"> {
  family: string;
  sha256: string | null;
}

interface Fixture {
  encoded: { name: string; bytes: string; sha256: string }[];
  sources: Record<string, string>;
  resize_stride: number;
  resizes: ResizeCase[];
  pixel_stride: number;
  pixels: PixelCase[];
}

const fixtures = new URL("../fixtures/", import.meta.url);

async function readFixture(): Promise<Fixture> {
  return JSON.parse(await readFile(new URL("images/pixels.json", fixtures), "utf8"));
}

/** Squares of random gray and color, from 64 pixels down to one: the same as `draw` in `make_pixels.py`. */
function draw(width: number, height: number): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++, at++) {
        let total = 0;
        for (const [shift, weight] of [[6, 96], [5, 64], [4, 48], [2, 28], [0, 20]]) {
          let mixed = Math.imul(x >>> shift, 374761393) + Math.imul(y >>> shift, 668265263) +
              Math.imul(channel, 2246822519) + Math.imul(shift, 3266489917) | 0;
          mixed = Math.imul(mixed ^ (mixed >>> 13), 1274126177);
          total += ((mixed ^ (mixed >>> 16)) & 255) * weight;
        }
        data[at] = total >> 8;
      }
    }
  }
  return { width, height, data };
}

function sha256(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

async function drawPictures(sources: Fixture["sources"]): Promise<Map<string, RgbImage>> {
  const pictures = new Map<string, RgbImage>();
  for (const [name, digest] of Object.entries(sources)) {
    const [, width, height] = name.match(/^(\d+) x (\d+)$/) ?? [];
    const image = width === undefined
      ? await decodeImage(await readFile(new URL(`tiny_clip/rgba/${name}`, fixtures)))
      : draw(Number(width), Number(height));
    assert.equal(sha256(image.data), digest, `${name} must be the picture that Pillow had`);
    pictures.set(name, image);
  }
  return pictures;
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** Largest difference between `expected` and every `stride`-th of `actual`. */
function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>, stride: number): number {
  assert.equal(expected.length, Math.ceil(actual.length / stride));
  let largest = 0;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(actual[i * stride] - expected[i]));
  return largest;
}

Deno.test("decodeImage() gives Pillow's bytes for JPEG and WebP", async () => {
  const { encoded } = await readFixture();
  assert.equal(encoded.length, 5);
  for (const { name, bytes, sha256: expected } of encoded) {
    const { width, height, data } = await decodeImage(bytesOf(bytes), { name });
    assert.deepEqual([width, height], [93, 61]);
    assert.equal(sha256(data), expected, name);
  }
});

Deno.test("resampleImage() gives Pillow's bytes for pictures of every size, up and down", async () => {
  const { sources, resizes, resize_stride: stride } = await readFixture();
  const pictures = await drawPictures(sources);
  const table = new Map<string, { sizes: number; identical: number; largest: number }>();
  for (const { picture, kernel, width, height, ...expected } of resizes) {
    const { data } = resampleImage(pictures.get(picture)!, { widthPx: width, heightPx: height, kernel });
    const row = table.get(kernel) ?? { sizes: 0, identical: 0, largest: 0 };
    row.sizes++;
    row.identical += Number(sha256(data) === expected.sha256);
    row.largest = Math.max(row.largest, largestDifference(data, bytesOf(expected.samples), stride));
    table.set(kernel, row);
  }
  console.log(`Resized bytes against Pillow, ${pictures.size} pictures:`);
  for (const [kernel, { sizes, identical, largest }] of table) {
    console.log(`${kernel.padEnd(8)}  ${identical} of ${sizes} identical, largest difference ${largest} of 255`);
  }
  assert.equal(resizes.length, 120);
  for (const [kernel, row] of table) assert.deepEqual(row, { sizes: 30, identical: 30, largest: 0 }, kernel);
});

Deno.test("toPixelValues() gives each family's own pixels", async () => {
  const { sources, pixels, pixel_stride: stride } = await readFixture();
  const pictures = await drawPictures(sources);
  const table = new Map<string, number>();
  for (const { picture, family, width, height, ...expected } of pixels) {
    const image = pictures.get(picture)!;
    const transform = familyTransforms[family];
    const name = `${family}, ${picture}`;
    assert.deepEqual(
      outputSize({ widthPx: image.width, heightPx: image.height }, transform),
      { widthPx: width, heightPx: height },
      name,
    );
    if (expected.sha256 !== null) {
      assert.equal(sha256(cropForDisplay(image, transform).data), expected.sha256, `bytes of ${name}`);
    }
    const difference = largestDifference(
      toPixelValues(image, transform),
      new Float32Array(bytesOf(expected.samples).buffer),
      stride,
    );
    table.set(family, Math.max(table.get(family) ?? 0, difference));
  }
  console.log("Largest difference of normalized pixels from Pillow and torchvision:");
  for (const [family, difference] of table) console.log(`${family.padEnd(14)}  ${difference.toExponential(1)}`);
  assert.deepEqual([...table.keys()].sort(), Object.keys(familyTransforms).sort(), "every family must be compared");
  for (const [family, difference] of table) assert.ok(difference <= 1e-6, `${family}: ${difference}`);
});
