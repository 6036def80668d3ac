import assert from "node:assert/strict";
import fc from "fast-check";
import { SparseRows } from "../../lib/compute/cpu/sparse_rows.ts";

Deno.test("SparseRows orders each token's latents, whatever order they are put in", () => {
  const rows = new SparseRows(4, { dSae: 67, room: 2 });
  for (const [latent, value] of [[66, 1], [31, -2], [0, 3], [32, 4], [63, 5]]) rows.put(latent, value);
  assert.equal(rows.endToken(), 5);
  assert.equal(rows.endToken(), 0);
  rows.put(63, 7);
  assert.equal(rows.endToken(), 1);
  assert.equal(rows.endToken(), 0);
  assert.deepEqual(rows.finish(), {
    nTokens: 4,
    dSae: 67,
    offsets: Uint32Array.of(0, 5, 5, 6, 6),
    indices: Uint32Array.of(0, 31, 32, 63, 66, 63),
    values: Float32Array.of(3, -2, 4, 5, 1, 7),
  });
});

Deno.test("SparseRows of no tokens is empty", () => {
  const { offsets, indices, values } = new SparseRows(0, { dSae: 5, room: 64 }).finish();
  assert.deepEqual([offsets, indices, values], [Uint32Array.of(0), new Uint32Array(0), new Float32Array(0)]);
});

Deno.test("SparseRows agrees with sorting, and makes room for any number of latents", () => {
  const dSae = 301;
  const anyToken = fc.uniqueArray(fc.nat(dSae - 1), { maxLength: dSae });
  fc.assert(fc.property(fc.array(anyToken, { maxLength: 9 }), fc.nat(2 * dSae), (tokens, room) => {
    const rows = new SparseRows(tokens.length, { dSae, room });
    for (const latents of tokens) {
      for (const latent of latents) rows.put(latent, latent + 0.5);
      rows.endToken();
    }
    const { indices, values, offsets } = rows.finish();
    const sorted = tokens.flatMap((latents) => latents.toSorted((a, b) => a - b));
    assert.deepEqual([...indices], sorted);
    assert.deepEqual([...values], sorted.map((latent) => latent + 0.5));
    tokens.forEach((latents, token) => assert.equal(offsets[token + 1] - offsets[token], latents.length));
  }));
});
