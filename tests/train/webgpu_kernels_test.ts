/** The kernels of training one by one, at sizes that fill neither a vec4 nor a workgroup, against plain loops. */
import assert from "node:assert/strict";
import { GpuDevice } from "../../lib/compute/webgpu/device.ts";
import { DEFAULT_ENCODE_TILE, type EncodeTile } from "../../lib/compute/webgpu/encode_kernel.ts";
import type { Kernel } from "../../lib/compute/webgpu/kernel.ts";
import { createAdam } from "../../lib/train/adam.ts";
import { type LatentEntries, sortByLatent } from "../../lib/train/entries.ts";
import { normalizeRow } from "../../lib/train/parameters.ts";
import { seededRandom } from "../../lib/train/random.ts";
import { openSelection, type SelectionRule } from "../../lib/train/select.ts";
import { floorOfLargest, N_BINS } from "../../lib/train/webgpu/bins_kernel.ts";
import { encodeOnDevice } from "../../lib/train/webgpu/encode.ts";
import { ADD_TO_ROW } from "../../lib/train/webgpu/entry_kernels.ts";
import { TrainMemory } from "../../lib/train/webgpu/memory.ts";
import {
  type FactorLayout,
  productKernel,
  productParams,
  type ProductShape,
  productWorkgroups,
} from "../../lib/train/webgpu/product_kernel.ts";
import { compileTrainPrograms } from "../../lib/train/webgpu/programs.ts";
import { KernelQueue } from "../../lib/train/webgpu/queue.ts";
import { adamKernel, COMES_BACK, HAS_GRADIENT, normalizeKernel } from "../../lib/train/webgpu/row_kernels.ts";
import { floatBits, groupGrid } from "../../lib/train/webgpu/rows.ts";
import { addRuns } from "../../lib/train/webgpu/sum_kernel.ts";
import { randomFloats, randomIntegers } from "../support/reference.ts";
import { findTestAdapter } from "../support/software_adapter.ts";
import { relativeDifference } from "./traces.ts";

const adapter = await findTestAdapter();
const gpu = adapter && await GpuDevice.open(adapter);
const ignore = !gpu;

/** A test in memory of its own. */
function test(name: string, dModel: number, fn: (memory: TrainMemory) => Promise<void>): void {
  Deno.test({
    name,
    ignore,
    async fn() {
      const memory = new TrainMemory(gpu!, { dModel });
      await fn(memory);
      memory.dispose();
    },
  });
}

async function runOne(
  kernel: Kernel,
  call: { buffers: Record<string, GPUBuffer>; params: number[]; workgroups: [number, number?] },
): Promise<void> {
  await gpu!.run(kernel.label, [{ program: await gpu!.compile(kernel), ...call }]);
}

/** `rows × columns` whole numbers, so that every sum is exact. */
const integers = (nRows: number, nColumns: number, seed: number) =>
  randomIntegers(nRows * nColumns, seededRandom(seed), { limit: 4 });

const near = (actual: ArrayLike<number>, expected: ArrayLike<number>, what: string) => {
  const difference = relativeDifference(actual, expected);
  assert.ok(difference < 1e-5, `${what} is off by ${difference}`);
};

// A small tile is compiled faster.
const smallTile: EncodeTile = { tokens: 16, latents: 32, depth: 8, blockTokens: 2, blockLatents: 4 };
const products: readonly [ProductShape, EncodeTile][] = [
  [{ a: "rows", b: "rows", bias: true }, DEFAULT_ENCODE_TILE],
  [{ a: "rows", b: "rows", addend: true }, smallTile],
  [{ a: "columns", b: "columns" }, smallTile],
  [{ a: "columns", b: "rows" }, smallTile],
  [{ a: "rows", b: "columns", addend: true }, smallTile],
];

for (const [m, n, k] of [[7, 13, 5], [70, 131, 33], [64, 128, 16]]) {
  Deno.test({
    name: `productKernel() multiplies ${m} × ${k} with ${k} × ${n}, whichever way they lie`,
    ignore,
    async fn() {
      const [a, b, bias, addend] = [integers(m, k, 1), integers(n, k, 2), integers(1, n, 3), integers(m, n, 4)];
      for (const [shape, tile] of products) {
        const [alpha, beta] = shape.addend ? [2, -3] : [1, 0];
        const expected = Float32Array.from({ length: m * n }, (_, i) => {
          const [row, column] = [Math.floor(i / n), i % n];
          let sum = 0;
          for (let d = 0; d < k; d++) sum += a[row * k + d] * b[column * k + d];
          return alpha * sum + (shape.addend ? beta * addend[i] : 0) + (shape.bias ? bias[column] : 0);
        });
        const actual = await multiply(shape, { m, n, k, alpha, beta, a, b, bias, addend, tile });
        assert.deepEqual(actual, expected, JSON.stringify(shape));
      }
    },
  });
}

Deno.test({
  name: "productKernel() takes rows from a row on, and rows by their indices",
  ignore,
  async fn() {
    const [m, n, k, firstRow] = [3, 6, 5, 2];
    const [a, b, indices] = [integers(m + firstRow, k, 1), integers(9, k, 2), Uint32Array.of(8, 0, 3, 3, 7, 1)];
    const expected = Float32Array.from({ length: m * n }, (_, i) => {
      let sum = 0;
      for (let d = 0; d < k; d++) sum += a[(Math.floor(i / n) + firstRow) * k + d] * b[indices[i % n] * k + d];
      return sum;
    });
    const shape = { a: "rows", b: "rows", indexed: true } as const;
    assert.deepEqual(await multiply(shape, { m, n, k, firstRow, a, b, indices, tile: smallTile }), expected);
  },
});

/** Factors as `[m, k]` and `[n, k]`, turned to how the kernel wants them. */
async function multiply(
  shape: ProductShape,
  options: {
    m: number;
    n: number;
    k: number;
    firstRow?: number;
    alpha?: number;
    beta?: number;
    a: Float32Array;
    b: Float32Array;
    bias?: Float32Array;
    addend?: Float32Array;
    indices?: Uint32Array;
    tile: EncodeTile;
  },
): Promise<Float32Array> {
  const { m, n, k, a, b, bias, addend, indices, tile } = options;
  const [inK, inM, inN] = [k, m, n].map((dModel) => new TrainMemory(gpu!, { dModel }));
  const put = (name: string, layout: FactorLayout, rows: Float32Array, other: TrainMemory) =>
    layout === "rows" ? inK.putRows(name, rows) : other.putRows(name, transposed(rows, k));
  await runOne(productKernel(shape, tile), {
    buffers: {
      ...{ a: await put("a", shape.a, a, inM), b: await put("b", shape.b, b, inN) },
      out: await inN.room("out", 4 * inN.pitch * m),
      ...(shape.bias && { bias: await inN.putRows("bias", bias!) }),
      ...(shape.addend && { addend: await inN.putRows("addend", addend!) }),
      ...(shape.indexed && { indices: await inN.put("indices", indices!) }),
    },
    params: productParams(options),
    workgroups: productWorkgroups({ m, n }, tile),
  });
  const out = await inN.readMatrix(await inN.room("out", 4 * inN.pitch * m), m);
  for (const memory of [inK, inM, inN]) memory.dispose();
  return out;
}

/** Rows of length `width` become columns. */
function transposed(rows: Float32Array, width: number): Float32Array {
  const nRows = rows.length / width;
  return Float32Array.from({ length: rows.length }, (_, i) => rows[(i % nRows) * width + Math.floor(i / nRows)]);
}

const selections: Readonly<Record<string, SelectionRule>> = {
  "topK": { kind: "topK", k: 3, relu: true },
  "topK that keeps negative values": { kind: "topK", k: 11, relu: false },
  "above floors": { kind: "above", floors: Float32Array.from({ length: 13 }, (_, latent) => latent / 8) },
  "the top of a batch": { kind: "topOfBatch", nKept: 12, relu: true },
  "the top of a batch, most of which is negative": { kind: "topOfBatch", nKept: 60, relu: false },
  "all that is positive of a batch": { kind: "topOfBatch", nKept: 80, relu: true },
};

for (const [name, selection] of Object.entries(selections)) {
  test(`encodeOnDevice() picks what the CPU picks: ${name}`, 5, async (memory) => {
    const [nTokens, dSae] = [7, 13];
    const random = seededRandom(6);
    const [x, wEnc] = [randomFloats(nTokens * 5, random), randomFloats(dSae * 5, random)];
    const bias = randomFloats(dSae, random, { scale: 0.3 });
    const h = Float32Array.from({ length: nTokens * dSae }, (_, i) => {
      let sum = 0;
      for (let d = 0; d < 5; d++) sum += x[Math.floor(i / dSae) * 5 + d] * wEnc[(i % dSae) * 5 + d];
      return sum + bias[i % dSae];
    });
    const picked = openSelection(selection, { nLatents: dSae });
    picked.add(h, 0);
    const expected = sortByLatent(picked.finish(), { dSae });
    const encoder = { encoded: await memory.putRows("x", x), wEnc: await memory.putRows("w", wEnc) };
    const found = await encodeOnDevice({ memory, nTokens, bias, ...encoder }, selection);
    const actual = sortByLatent(found, { dSae });
    assert.deepEqual(actual.offsets, expected.offsets);
    assert.deepEqual(actual.tokens, expected.tokens);
    near(actual.pre, expected.pre, "pre");
    assert.ok(expected.pre.length >= 12);
  });
}

Deno.test("floorOfLargest() is a number that enough are above, and not many more", () => {
  const values = Float32Array.of(9.5, 9.2, 5, 4, 4, 4, 1e-30, 2.5, 1e-45);
  const bins = new Uint32Array(N_BINS);
  for (const bits of new Uint32Array(values.buffer)) bins[bits >>> 20]++;
  const above = (n: number) => values.filter((value) => value > floorOfLargest(bins, n)!).length;
  // 9.5 and 9.2 share a bin, as the fours do; the bin of numbers next to zero is the first.
  assert.deepEqual([1, 2, 3, 4, 6, 7, 8, 9].map(above), [2, 2, 3, 6, 6, 7, 8, 9]);
  assert.equal(floorOfLargest(bins, 10), undefined);
});

/** Entries of 7 tokens among 13 latents: latent 3 has all tokens, 5 none, the others two each. */
function someEntries(random: () => number): LatentEntries {
  const tokensOf = (latent: number) =>
    latent === 3 ? [0, 1, 2, 3, 4, 5, 6] : latent === 5 ? [] : [latent % 6, latent % 6 + 1];
  const lists = Array.from({ length: 13 }, (_, latent) => tokensOf(latent));
  const offsets = Uint32Array.of(0, ...lists.map((_, latent) => lists.slice(0, latent + 1).flat().length));
  const pre = randomFloats(offsets[13], random);
  return { offsets, tokens: Uint32Array.from(lists.flat()), pre, values: pre };
}

test("KernelQueue decodes prefixes, and gives slopes, squared errors and what is left over", 5, async (memory) => {
  const [nTokens, dSae, dModel] = [7, 13, 5];
  const random = seededRandom(9);
  const entries = someEntries(random);
  const [wDec, bDec, x] = [dSae * dModel, dModel, nTokens * dModel].map((length) => randomFloats(length, random));
  const weights = Float32Array.from({ length: nTokens }, (_, token) => 0.5 + token);
  const prefixes = Uint32Array.of(2, 3, 13);
  const expected = { slopes: new Float64Array(3 * x.length), squares: new Float64Array(3 * nTokens) };
  let [residual, dots] = [new Float64Array(), new Float64Array(entries.pre.length)];
  for (let p = 2; p >= 0; p--) {
    const errors = Float64Array.from(x, (value, i) => bDec[i % dModel] - value);
    for (let latent = 0; latent < prefixes[p]; latent++) {
      for (let i = entries.offsets[latent]; i < entries.offsets[latent + 1]; i++) {
        for (let d = 0; d < dModel; d++) {
          errors[entries.tokens[i] * dModel + d] += entries.values[i] * wDec[latent * dModel + d];
        }
      }
    }
    if (p === 2) residual = errors.map((error) => -error);
    errors.forEach((error, i) => {
      const token = Math.floor(i / dModel);
      expected.squares[p * nTokens + token] += error ** 2;
      for (let shorter = 0; shorter <= p; shorter++) {
        expected.slopes[shorter * x.length + i] += 2 * weights[token] * error;
      }
    });
  }
  dots = dots.map((_, i) => {
    const latent = entries.offsets.findIndex((offset) => offset > i) - 1;
    const row = (latent < 2 ? 0 : latent < 3 ? 1 : 2) * nTokens + entries.tokens[i];
    let dot = 0;
    for (let d = 0; d < dModel; d++) dot += expected.slopes[row * dModel + d] * wDec[latent * dModel + d];
    return dot;
  });

  const { queue } = await openQueue(memory, { wDec });
  await memory.putRows("b_dec", bDec);
  const left = await memory.room("left", 4 * memory.pitch * nTokens);
  const placed = await queue.place("main", entries, { prefixes, nTokens });
  const target = await memory.putRows("x", x);
  const found = await queue.decode("main", placed, {
    ...{ values: entries.values, hasBias: true, target, weights, residual: left },
  });
  const { sums, squares } = await queue.sumRows("residual", left, nTokens);
  await queue.run("decode");
  near(await memory.readMatrix(found.slopes, 3 * nTokens), expected.slopes, "slopes");
  near(await memory.readMatrix(left, nTokens), residual, "residual");
  const numbers = await memory.read([found.squares, found.dots, sums, squares]);
  const [squaredErrors, actualDots, sumRuns, squareRuns] = numbers.map((bytes) => new Float32Array(bytes));
  near(squaredErrors, expected.squares, "squares");
  near(actualDots, dots, "dots");
  const columns = (power: number) =>
    Float64Array.from(
      { length: dModel },
      (_, d) => residual.reduce((sum, value, i) => i % dModel === d ? sum + value ** power : sum, 0),
    );
  for (const [runs, power] of [[sumRuns, 1], [squareRuns, 2]] as const) {
    const totals = new Float64Array(dModel);
    addRuns(totals, runs, memory);
    near(totals, columns(power), `sums of power ${power}`);
  }
});

test("KernelQueue gathers rows of gradients, adds to those that are begun, and finishes them", 5, async (memory) => {
  const [nTokens, dSae, dModel] = [7, 13, 5];
  const random = seededRandom(10);
  const entries = someEntries(random);
  const [wDec, x, begun] = [dSae * dModel, nTokens * dModel, dSae * dModel].map((n) => randomFloats(n, random));
  const expected = begun.slice();
  const list = [0, 2, 3 + ADD_TO_ROW, 4 + ADD_TO_ROW, 12];
  for (const element of list) {
    const latent = element % ADD_TO_ROW;
    if (element < ADD_TO_ROW) expected.fill(0, latent * dModel, (latent + 1) * dModel);
    for (let i = entries.offsets[latent]; i < entries.offsets[latent + 1]; i++) {
      for (let d = 0; d < dModel; d++) {
        expected[latent * dModel + d] += entries.values[i] * x[entries.tokens[i] * dModel + d];
      }
    }
  }
  const { queue, matrices } = await openQueue(memory, { wDec, gDec: begun, gEnc: begun });
  const prefixes = Uint32Array.of(2, 13);
  const placed = await queue.place("main", entries, { prefixes, nTokens });
  const matrix = await memory.putRows("x", x);
  await queue.gather("main", placed, {
    ...{ list: Uint32Array.from(list), factors: entries.values, matrix, nRows: nTokens, out: "gDec" },
  });
  await queue.run("gather");
  near(await memory.readMatrix(matrices.gDec, dSae), expected, "gradients");

  const rows = Uint32Array.of(1, 12);
  const squares = await queue.finish(rows, { removeParallel: true });
  await queue.run("finish");
  const finished = await memory.readMatrix(matrices.gDec, dSae);
  const [bytes] = await memory.read([squares]);
  rows.forEach((latent, index) => {
    const row = (numbers: Float32Array) => Array.from(numbers.subarray(latent * dModel, (latent + 1) * dModel));
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, d) => sum + value * b[d], 0);
    const [g, w] = [row(expected), row(wDec)];
    const rest = g.map((value, d) => value - dot(g, w) / dot(w, w) * w[d]);
    near(row(finished), rest, "rest");
    near([new Float32Array(bytes)[index]], [dot(rest, rest) + dot(row(begun), row(begun))], "squares");
  });
  assert.deepEqual(finished.subarray(10 * dModel, 12 * dModel), begun.subarray(10 * dModel, 12 * dModel));
});

test("KernelQueue sums encoder rows times numbers of their latents, over several runs", 6, async (memory) => {
  const [dSae, dModel] = [301, 6];
  const random = seededRandom(11);
  const wEnc = randomFloats(dSae * dModel, random);
  const weights = randomFloats(dSae, random).map((value, latent) => latent % 3 === 0 ? 0 : value);
  const { queue } = await openQueue(memory, { wEnc });
  const part = await queue.sumEncoder(weights);
  await queue.run("sum");
  const [bytes] = await memory.read([part]);
  const totals = new Float64Array(dModel);
  addRuns(totals, new Float32Array(bytes), { ...memory, pitch: memory.pitch, factor: -2 });
  const expected = totals.map((_, d) => weights.reduce((sum, w, i) => sum - 2 * w * wEnc[i * dModel + d], 0));
  near(totals, expected, "sums");
});

async function openQueue(
  memory: TrainMemory,
  contents: Partial<Record<"wEnc" | "wDec" | "gEnc" | "gDec", Float32Array>>,
) {
  const make = (name: keyof typeof contents) => memory.matrix(name, contents[name] ?? { nRows: 1 });
  const [wEnc, wDec, gEnc, gDec] = [await make("wEnc"), await make("wDec"), await make("gEnc"), await make("gDec")];
  const matrices = { wEnc, wDec, gEnc, gDec };
  return { matrices, queue: new KernelQueue({ memory, programs: await compileTrainPrograms(gpu!), matrices }) };
}

test("adamKernel() takes the CPU's steps: with a gradient, without one, and back after a rest", 5, async (memory) => {
  const [dSae, dModel, beta1, beta2, epsilon, rate] = [3, 5, 0.5, 0.75, 1e-3, 0.1];
  const random = seededRandom(12);
  const start = randomFloats(dSae * dModel, random);
  const vectors = { bEnc: new Float32Array(dSae), bDec: new Float32Array(dModel) };
  const parameters = { wEnc: start.slice(), wDec: start.slice(), ...vectors };
  const adam = createAdam(parameters, { names: ["wDec"], dModel, beta1, beta2, epsilon });
  const buffers = {
    parameters: await memory.matrix("parameters", start),
    means: await memory.matrix("means", { nRows: dSae }),
    squares: await memory.matrix("squares", { nRows: dSae }),
  };
  let nBack = 0;
  // Latent 0 always, 1 at first only, 2 at first and again after it has come to rest.
  for (let step = 1; step <= 90; step++) {
    const gradients = randomFloats(dSae * dModel, random);
    const touched = Uint8Array.of(1, step < 3 ? 1 : 0, step < 3 || step > 88 ? 1 : 0);
    // The device has left-overs of earlier steps in rows without a gradient, the CPU zeros.
    const wDec = gradients.map((value, i) => touched[Math.floor(i / dModel)] === 1 ? value : 0);
    adam.step({ gradients: { ...vectors, wDec }, gradientFactor: 0.5, learningRate: () => rate, touched });
    const awake = [0, 1, 2].filter((latent) => adam.quiet.isAwake(latent));
    const list = awake.flatMap((latent) => {
      const missed = adam.quiet.missed[latent];
      nBack += missed > 0 ? 1 : 0;
      const flags = (touched[latent] === 1 ? HAS_GRADIENT : 0) + (missed > 0 ? COMES_BACK : 0);
      return [latent + flags, floatBits(beta2 ** missed)];
    });
    const numbers = [0.5, 1 - beta1, 1 - beta2, rate / (1 - beta1 ** step), 1 / Math.sqrt(1 - beta2 ** step), epsilon];
    await runOne(adamKernel(), {
      buffers: {
        ...{ ...buffers, list: await memory.put("list", Uint32Array.from(list)) },
        gradients: await memory.putRows("gradients", gradients),
      },
      params: [awake.length, memory.pitch, ...numbers.map(floatBits)],
      workgroups: groupGrid(awake.length),
    });
  }
  assert.equal(nBack, 1);
  near(await memory.readMatrix(buffers.parameters, dSae), parameters.wDec, "parameters");
  near(await memory.readMatrix(buffers.means, dSae), adam.state.means.wDec, "means");
  near(await memory.readMatrix(buffers.squares, dSae), adam.state.squares.wDec, "squares");
});

test("normalizeKernel() makes the rows of its list of length 1, and leaves a row of zeros", 259, async (memory) => {
  const matrix = randomFloats(3 * 259, seededRandom(13));
  matrix.fill(0, 259, 518);
  const expected = matrix.slice();
  normalizeRow(expected, 2, 259);
  const onDevice = await memory.matrix("matrix", matrix);
  await runOne(normalizeKernel(), {
    buffers: { list: await memory.put("list", Uint32Array.of(2, 1)), matrix: onDevice },
    params: [2, memory.pitch],
    workgroups: groupGrid(2),
  });
  near(await memory.readMatrix(onDevice, 3), expected, "rows");
});

Deno.test("groupGrid() has a workgroup for each of any number of rows, within what WebGPU promises", () => {
  assert.deepEqual([0, 1, 32_768].map(groupGrid), [[1, 0], [1, 1], [32_768, 1]]);
  for (const n of [32_769, 65_536, 200_000, 2 ** 24]) {
    const [x, y] = groupGrid(n);
    assert.ok(x <= 65_535 && y <= 65_535 && x * y >= n && x * (y - 1) < n);
  }
});

Deno.test({
  name: "close() frees the device of the training kernels",
  ignore,
  fn: () => gpu!.close(),
});
