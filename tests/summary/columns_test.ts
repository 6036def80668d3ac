import assert from "node:assert/strict";
import { ActiveColumns } from "../../lib/summary/columns.ts";

const batch = {
  nTokens: 4,
  dSae: 5,
  offsets: Uint32Array.of(0, 3, 3, 5, 7),
  indices: Uint32Array.of(0, 2, 4, 2, 3, 0, 2),
  values: Float32Array.of(1, 2, -3, 4, NaN, 5, 6),
};

Deno.test("ActiveColumns.fill() lists the tokens of each latent in order, and only where it is above zero", () => {
  const { starts, tokens, values, bits } = new ActiveColumns(5).fill(batch);
  assert.deepEqual(starts, Uint32Array.of(0, 2, 2, 5, 5, 5));
  assert.deepEqual([...tokens.subarray(0, 5)], [0, 3, 0, 2, 3]);
  assert.deepEqual([...values.subarray(0, 5)], [1, 5, 2, 4, 6]);
  assert.deepEqual(bits, new Uint32Array(values.buffer));
});

Deno.test("ActiveColumns.fill() forgets the batch before, larger or smaller", () => {
  const columns = new ActiveColumns(5).fill(batch);
  const small = { ...batch, nTokens: 1, offsets: Uint32Array.of(0, 1), indices: Uint32Array.of(4) };
  assert.deepEqual(columns.fill({ ...small, values: Float32Array.of(7) }).starts, Uint32Array.of(0, 0, 0, 0, 0, 1));
  assert.deepEqual([columns.tokens[0], columns.values[0]], [0, 7]);
  assert.deepEqual(columns.fill(batch).starts, Uint32Array.of(0, 2, 2, 5, 5, 5));
  const empty = { ...small, nTokens: 0, offsets: Uint32Array.of(0), indices: new Uint32Array(0) };
  assert.deepEqual(columns.fill({ ...empty, values: new Float32Array(0) }).starts, new Uint32Array(6));
});
