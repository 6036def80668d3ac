import assert from "node:assert/strict";
import sharp, { type Sharp, type WebpOptions } from "sharp";
import { decodeImage } from "../../lib/images/decode.ts";
import { decodePlainWebp, isPlainWebp } from "../../lib/images/decode_webp.ts";
import { seededRandom } from "../../lib/train/random.ts";

const [width, height] = [13, 7];

/** A picture with transparency in every tenth level, or opaque. */
function picture({ channels }: { channels: 3 | 4 }): Sharp {
  const data = Uint8Array.from({ length: width * height * channels }, (_, i) => (i * 37 + (i % 11) ** 3) % 256);
  return sharp(data, { raw: { width, height, channels } });
}

const webp = async (image: Sharp, options: WebpOptions) => new Uint8Array(await image.webp(options).toBuffer());

Deno.test("decodePlainWebp() gives sharp's bytes, with and without loss and transparency", async () => {
  for (const channels of [3, 4] as const) {
    for (const lossless of [true, false]) {
      const bytes = await webp(picture({ channels }), { lossless });
      assert.ok(isPlainWebp(bytes));
      const expected = await sharp(bytes).ensureAlpha().raw().toBuffer();
      const actual = await decodePlainWebp(bytes);
      assert.deepEqual([actual?.width, actual?.height], [width, height]);
      assert.deepEqual([...actual!.data], [...expected]);
    }
  }
});

Deno.test("isPlainWebp() leaves to sharp what has more than pixels, is large, or is no WebP", async () => {
  const options = { lossless: true };
  assert.ok(!isPlainWebp(await webp(picture({ channels: 3 }).withMetadata({ orientation: 6 }), options)));
  assert.ok(!isPlainWebp(await webp(picture({ channels: 3 }).withIccProfile("p3"), options)));
  const random = seededRandom(0);
  const noise = Uint8Array.from({ length: 64 * 64 * 3 }, () => 256 * random());
  const large = await webp(sharp(noise, { raw: { width: 64, height: 64, channels: 3 } }), options);
  assert.ok(large.length > 8192);
  assert.ok(!isPlainWebp(large));
  assert.ok(!isPlainWebp(new Uint8Array(await picture({ channels: 3 }).png().toBuffer())));
  assert.ok(!isPlainWebp(new Uint8Array(0)));
});

Deno.test("decodeImage() turns a small WebP with an orientation, and says what is wrong with a damaged one", async () => {
  const turned = await decodeImage(await webp(picture({ channels: 3 }).withMetadata({ orientation: 6 }), {}));
  assert.deepEqual([turned.width, turned.height], [height, width]);
  const whole = await webp(picture({ channels: 3 }), { lossless: true });
  assert.ok(isPlainWebp(whole.slice(0, whole.length / 2)));
  assert.equal(await decodePlainWebp(whole.slice(0, whole.length / 2)), undefined);
  await assert.rejects(decodeImage(whole.slice(0, whole.length / 2), { name: "half.webp" }), {
    name: "Error",
    message: /^Cannot decode image "half.webp": /,
  });
});
