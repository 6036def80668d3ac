import assert from "node:assert/strict";
import fc from "fast-check";
import { makeKeepRule } from "../../lib/compute/cpu/keep.ts";
import { SparseRows } from "../../lib/compute/cpu/sparse_rows.ts";

/** Candidates from each token's latents and values, laid out in the order `order` of the tokens. */
function layOut(tokens: readonly (readonly (readonly [latent: number, value: number])[])[], order: readonly number[]) {
  const [starts, ends] = [new Uint32Array(tokens.length), new Uint32Array(tokens.length)];
  const [latents, values] = [[] as number[], [] as number[]];
  for (const token of order) {
    starts[token] = latents.length;
    for (const [latent, value] of tokens[token]) {
      latents.push(latent);
      values.push(value);
    }
    ends[token] = latents.length;
  }
  return {
    starts,
    ends,
    thresholds: new Float32Array(tokens.length),
    nEntries: latents.length,
    latents: Uint32Array.from(latents),
    values: Float32Array.from(values),
  };
}

Deno.test("SparseRows takes what a rule keeps, token by token, whatever order candidates lie in", () => {
  const rows = new SparseRows(4, 67);
  const relu = makeKeepRule({ kind: "relu" });
  rows.add(relu, layOut([[[0, 3], [31, -2], [66, 1]], [], [[5, NaN], [63, 7]]], [2, 0, 1]));
  rows.add(relu, layOut([[[8, 0], [9, 0.5]]], [0]));
  assert.deepEqual(rows.finish(), {
    nTokens: 4,
    dSae: 67,
    offsets: Uint32Array.of(0, 2, 2, 3, 4),
    indices: Uint32Array.of(0, 66, 63, 9),
    values: Float32Array.of(3, 1, 7, 0.5),
  });
});

Deno.test("SparseRows of no tokens is empty", () => {
  const { offsets, indices, values } = new SparseRows(0, 5).finish();
  assert.deepEqual([offsets, indices, values], [Uint32Array.of(0), new Uint32Array(0), new Float32Array(0)]);
});

Deno.test("SparseRows makes room for tokens that grow livelier", () => {
  const anyToken = fc.uniqueArray(fc.nat(300), { maxLength: 301 }).map((latents) =>
    latents.sort((a, b) => a - b).map((latent) => [latent, 1 + latent] as const)
  );
  fc.assert(fc.property(fc.array(anyToken, { minLength: 1, maxLength: 9 }), fc.nat(8), (tokens, cut) => {
    const rows = new SparseRows(tokens.length, 301);
    const jumpRelu = makeKeepRule({ kind: "jumpRelu", threshold: new Float32Array(301).fill(100) });
    for (const some of [tokens.slice(0, cut), tokens.slice(cut)]) rows.add(jumpRelu, layOut(some, [...some.keys()]));
    const kept = tokens.map((token) => token.filter(([, value]) => value > 100));
    const { offsets, indices, values } = rows.finish();
    assert.deepEqual([...indices], kept.flat().map(([latent]) => latent));
    assert.deepEqual([...values], kept.flat().map(([, value]) => value));
    assert.deepEqual([...offsets].slice(1), kept.map((_, i) => kept.slice(0, i + 1).flat().length));
  }));
});

Deno.test("makeKeepRule() keeps the k largest, the lower latents of equal ones, and no zeros", () => {
  const kept = (rule: { k: number; relu: boolean }, numbers: number[]): number[] => {
    const isKept = new Uint8Array(numbers.length);
    const candidates = { latents: Uint32Array.from(numbers.keys()), values: Float32Array.from(numbers) };
    const nKept = makeKeepRule({ kind: "topK", ...rule })(candidates, isKept, { start: 0, end: numbers.length });
    assert.equal(nKept, isKept.filter((mark) => mark === 1).length);
    return [...isKept.keys()].filter((i) => isKept[i] === 1);
  };
  assert.deepEqual(kept({ k: 3, relu: true }, [2, 5, 2, 2, 1]), [0, 1, 2]);
  assert.deepEqual(kept({ k: 3, relu: true }, [-2, 5, NaN, 0, 1]), [1, 4]);
  assert.deepEqual(kept({ k: 3, relu: false }, [-2, 5, NaN, 0, -1]), [1, 4]);
  assert.deepEqual(kept({ k: 9, relu: false }, [-2, 5, -Infinity]), [0, 1]);
});
