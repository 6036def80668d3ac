import assert from "node:assert/strict";
import sharp from "sharp";
import { decodeImage, readImage } from "../../lib/images/decode.ts";
import type { ImageSource } from "../../lib/images/source.ts";

/** A PNG from raw numbers. */
async function png(data: Uint8Array | Uint16Array, width: number, channels: 1 | 2 | 3 | 4): Promise<Uint8Array> {
  const height = data.length / width / channels;
  return await sharp(data, { raw: { width, height, channels } }).png().toBuffer();
}

Deno.test("decodeImage() gives RGB rows", async () => {
  const data = Uint8Array.of(255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7, 6, 5, 4, 3, 2, 1);
  assert.deepEqual(await decodeImage(await png(data, 3, 3)), { width: 3, height: 2, data });
});

Deno.test("decodeImage() composites transparent pixels on the background, rounded to the nearest level", async () => {
  const bytes = await png(Uint8Array.of(10, 20, 30, 0, 10, 20, 30, 255, 0, 100, 200, 128), 3, 4);
  const onWhite = await decodeImage(bytes);
  // 255 * 127 / 255 = 127; (100 * 128 + 255 * 127) / 255 = 177.2; (200 * 128 + 255 * 127) / 255 = 227.4
  assert.deepEqual([...onWhite.data], [255, 255, 255, 10, 20, 30, 127, 177, 227]);
  const onBlue = await decodeImage(bytes, { background: [0, 0, 255] });
  // 100 * 128 / 255 = 50.2; (200 * 128 + 255 * 127) / 255 = 227.4
  assert.deepEqual([...onBlue.data], [0, 0, 255, 10, 20, 30, 0, 50, 227]);
});

Deno.test("decodeImage() makes three channels of gray, with and without alpha", async () => {
  assert.deepEqual([...(await decodeImage(await png(Uint8Array.of(7, 200), 2, 1))).data], [7, 7, 7, 200, 200, 200]);
  const withAlpha = await decodeImage(await png(Uint8Array.of(7, 255, 7, 0), 2, 2));
  assert.deepEqual([...withAlpha.data], [7, 7, 7, 255, 255, 255]);
});

Deno.test("decodeImage() brings 16 bits down to 8", async () => {
  const raw = sharp(Uint16Array.of(0, 0x8080, 0xffff, 0x0101, 0x0202, 0x0303), {
    raw: { width: 2, height: 1, channels: 3 },
  });
  const bytes = await raw.toColorspace("rgb16").png().toBuffer();
  assert.equal((await sharp(bytes).metadata()).depth, "ushort");
  assert.deepEqual([...(await decodeImage(bytes)).data], [0, 128, 255, 1, 2, 3]);
});

Deno.test("decodeImage() makes RGB of a CMYK JPEG", async () => {
  const red = sharp({ create: { width: 8, height: 8, channels: 3, background: { r: 255, g: 0, b: 0 } } });
  const bytes = await red.toColorspace("cmyk").jpeg().toBuffer();
  assert.equal((await sharp(bytes).metadata()).space, "cmyk");
  const { data } = await decodeImage(bytes);
  assert.equal(data.length, 8 * 8 * 3);
  assert.ok(data[0] > 200 && data[1] < 60 && data[2] < 60, `red stays red, current value is ${data.subarray(0, 3)}`);
});

Deno.test("decodeImage() applies the EXIF orientation", async () => {
  const wide = sharp(Uint8Array.of(255, 0, 0, 0, 0, 255), { raw: { width: 2, height: 1, channels: 3 } });
  const turned = await wide.withMetadata({ orientation: 8 }).png().toBuffer();
  // Orientation 8 is shown turned to the left: the right pixel comes out on top.
  const data = Uint8Array.of(0, 0, 255, 255, 0, 0);
  assert.deepEqual(await decodeImage(turned), { width: 1, height: 2, data });
});

Deno.test("decodeImage() takes the first frame of an animation", async () => {
  // Two frames of 2 x 1, one below the other.
  const frames = Uint8Array.of(255, 0, 0, 255, 0, 0, 0, 255, 0, 0, 255, 0);
  const raw = { width: 2, height: 2, channels: 3, pageHeight: 1 } as const;
  const bytes = await sharp(frames, { raw }).gif().toBuffer();
  assert.equal((await sharp(bytes).metadata()).pages, 2);
  assert.deepEqual(await decodeImage(bytes), { width: 2, height: 1, data: Uint8Array.of(255, 0, 0, 255, 0, 0) });
});

Deno.test("decodeImage() names the image that is not one or is cut off", async () => {
  await assert.rejects(decodeImage(new TextEncoder().encode("not an image"), { name: "cat/a.jpg" }), {
    name: "Error",
    message: 'Cannot decode image "cat/a.jpg": Input buffer contains unsupported image format',
  });
  await assert.rejects(decodeImage(new Uint8Array(), { name: "b.png" }), /^Error: Cannot decode image "b\.png": /);
  const noise = Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => (i * 7919) % 251);
  const whole = sharp(noise, { raw: { width: 32, height: 32, channels: 3 } });
  for (const format of ["png", "jpeg", "webp", "gif"] as const) {
    const bytes = await whole.clone().toFormat(format).toBuffer();
    const half = bytes.subarray(0, Math.floor(bytes.length / 2));
    await assert.rejects(decodeImage(half, { name: "c" }), /^Error: Cannot decode image "c": /, format);
  }
});

Deno.test("readImage() decodes by index and names the image that fails", async () => {
  const files = [await png(Uint8Array.of(1, 2, 3), 1, 3), Uint8Array.of(0)];
  const source: ImageSource = {
    kind: "folder",
    location: "",
    nImages: 2,
    fingerprint: "",
    info: (imageIndex) => ({ imageIndex, name: `image ${imageIndex}`, tags: {} }),
    read: (imageIndex) => Promise.resolve(files[imageIndex]),
  };
  assert.deepEqual([...(await readImage(source, 0)).data], [1, 2, 3]);
  await assert.rejects(readImage(source, 1), /^Error: Cannot decode image "image 1": /);
});
