import assert from "node:assert/strict";
import { seededRandom } from "../../lib/train/random.ts";
import { Workspace } from "../../lib/train/cpu/workspace.ts";
import { randomFloats } from "../support/reference.ts";
import { relativeDifference } from "./traces.ts";

const random = seededRandom(2);
const nTokens = 6;

function setUp(dModel: number) {
  const workspace = new Workspace(dModel);
  const matrix = workspace.reserveRows(nTokens);
  const row = workspace.reserveRows(1);
  const tokens = workspace.reserve(3);
  const factors = workspace.reserve(3);
  const x = randomFloats(nTokens * dModel, random);
  const w = randomFloats(dModel, random);
  workspace.putRows(matrix, x);
  workspace.putRows(row, w);
  workspace.integers(tokens, 3).set([1, 4, 5]);
  workspace.floats(factors, 3).set([0.5, -2, 1.25]);
  const read = (address: number, i: number) => workspace.floats(address, (i + 1) * workspace.stride);
  return { workspace, matrix, row, tokens, factors, x, w, read };
}

for (const dModel of [1, 5, 16, 50]) {
  Deno.test(`Kernels are what plain loops are at width ${dModel}`, () => {
    const { workspace, matrix, row, tokens, factors, x, w, read } = setUp(dModel);
    const { kernels, rowBytes, stride } = workspace;
    const dots = workspace.reserve(3);
    kernels.dots(matrix, row, tokens, dots, 3, rowBytes);
    const at = (token: number, d: number) => x[token * dModel + d];
    const expectedDots = [1, 4, 5].map((token) => w.reduce((sum, value, d) => sum + value * at(token, d), 0));
    assert.ok(relativeDifference(workspace.floats(dots, 3), expectedDots) < 1e-6);

    kernels.gather(matrix, row, tokens, factors, 3, rowBytes);
    const expectedRow = w.map((value, d) => value + 0.5 * at(1, d) - 2 * at(4, d) + 1.25 * at(5, d));
    assert.ok(relativeDifference(read(row, 0).subarray(0, dModel), expectedRow) < 1e-6);

    workspace.putRows(row, w);
    kernels.scatter(matrix, row, tokens, factors, 3, rowBytes);
    const scaled = [0, 0.5, 0, 0, -2, 1.25];
    for (let token = 0; token < nTokens; token++) {
      const expected = w.map((value, d) => at(token, d) + scaled[token] * value);
      const found = read(matrix, token).subarray(token * stride);
      assert.ok(relativeDifference(found.subarray(0, dModel), expected) < 1e-6);
      assert.ok(found.subarray(dModel).every((value) => value === 0), "padding stays zero");
    }
    const before = read(matrix, nTokens - 1).slice();
    kernels.scatter(matrix, row, tokens, factors, 0, rowBytes);
    assert.deepEqual(read(matrix, nTokens - 1), before);
  });
}

Deno.test("Workspace refuses batches that do not fit into its memory", () => {
  const workspace = new Workspace(16);
  workspace.reserve(100);
  assert.throws(() => workspace.reserve(2 ** 30), {
    name: "RangeError",
    message: "Cannot train SAE: a batch must fit into 4 GiB, it needs 4.0 GiB; choose a smaller batchSize",
  });
});
