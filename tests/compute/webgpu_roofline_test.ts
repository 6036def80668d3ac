/** The costs of kernels: counted once more by walking through a tile's loads, and the table in the documentation. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { DEFAULT_ENCODE_TILE, type EncodeTile, encodeWorkgroups } from "../../lib/compute/webgpu/encode_kernel.ts";
import { encodeBytes, kernelCosts, rooflineMs, rooflineTable } from "../../lib/compute/webgpu/roofline.ts";

/** `SPARSIGHT_UPDATE_DOCS=1` writes the tables instead of comparing them. */
const update = process.env.SPARSIGHT_UPDATE_DOCS === "1";
const page = new URL("../../docs/kernels.md", import.meta.url);

const size = { nTokens: 2744, dModel: 768, dSae: 24576, k: 32, tokensPerImage: 196 };
const limits = { scratchBytes: 32 * 2 ** 20, maxBindingBytes: 128 * 2 ** 20 };
const gpus = [
  { flopsPerSecond: 40e12, bytesPerSecond: 600e9 },
  { flopsPerSecond: 10e12, bytesPerSecond: 200e9 },
];

/** Bytes of the loads of `x` and `w_enc` that lie inside, invocation by invocation as the kernel makes them. */
function walkLoads(shape: { nTokens: number; dModel: number; dSae: number }, tile: EncodeTile): number {
  const { nTokens, dModel, dSae } = shape;
  const [groupsX, groupsY] = encodeWorkgroups({ nTokens, nLatents: dSae }, tile);
  const vec4 = (width: number) => Math.ceil(width / 4);
  let loads = 0;
  for (let y = 0; y < groupsY; y++) {
    for (let x = 0; x < groupsX; x++) {
      for (let slab = 0; slab < dModel; slab += tile.depth) {
        for (let i = 0; i < tile.tokens * tile.depth / 4; i++) {
          const token = y * tile.tokens + Math.floor(i / (tile.depth / 4));
          if (token < nTokens && slab / 4 + i % (tile.depth / 4) < vec4(dModel)) loads++;
        }
        for (let i = 0; i < tile.latents / 4 * tile.depth; i++) {
          const row = slab + Math.floor(i / (tile.latents / 4));
          if (row < dModel && x * tile.latents / 4 + i % (tile.latents / 4) < vec4(dSae)) loads++;
        }
      }
    }
  }
  return 16 * loads;
}

Deno.test("encodeBytes() is what the tiles load and store", () => {
  const small = { tokens: 16, latents: 32, depth: 4, blockTokens: 2, blockLatents: 16 };
  for (const tile of [DEFAULT_ENCODE_TILE, small]) {
    for (const shape of [{ nTokens: 70, dModel: 33, dSae: 131 }, { nTokens: 64, dModel: 16, dSae: 128 }]) {
      const stores = 4 * shape.nTokens * 4 * Math.ceil(shape.dSae / 4);
      assert.equal(encodeBytes(shape, { tile }).bytes, walkLoads(shape, tile) + stores);
    }
  }
  // Half of one reading of w_enc less, where it is of 16 bits.
  const shape = { nTokens: 64, dModel: 16, dSae: 128 };
  assert.equal(
    encodeBytes(shape, {}).leastBytes - encodeBytes(shape, { precision: "float16" }).leastBytes,
    2 * 16 * 128,
  );
});

Deno.test("rooflineMs() is the longer of computing and moving", () => {
  const speed = { flopsPerSecond: 1000, bytesPerSecond: 10 };
  assert.equal(rooflineMs({ flops: 500, bytes: 2 }, speed), 500);
  assert.equal(rooflineMs({ flops: 500, bytes: 20 }, speed), 2000);
});

Deno.test("docs/kernels.md has the table that the kernels' tiles give", async () => {
  const tables = {
    float32: rooflineTable(kernelCosts(size, { limits }), gpus),
    float16: rooflineTable(kernelCosts(size, { limits, precision: "float16" }).slice(0, 1), gpus),
  };
  let text = await readFile(page, "utf8");
  for (const [name, table] of Object.entries(tables)) {
    const [begin, end] = [`<!-- table ${name} -->\n`, "<!-- end -->"];
    const from = text.indexOf(begin) + begin.length;
    const to = text.indexOf(end, from);
    assert.ok(from >= begin.length && to > from, `docs/kernels.md has no place for the table ${name}`);
    if (update) text = text.slice(0, from) + `\n${table}\n\n` + text.slice(to);
    else assert.equal(squeezed(text.slice(from, to)), squeezed(table), "run with SPARSIGHT_UPDATE_DOCS=1");
  }
  if (update) await writeFile(page, text);
});

/** Without the spaces and dashes that align the columns of a formatted table. */
function squeezed(table: string): string {
  return table.trim().replace(/ +/g, " ").replace(/-{2,}/g, "--");
}
