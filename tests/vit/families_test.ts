/**
 * Every family of vision transformers, as the Hub serves it, against PyTorch: what forward hooks saw in each block is
 * what is recorded from the export. The models and their numbers are made by `tests/fixtures/vits/make.py`.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import type { PixelTransform } from "../../lib/images/transform.ts";
import type { HookPoint } from "../../lib/vit/hooks.ts";
import { openVit, type Vit } from "../../lib/vit/vit.ts";
import { fixture } from "./fixtures.ts";

/** A line of `models.json`. */
interface ModelLine {
  name: string;
  family: string;
  export: string;
  opset: number;
  reference: string;
  special_tokens: string[];
  patch: number;
  tolerance: number;
}

interface Reference {
  shape: readonly number[];
  data: Float32Array;
}

const HOOKS: readonly HookPoint[] = ["residPre", "residPost", "attnOut", "mlpOut"];

Deno.test("openLayers() records every layer and hook point of every family as PyTorch's hooks do", async () => {
  await compareModels(fixture("vits"));
});

/** Folder that `make.py --full` wrote. */
const fullSize = process.env.SPARSIGHT_FULL_VITS;

Deno.test({
  name: "openLayers() records models of full size as PyTorch's hooks do (set SPARSIGHT_FULL_VITS)",
  ignore: fullSize === undefined,
  fn: async () => await compareModels(fullSize!),
});

/** Compares every model of a folder, and prints one table. */
async function compareModels(folder: string): Promise<void> {
  const lines: ModelLine[] = JSON.parse(await readFile(join(folder, "models.json"), "utf8"));
  const rows: Record<string, string>[] = [];
  const failures: string[] = [];
  for (const line of lines) {
    const row: Record<string, string> = { model: line.name, family: line.family, opset: String(line.opset) };
    rows.push(row);
    const start = performance.now();
    try {
      const { vit, pixels, expected } = await openCase(folder, line);
      for (const hook of HOOKS) {
        const difference = await largestDifference(vit, { hook, pixels, expected: expected[hook] });
        row[hook] = difference.toExponential(1);
        if (!(difference <= line.tolerance)) failures.push(`${line.name} ${hook}: ${difference}`);
      }
    } catch (error) {
      failures.push(`${line.name}: ${(error as Error).message}`);
    }
    row.seconds = ((performance.now() - start) / 1000).toFixed(1);
    row.export = line.export;
  }
  console.log("Largest difference from PyTorch, as part of the largest activation of that layer and hook point:");
  console.log(alignRows(rows, ["model", "family", "opset", ...HOOKS, "seconds", "export"]));
  assert.ok(lines.length > 0);
  assert.deepEqual(failures, []);
}

/** Opens a model at the size of its reference pixels, and checks what is known of it. */
async function openCase(folder: string, line: ModelLine) {
  const arrays = await readReference(join(folder, line.reference));
  const { stream, attn_out: attnOut, mlp_out: mlpOut, levels } = arrays;
  const [nImages, , heightPx, widthPx] = levels.shape;
  const [nStreams, , tokensPerImage, dModel] = stream.shape;
  const vit = await openVit(join(folder, `${line.name}.onnx`), { threads: 1, transform: asIs({ widthPx, heightPx }) });
  assert.deepEqual(
    [vit.nLayers, vit.tokensPerImage, vit.dModel, vit.nSpecialTokens, vit.gridHeight, vit.gridWidth],
    [
      nStreams - 1,
      tokensPerImage,
      dModel,
      line.special_tokens.length,
      heightPx / line.patch,
      widthPx / line.patch,
    ],
    "layers, tokens, width, special tokens, grid",
  );
  const layerLength = nImages * tokensPerImage * dModel;
  const layersOf = ({ data }: Reference, first = 0) =>
    Array.from(
      { length: nStreams - 1 },
      (_, layer) => data.subarray((first + layer) * layerLength, (first + layer + 1) * layerLength),
    );
  const expected: Record<HookPoint, Float32Array[]> = {
    residPre: layersOf(stream),
    residPost: layersOf(stream, 1),
    attnOut: layersOf(attnOut),
    mlpOut: layersOf(mlpOut),
  };
  for (const branch of [attnOut, mlpOut]) {
    assert.ok(largestOf(branch.data) > 0.05 * largestOf(stream.data), "a branch that adds nothing would prove nothing");
  }
  return { vit, pixels: levels.data.map((level) => (level - 115) / 64), expected };
}

async function readReference(path: string): Promise<Record<string, Reference>> {
  const arrays = await openTensorFile(path);
  try {
    const named = await Promise.all(
      [...arrays.entries].map(async ([name, { shape }]) => [name, { shape, data: await arrays.read(name) }] as const),
    );
    return Object.fromEntries(named);
  } finally {
    await arrays.close();
  }
}

/** Pixels of this size, not touched. */
function asIs(size: { widthPx: number; heightPx: number }): PixelTransform {
  return {
    resize: { mode: "squash", ...size, kernel: "bicubic" },
    crop: undefined,
    rescale: 1,
    mean: [0, 0, 0],
    std: [1, 1, 1],
    background: [255, 255, 255],
  };
}

interface Comparison {
  hook: HookPoint;
  pixels: Float32Array;
  expected: readonly Float32Array[];
}

/** Over all layers, relative to the largest activation of the layer. */
async function largestDifference(vit: Vit, { hook, pixels, expected }: Comparison): Promise<number> {
  const opened = await vit.openLayers(expected.map((_, layer) => layer), { hook });
  try {
    const recorded = await opened.run(pixels);
    return Math.max(...recorded.map((actual, layer) => relativeDifference(actual, expected[layer])));
  } finally {
    await opened.close();
  }
}

function largestOf(data: Float32Array): number {
  return data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

function relativeDifference(actual: Float32Array, expected: Float32Array): number {
  assert.equal(actual.length, expected.length);
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    if (!Number.isFinite(actual[i])) return Infinity;
    difference = Math.max(difference, Math.abs(actual[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
}

function alignRows(rows: readonly Record<string, string>[], columns: readonly string[]): string {
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? "fails"))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return lines.map((line) => line.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()).join("\n");
}
