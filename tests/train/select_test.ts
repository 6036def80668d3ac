import assert from "node:assert/strict";
import { sortByLatent } from "../../lib/train/entries.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { selectAbove, type Selection, selectTopK, selectTopOfBatch } from "../../lib/train/select.ts";
import { randomFloats } from "../support/reference.ts";

/** Entries as `token:latent=value`, sorted by token and latent. */
function select(selection: Selection, rows: readonly (readonly number[])[]): string[] {
  rows.forEach((row, token) => selection.add(Float32Array.from(row), token));
  const { length, tokens, latents, values } = selection.finish();
  return Array.from({ length }, (_, i) => `${tokens[i]}:${latents[i]}=${values[i]}`).sort();
}

Deno.test("selectAbove() keeps what is above its latent's floor, not what equals it", () => {
  const rows = [[1, 2, -3], [0.5, 2.5, NaN]];
  assert.deepEqual(select(selectAbove(Float32Array.of(0.5, 2, -4)), rows), ["0:0=1", "0:2=-3", "1:1=2.5"]);
});

Deno.test("selectTopK() keeps the largest of a token, of equal ones the lower latents", () => {
  const options = { k: 2, nLatents: 4 };
  const rows = [[1, 3, 3, 3], [-1, -2, -3, -1], [5, -1, NaN, 0]];
  assert.deepEqual(select(selectTopK({ ...options, relu: false }), rows), [
    "0:1=3",
    "0:2=3",
    "1:0=-1",
    "1:3=-1",
    "2:0=5",
    "2:3=0",
  ]);
  assert.deepEqual(select(selectTopK({ ...options, relu: true }), rows), ["0:1=3", "0:2=3", "2:0=5"]);
});

Deno.test("selectTopK() keeps what sorting keeps", () => {
  const random = seededRandom(8);
  for (const k of [1, 2, 7, 31, 50]) {
    const rows = Array.from(
      { length: 9 },
      () => [...randomFloats(50, random)].map((v) => Math.fround(Math.round(v * 20))),
    );
    const expected = rows.flatMap((row, token) =>
      row.map((value, latent) => ({ value, latent })).sort((a, b) => b.value - a.value || a.latent - b.latent).slice(
        0,
        k,
      )
        .map(({ value, latent }) => `${token}:${latent}=${value}`)
    );
    assert.deepEqual(select(selectTopK({ k, relu: false, nLatents: 50 }), rows), expected.sort());
  }
});

Deno.test("selectTopOfBatch() keeps the largest of all tokens, of equal ones the first, over many pieces", () => {
  const random = seededRandom(9);
  const rows = Array.from(
    { length: 40 },
    () => [...randomFloats(50, random)].map((v) => Math.fround(Math.round(v * 200))),
  );
  for (const nKept of [1, 3, 60, 1999, 5000]) {
    for (const relu of [false, true]) {
      const expected = rows.flatMap((row, token) => row.map((value, latent) => ({ value, token, latent })))
        .filter(({ value }) => !relu || value > 0)
        .sort((a, b) => b.value - a.value || a.token - b.token || a.latent - b.latent).slice(0, nKept)
        .map(({ value, token, latent }) => `${token}:${latent}=${value}`);
      assert.deepEqual(select(selectTopOfBatch({ nKept, relu, nLatents: 50 }), rows), expected.sort());
    }
  }
});

Deno.test("sortByLatent() turns entries over, tokens ascending, and names latents", () => {
  const selection = selectAbove(new Float32Array(3));
  selection.add(Float32Array.of(1, 0, 2, 0, 0, 3), 0);
  selection.add(Float32Array.of(4, 5, 0), 2);
  const entries = selection.finish();
  const byLatent = sortByLatent(entries, { dSae: 3 });
  assert.deepEqual([...byLatent.offsets], [0, 2, 3, 5]);
  assert.deepEqual([...byLatent.tokens], [0, 2, 2, 0, 1]);
  assert.deepEqual([...byLatent.pre], [1, 4, 5, 2, 3]);
  assert.deepEqual(byLatent.values, byLatent.pre);
  const named = sortByLatent(entries, { dSae: 6, latentOf: Uint32Array.of(1, 2, 5) });
  assert.deepEqual([...named.offsets], [0, 0, 2, 3, 3, 3, 5]);
});
