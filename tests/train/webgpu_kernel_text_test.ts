/** The kernels of training as text, and what they cost: what can be told without an adapter. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import type { Kernel } from "../../lib/compute/webgpu/kernel.ts";
import { rooflineMs } from "../../lib/compute/webgpu/roofline.ts";
import { binsKernel } from "../../lib/train/webgpu/bins_kernel.ts";
import { decodeRowsKernel, slopesKernel } from "../../lib/train/webgpu/decode_kernel.ts";
import { dotsKernel, gatherKernel } from "../../lib/train/webgpu/entry_kernels.ts";
import { momentumKernel, stepAlongKernel } from "../../lib/train/webgpu/muon_kernels.ts";
import { productKernel } from "../../lib/train/webgpu/product_kernel.ts";
import { stepCosts, stepTable } from "../../lib/train/webgpu/roofline.ts";
import { adamKernel, finishKernel, normalizeKernel } from "../../lib/train/webgpu/row_kernels.ts";
import { subtractKernel } from "../../lib/train/webgpu/subtract_kernel.ts";
import { sumKernel } from "../../lib/train/webgpu/sum_kernel.ts";

/** `SPARSIGHT_UPDATE_DOCS=1` writes the table instead of comparing it. */
const update = process.env.SPARSIGHT_UPDATE_DOCS === "1";
const page = new URL("../../docs/kernels.md", import.meta.url);

const kernels: Kernel[] = [
  binsKernel({ dSae: 63 }),
  ...[decodeRowsKernel, dotsKernel, gatherKernel, adamKernel, finishKernel, normalizeKernel].map((kernel) => kernel()),
  ...[momentumKernel, stepAlongKernel, subtractKernel].map((kernel) => kernel()),
  ...[false, true].flatMap((on) => [slopesKernel({ residual: on }), sumKernel({ weights: on })]),
  productKernel({ a: "rows", b: "rows", bias: true, indexed: true }),
  productKernel({ a: "columns", b: "columns", addend: true }),
];

Deno.test("every kernel of training declares its bindings in the order it names them", () => {
  for (const { label, code, bindings } of kernels) {
    const declared = [...code.matchAll(/@binding\((\d+)\) var<[^>]+> (\w+):/g)];
    assert.deepEqual(declared.map(([, index]) => Number(index)), bindings.map((_, i) => i), label);
    assert.deepEqual(declared.map(([, , name]) => name), bindings, label);
  }
});

Deno.test("every kernel of training stays within what WebGPU guarantees", () => {
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

Deno.test("no kernel of training names anything as WGSL may name things one day", () => {
  // Of the reserved words, those that one might think of. Deno's compiler lets them pass, browsers' do not.
  const reserved =
    /\b(?:active|common|filter|from|match|meta|mod|module|move|new|null|of|pass|partial|precise|ref|self|set|shared|smooth|target|this|type|use|where|with)\b/;
  for (const { label, code } of kernels) {
    const withoutComments = code.replace(/\/\/.*$/gm, "");
    assert.equal(withoutComments.match(reserved)?.[0], undefined, label);
  }
});

const size = { nTokens: 2048, dModel: 768, dSae: 24_576, k: 32, nTouched: 24_576, nAwake: 24_576 };
const limits = { scratchBytes: 256 * 2 ** 20, maxBindingBytes: 2 ** 31 };
const gpus = [
  { flopsPerSecond: 40e12, bytesPerSecond: 600e9 },
  { flopsPerSecond: 10e12, bytesPerSecond: 200e9 },
];

Deno.test("stepCosts() follows k and the latents that are alive in all but the encoder", () => {
  const whole = stepCosts(size, limits);
  const sparser = stepCosts({ ...size, k: 16, nTouched: 12_288, nAwake: 12_288 }, limits);
  const dense = ["subtract", "encode", "select", "count", "write", "slopes", "sum slopes"];
  const ratios = whole.map(({ kernel, bytes }, i) => [kernel, sparser[i].bytes / bytes] as const);
  for (const [kernel, ratio] of ratios) {
    assert.ok(dense.includes(kernel) ? ratio > 0.99 && ratio <= 1 : ratio > 0.49 && ratio < 0.52, `${kernel} ${ratio}`);
  }
  for (const { kernel, bytes, leastBytes } of whole) assert.ok(bytes >= leastBytes, kernel);
});

Deno.test("docs/kernels.md has the table of a training step", async () => {
  const costs = stepCosts(size, limits);
  const table = stepTable(costs, gpus);
  const [last] = table.split("\n").slice(-1);
  const least = costs.reduce((ms, { flops, leastBytes }) => ms + rooflineMs({ flops, bytes: leastBytes }, gpus[0]), 0);
  assert.ok(last.includes(`| ${least.toFixed(2)} to `));
  const text = await readFile(page, "utf8");
  const [begin, end] = ["<!-- table training -->\n", "<!-- end -->"];
  const from = text.indexOf(begin) + begin.length;
  const to = text.indexOf(end, from);
  assert.ok(from >= begin.length && to >= from, "docs/kernels.md has no place for the table training");
  if (update) await writeFile(page, text.slice(0, from) + `\n${table}\n\n` + text.slice(to));
  else assert.equal(squeezed(text.slice(from, to)), squeezed(table), "run with SPARSIGHT_UPDATE_DOCS=1");
});

/** Without the spaces and dashes that align the columns of a formatted table. */
function squeezed(table: string): string {
  return table.trim().replace(/ +/g, " ").replace(/-{2,}/g, "--");
}
