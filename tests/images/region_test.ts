import assert from "node:assert/strict";
import { toPixelValues } from "../../lib/images/pixels.ts";
import { resampleImage, type ResampleKernel } from "../../lib/images/resample.ts";
import { familyTransforms } from "../../lib/images/family_transforms.ts";

/** 23 by 17 pixels, no two rows or columns alike. */
const image = {
  width: 23,
  height: 17,
  data: Uint8Array.from({ length: 23 * 17 * 3 }, (_, i) => (i * i * 31 + (i >> 3)) % 256),
};

Deno.test("resampleImage() gives of a region exactly what the whole image has there", () => {
  const kernels: ResampleKernel[] = ["nearest", "bilinear", "bicubic", "lanczos"];
  // Smaller, larger, and one or both sides as they are.
  const sizes = [[11, 9], [41, 30], [23, 9], [11, 17], [23, 17]];
  const region = { left: 2, top: 3, right: 9, bottom: 8 };
  for (const kernel of kernels) {
    for (const [widthPx, heightPx] of sizes) {
      const whole = resampleImage(image, { widthPx, heightPx, kernel });
      const part = resampleImage(image, { widthPx, heightPx, kernel, region });
      const expected = [3, 4, 5, 6, 7].flatMap((y) => [
        ...whole.data.subarray((y * widthPx + 2) * 3, (y * widthPx + 9) * 3),
      ]);
      assert.deepEqual([part.width, part.height, [...part.data]], [7, 5, expected], `${kernel}, ${widthPx}`);
    }
  }
});

Deno.test("toPixelValues() writes into the array given", () => {
  const { clip, dinov3 } = familyTransforms;
  for (const transform of [clip, dinov3]) {
    const expected = toPixelValues(image, transform);
    const batch = new Float32Array(2 * expected.length);
    const into = batch.subarray(expected.length);
    assert.equal(toPixelValues(image, transform, { into }), into);
    assert.deepEqual(into, expected);
    assert.ok(batch.subarray(0, expected.length).every((value) => value === 0));
    assert.throws(() => toPixelValues(image, transform, { into: new Float32Array(3 * 5) }), {
      name: "RangeError",
      message: /^Cannot make pixel values: the image must become 5 pixels, it becomes \d+ x \d+$/,
    });
  }
});
