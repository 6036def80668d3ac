import assert from "node:assert/strict";
import { resampleImage } from "../../lib/images/resample.ts";
import { PRECISION_BITS, ResampleMemory, ROW_ALIGNMENT } from "../../lib/images/resample_kernels.ts";
import { seededRandom } from "../../lib/train/random.ts";

const ONE = 1 << PRECISION_BITS;
const clamp = (sum: number) => Math.min(255, Math.max(0, (sum + ONE / 2) >> PRECISION_BITS));

/** Runs `across` on a row; each new pixel is given by its first pixel and its weights. */
function makeAcross(
  row: readonly number[],
  pixels: readonly { first: number; weights: readonly number[] }[],
): number[] {
  const memory = new ResampleMemory();
  const table = Int32Array.from(
    pixels.flatMap(({ first, weights }) => [3 * first, 4 * weights.length, ...weights.map((w) => w * ONE)]),
  );
  const [rowAt, target] = [table.byteLength, table.byteLength + row.length];
  const buffer = memory.reserve(target + 3 * pixels.length);
  new Int32Array(buffer).set(table);
  new Uint8Array(buffer).set(row, rowAt);
  memory.kernels.across(rowAt, 0, table.byteLength, target);
  return [...new Uint8Array(buffer, target, 3 * pixels.length)];
}

/** Runs `down` on rows; one weight a row. */
function makeDown(rows: readonly (readonly number[])[], weights: readonly number[]): number[] {
  const memory = new ResampleMemory();
  const rowBytes = Math.ceil(rows[0].length / ROW_ALIGNMENT) * ROW_ALIGNMENT;
  const values = Int32Array.from(weights, (w) => w * ONE);
  const rowsAt = values.byteLength;
  const target = rowsAt + rows.length * rowBytes;
  const buffer = memory.reserve(target + rowBytes);
  new Int32Array(buffer).set(values);
  rows.forEach((row, y) => new Uint8Array(buffer).set(row, rowsAt + y * rowBytes));
  memory.kernels.down(rowsAt, rowBytes, 0, values.byteLength, target, target + rowBytes);
  return [...new Uint8Array(buffer, target, rows[0].length)];
}

Deno.test("across() weighs pixels color by color, and rounds halves up", () => {
  const row = [10, 20, 30, 20, 40, 60, 30, 60, 91];
  assert.deepEqual(
    makeAcross(row, [{ first: 0, weights: [0.5, 0.5] }, { first: 1, weights: [0.5, 0.5] }, { first: 2, weights: [1] }]),
    [15, 30, 45, 25, 50, 76, 30, 60, 91],
  );
});

Deno.test("across() and down() keep to 0 and 255 where a kernel overshoots", () => {
  assert.deepEqual(
    makeAcross([255, 0, 100, 0, 255, 100], [{ first: 0, weights: [1.5, -0.5] }]),
    [255, 0, 100],
  );
  assert.deepEqual(makeDown([[255, 0, 100], [0, 255, 100]], [1.5, -0.5]), [255, 0, 100]);
});

Deno.test("across() and down() give what plain loops give, on rows of odd lengths", () => {
  const random = seededRandom(4);
  const bytes = (length: number) => Array.from({ length }, () => Math.floor(256 * random()));
  const weights = Array.from({ length: 5 }, () => random() - 0.3);
  const fixed = Int32Array.from(weights, (w) => w * ONE);
  const rows = weights.map(() => bytes(37));
  assert.deepEqual(
    makeDown(rows, weights),
    rows[0].map((_, x) => clamp(rows.reduce((sum, row, k) => sum + row[x] * fixed[k], 0))),
  );
  const row = bytes(3 * 11);
  const firsts = [0, 3, 6];
  assert.deepEqual(
    makeAcross(row, firsts.map((first) => ({ first, weights }))),
    firsts.flatMap((first) =>
      [0, 1, 2].map((channel) =>
        clamp(weights.reduce((sum, _, k) => sum + row[3 * (first + k) + channel] * fixed[k], 0))
      )
    ),
  );
});

Deno.test("resampleImage() takes rows that are longer than a page of memory, and small images after them", () => {
  const color = [7, 130, 251];
  for (const width of [30_001, 3]) {
    const image = { width, height: 3, data: Uint8Array.from({ length: width * 9 }, (_, i) => color[i % 3]) };
    const { data } = resampleImage(image, { widthPx: 5, heightPx: 2 });
    assert.deepEqual([...data], Array.from({ length: 30 }, (_, i) => color[i % 3]));
  }
});
