import assert from "node:assert/strict";
import { createMuon, openOrthogonalize } from "../../lib/train/muon.ts";
import type { Parameters } from "../../lib/train/parameters.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { randomFloats } from "../support/reference.ts";
import { relativeDifference, transposed } from "./traces.ts";

const random = seededRandom(12);

type Matrix = number[][];
const toRows = (values: ArrayLike<number>, nRows: number): Matrix =>
  Array.from(
    { length: nRows },
    (_, i) => Array.from(values).slice(i * values.length / nRows, (i + 1) * values.length / nRows),
  );
const flip = (a: Matrix): Matrix => a[0].map((_, j) => a.map((row) => row[j]));
const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0].map((_, j) => row.reduce((sum, value, k) => sum + value * b[k][j], 0)));
const combine = (a: Matrix, alpha: number, b: Matrix, beta: number): Matrix =>
  a.map((row, i) => row.map((value, j) => alpha * value + beta * b[i][j]));

/** Five rounds as in `torch.optim.Muon`, in float64. */
function plainOrthogonalize(values: ArrayLike<number>, nRows: number): number[] {
  const length = Math.hypot(...Array.from(values));
  const given = toRows(Array.from(values, (value) => value / length), nRows);
  const isTall = nRows > given[0].length;
  let x = isTall ? flip(given) : given;
  for (let round = 0; round < 5; round++) {
    const gram = product(x, flip(x));
    const polynomial = combine(gram, -4.775, product(gram, gram), 2.0315);
    x = combine(x, 3.4445, product(polynomial, x), 1);
  }
  return (isTall ? flip(x) : x).flat();
}

for (const [rows, columns] of [[7, 3], [3, 7], [4, 4]]) {
  Deno.test(`openOrthogonalize() runs the rounds of Muon on ${rows} × ${columns}`, async () => {
    const matrix = randomFloats(rows * columns, random);
    const orthogonalize = await openOrthogonalize({ rows, columns, threads: 1 });
    const found = await orthogonalize.run(matrix);
    await orthogonalize.close();
    assert.ok(relativeDifference(found, plainOrthogonalize(matrix, rows)) < 1e-5);
  });
}

Deno.test("createMuon() steps along Nesterov's momentum, and shrinks matrices", async () => {
  const [dModel, dSae] = [3, 12];
  const parameters: Parameters = {
    wEnc: randomFloats(dSae * dModel, random),
    bEnc: new Float32Array(dSae),
    wDec: randomFloats(dSae * dModel, random),
    bDec: new Float32Array(dModel),
  };
  const start = structuredClone(parameters);
  const muon = await createMuon(parameters, { dModel, threads: 1 });
  const plain = { wEnc: Float64Array.from(start.wEnc), wDec: Float64Array.from(start.wDec) };
  const means = { wEnc: new Float64Array(36), wDec: new Float64Array(36) };
  for (const rate of [0.1, 0.05, 0.02]) {
    const gradients = { ...start, wEnc: randomFloats(36, random), wDec: randomFloats(36, random) };
    const touched = new Uint8Array(dSae).fill(1);
    await muon.step({ gradients, touched, gradientFactor: 0.5, learningRate: () => rate });
    for (const name of ["wEnc", "wDec"] as const) {
      const ahead = Array.from(gradients[name], (value, i) => {
        means[name][i] = 0.95 * means[name][i] + 0.05 * 0.5 * value;
        return 0.05 * 0.5 * value + 0.95 * means[name][i];
      });
      const direction = plainOrthogonalize(ahead, dSae);
      // torch measures the decoder as 12 × 3, the encoder as 3 × 12.
      const factor = name === "wDec" ? Math.sqrt(12 / 3) : 1;
      plain[name] = plain[name].map((value, i) => (1 - 0.1 * rate) * value - rate * factor * direction[i]);
    }
  }
  await muon.close();
  for (const name of ["wEnc", "wDec"] as const) assert.ok(relativeDifference(parameters[name], plain[name]) < 1e-5);
  assert.deepEqual(transposed(transposed(parameters.wEnc, dSae), dModel), parameters.wEnc);
});
