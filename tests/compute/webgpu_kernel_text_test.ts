/** Kernels as text, and the sizes they are called with: what can be told without an adapter. */
import assert from "node:assert/strict";
import type { TokenRule } from "../../lib/compute/contract.ts";
import { chunkTokens } from "../../lib/compute/webgpu/batches.ts";
import { countKernel, writeKernel } from "../../lib/compute/webgpu/compact_kernels.ts";
import { decodeKernel } from "../../lib/compute/webgpu/decode_kernel.ts";
import {
  encodeKernel,
  encodeParams,
  type EncodeTile,
  encodeWorkgroups,
} from "../../lib/compute/webgpu/encode_kernel.ts";
import { imageMaxKernel, imageMaxWorkgroups } from "../../lib/compute/webgpu/image_max_kernel.ts";
import { type Kernel, padToVec4 } from "../../lib/compute/webgpu/kernel.ts";
import { cutPanels } from "../../lib/compute/webgpu/panels.ts";
import { selectKernel } from "../../lib/compute/webgpu/select_kernel.ts";

const rules: TokenRule[] = [
  { kind: "relu" },
  { kind: "topK", k: 3, relu: true },
  { kind: "topK", k: 3, relu: false },
  { kind: "jumpRelu", threshold: new Float32Array(63) },
];
const kernels: Kernel[] = [
  encodeKernel({ subtractBDec: false }),
  encodeKernel({ subtractBDec: true }),
  encodeKernel({ subtractBDec: true, precision: "float16" }),
  decodeKernel({ dModel: 193 }),
  ...[false, true].flatMap((subgroups) => [
    selectKernel({ dSae: 24577, k: 300, subgroups }),
    ...rules.flatMap((rule) => [countKernel, writeKernel].map((kernel) => kernel({ dSae: 63, rule, subgroups }))),
  ]),
  ...rules.map((rule) => imageMaxKernel({ dSae: 63, rule })),
];

Deno.test("every kernel declares its bindings in the order it names them", () => {
  for (const { label, code, bindings } of kernels) {
    const declared = [...code.matchAll(/@binding\((\d+)\) var<[^>]+> (\w+):/g)];
    assert.deepEqual(declared.map(([, index]) => Number(index)), bindings.map((_, i) => i), label);
    assert.deepEqual(declared.map(([, , name]) => name), bindings, label);
  }
});

Deno.test("every kernel stays within what WebGPU guarantees", () => {
  for (const { label, code, bindings } of kernels) {
    const [, invocations] = code.match(/@workgroup_size\((\d+)\)/)!;
    assert.ok(Number(invocations) <= 256, label);
    assert.ok(bindings.length <= 8, label);
    let bytes = 0;
    for (const [, element, length] of code.matchAll(/var<workgroup> \w+: array<(vec4f|[\w<>]+), (\d+)>/g)) {
      bytes += (element === "vec4f" ? 16 : 4) * Number(length);
    }
    assert.ok(bytes <= 16 * 1024, `${label} wants ${bytes} bytes of workgroup memory`);
  }
});

Deno.test("kernels ask for optional features only where they are made for them", () => {
  const enabled = ({ code }: Kernel) => code.match(/^enable \w+;/)?.[0];
  assert.equal(enabled(encodeKernel({ subtractBDec: true })), undefined);
  assert.equal(enabled(encodeKernel({ subtractBDec: true, precision: "float16" })), "enable f16;");
  const rule = rules[0];
  for (const subgroups of [undefined, false, true]) {
    const made = [{ dSae: 7, k: 2, rule, subgroups }].flatMap((shape) =>
      [selectKernel, countKernel, writeKernel].map((kernel) => kernel(shape))
    );
    for (const kernel of made) {
      assert.equal(enabled(kernel), subgroups ? "enable subgroups;" : undefined, kernel.label);
      assert.equal(/subgroup[A-Z]/.test(kernel.code), subgroups === true, kernel.label);
    }
  }
});

Deno.test("chunkTokens() fills the scratch memory with whole tiles, and takes less than one where it must", () => {
  const shape = { dModel: 16, dSae: 100 };
  const tokens = (rows: number) => chunkTokens(shape, { scratchBytes: 400 * rows, maxBindingBytes: Infinity });
  assert.deepEqual([0, 1, 63, 64, 127, 341].map(tokens), [1, 1, 63, 64, 64, 320]);
  assert.equal(tokens(1e6), 16384);
  assert.equal(chunkTokens(shape, { scratchBytes: 1e9, maxBindingBytes: 400 * 5 }), 5);
});

Deno.test("encodeWorkgroups() and imageMaxWorkgroups() cover the last, partial tile", () => {
  const tile: EncodeTile = { tokens: 64, latents: 128, depth: 16, blockTokens: 8, blockLatents: 8 };
  assert.deepEqual(encodeWorkgroups({ nTokens: 64, nLatents: 128 }, tile), [1, 1]);
  assert.deepEqual(encodeWorkgroups({ nTokens: 65, nLatents: 129 }, tile), [2, 2]);
  assert.deepEqual(imageMaxWorkgroups({ nImages: 3, dSae: 257 }), [2, 3]);
});

Deno.test("encodeParams() gives pitches in vec4", () => {
  const params = encodeParams({ nTokens: 3, dModel: 5, dSae: 19 }, { begin: 8, end: 15 });
  assert.deepEqual(params, [3, 5, 2, 5, 2, 2]);
});

Deno.test("padToVec4() rounds up to a multiple of four", () => {
  assert.deepEqual([1, 4, 5, 192, 193].map(padToVec4), [4, 4, 8, 192, 196]);
});

Deno.test("cutPanels() makes panels of whole vec4 that fit, and one where all fits", () => {
  assert.deepEqual(cutPanels({ dModel: 10, dSae: 7 }, { maxBytes: 1000 }), [{ begin: 0, end: 7 }]);
  assert.deepEqual(cutPanels({ dModel: 10, dSae: 19 }, { maxBytes: 350 }), [
    { begin: 0, end: 8 },
    { begin: 8, end: 16 },
    { begin: 16, end: 19 },
  ]);
  assert.throws(() => cutPanels({ dModel: 10, dSae: 19 }, { maxBytes: 159 }), {
    name: "RangeError",
    message: "Cannot load SAE: four latents must fit in the 159 bytes a kernel can bind, current size is 160",
  });
});
