/**
 * Encodes the same batches with and without subgroups, under Node on Dawn, and prints a line of JSON: whether the
 * adapter has subgroups, how many batches were compared, and how many numbers. Exits with 1 at the first difference.
 *
 *     node tests/compute/webgpu_subgroups.mjs LIBRARY.js GPU.js REFERENCE.js
 */
import assert from "node:assert/strict";
import process from "node:process";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [library, gpu, reference] = await Promise.all(
  process.argv.slice(2).map((path) => import(pathToFileURL(resolve(path)).href)),
);
const open = async (subgroups) => await library.createWebGpuBackend({ adapter: await gpu.findGpuAdapter(), subgroups });
const adapter = await gpu.findGpuAdapter();
const [together, apart] = [await open(true), await open(false)];

// Widths around one word and one workgroup of words, rows of ties, and k from one to all.
const shapes = [[7, 2], [257, 257], [8225, 3000], [16411, 64]];
let [batches, numbers] = [0, 0];
for (const [dSae, k] of shapes) {
  const rules = [
    { kind: "topK", k, relu: false },
    { kind: "relu" },
  ];
  for (const rule of rules) {
    for (const integers of [true, false]) {
      const [dModel, nTokens] = [3, 9];
      const weights = reference.randomWeights({ dModel, dSae }, { rule, integers });
      const random = reference.seededRandom(dSae);
      const x = integers
        ? reference.randomIntegers(nTokens * dModel, random, { limit: 3 })
        : reference.randomFloats(nTokens * dModel, random);
      const [a, b] = [await together.load(weights), await apart.load(weights)];
      const [latents, expected] = [await a.encode(x), await b.encode(x)];
      for (const name of ["offsets", "indices", "values"]) {
        const same = Buffer.from(latents[name].buffer).equals(Buffer.from(expected[name].buffer));
        assert.ok(same, `${name} of ${JSON.stringify({ dSae, k, kind: rule.kind, integers })}`);
      }
      batches++;
      numbers += expected.values.length;
      await a.dispose();
      await b.dispose();
    }
  }
}
console.log(JSON.stringify({ subgroups: adapter.features.has("subgroups"), batches, numbers }));
