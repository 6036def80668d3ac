/**
 * The encoder product of the WebGPU back end beside the same product in onnxruntime's WebGPU provider and in jax-js, on
 * one adapter in one run: medians of rounds in which all take turns, and ratios to ours.
 *
 *     deno run -A bench/webgpu_bench.ts
 *
 * `SPARSIGHT_TEST_ADAPTER=swiftshader` takes SwiftShader, the only software adapter that onnxruntime's provider accepts.
 * jax-js is not a dependency: `SPARSIGHT_JAX` names the main file of an installed `@jax-js/jax`. Peers that are missing
 * are named.
 *
 * @module
 */
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import process from "node:process";
import { createWebGpuBackend } from "../lib/compute/webgpu/backend.ts";
import { GpuDevice } from "../lib/compute/webgpu/device.ts";
import { encodeKernel, encodeParams, type EncodeTile, encodeWorkgroups } from "../lib/compute/webgpu/encode_kernel.ts";
import { Readback, ScratchBuffers } from "../lib/compute/webgpu/scratch.ts";
import { tuneWebGpu } from "../lib/compute/webgpu/tuner.ts";
import { buildOnnx } from "../lib/onnx/build.ts";
import { describeAdapter } from "../lib/runtime/gpu.ts";
import { loadOrt } from "../lib/runtime/ort.ts";
import { seededRandom } from "../lib/train/random.ts";
import { findTestAdapter } from "../tests/support/software_adapter.ts";

const ROUNDS = 5;

interface Job {
  nTokens: number;
  dModel: number;
  dSae: number;
  x: Float32Array;
  wEnc: Float32Array;
  bEnc: Float32Array;
}

/** One way to make the product: `run` makes it once, from activations on the host to a finished result. */
interface Contestant {
  name: string;
  run(): Promise<void>;
  /** The first four numbers of the result. */
  check?(): Promise<ArrayLike<number>>;
  close(): Promise<void>;
}

const sizes = [
  { name: "embedded SAE", nTokens: 512, dModel: 192, dSae: 1536 },
  { name: "ViT-B, a sixth of an SAE", nTokens: 128, dModel: 768, dSae: 4096 },
];

const adapter = await findTestAdapter();
if (!adapter) throw new Error("Cannot compare WebGPU products: an adapter must be there, none was found");
const device = describeAdapter(adapter);

for (const { name, ...size } of sizes) {
  const job = makeJob(size);
  const tile = await tuneWebGpu((await findTestAdapter())!, size, { budgetMs: 5000 });
  const makers: [string, () => Promise<Contestant>][] = [
    ["sparsight, product", () => ourProduct(job)],
    ["sparsight, product with the tuned tile", () => ourProduct(job, tile)],
    ["sparsight, encode() to sparse latents, k = 16", () => ourEncode(job)],
    ["onnxruntime-node, WebGPU provider", () => ortProduct(job)],
    ["@jax-js/jax, webgpu", () => jaxProduct(job)],
  ];
  const contestants: Contestant[] = [];
  for (const [label, make] of makers) {
    try {
      contestants.push({ ...await make(), name: label });
    } catch (cause) {
      console.log(`MISSING: ${label}: ${(cause as Error).message.split("\n")[0]}`);
    }
  }
  await checkAll(contestants);
  const medians = await takeTurns(contestants);
  const gflop = 2e-9 * size.nTokens * size.dModel * size.dSae;
  console.log(
    `\n${name}: ${size.nTokens} tokens, ${size.dModel} × ${size.dSae}, ${gflop.toFixed(2)} GFLOP, on ${device}`,
  );
  console.log(`tuned tile: ${JSON.stringify(tile)}`);
  console.table(contestants.map(({ name }, i) => ({
    name,
    "median ms": Number(medians[i].toFixed(1)),
    "GFLOP/s": Number((1000 * gflop / medians[i]).toFixed(2)),
    "times ours": Number((medians[i] / medians[0]).toFixed(2)),
  })));
  for (const contestant of contestants) await contestant.close();
}

/** Median milliseconds of each, after one run that does not count. */
async function takeTurns(contestants: Contestant[]): Promise<number[]> {
  const times: number[][] = contestants.map(() => []);
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [i, { run }] of contestants.entries()) {
      const start = performance.now();
      await run();
      if (round > 0) times[i].push(performance.now() - start);
    }
  }
  return times.map((all) => all.sort((a, b) => a - b)[ROUNDS >> 1]);
}

/** They have to make the same product, or there is nothing to compare. */
async function checkAll(contestants: Contestant[]): Promise<void> {
  const [expected, ...others] = await Promise.all(contestants.map(({ check }) => check?.()));
  others.filter((numbers) => numbers !== undefined).forEach((numbers) => {
    for (let i = 0; i < 4; i++) assert.ok(Math.abs(numbers[i] - expected![i]) < 1e-3, `${numbers[i]}, ${expected![i]}`);
  });
}

async function ourProduct(job: Job, tile?: EncodeTile): Promise<Contestant> {
  const { nTokens, dModel, dSae, x, wEnc, bEnc } = job;
  const gpu = await GpuDevice.open((await findTestAdapter())!);
  const [scratch, readback] = [new ScratchBuffers(gpu), new Readback(gpu)];
  const program = await gpu.compile(encodeKernel({ subtractBDec: false }, tile));
  const buffers = {
    x: await scratch.storage("x", x.byteLength),
    w_enc: await scratch.storage("w_enc", wEnc.byteLength),
    b_enc: await scratch.storage("b_enc", bEnc.byteLength),
    pre: await scratch.storage("pre", 4 * nTokens * dSae),
  };
  gpu.write(buffers.w_enc, wEnc);
  gpu.write(buffers.b_enc, bEnc);
  const params = encodeParams({ nTokens, dModel, dSae }, { begin: 0, end: dSae });
  const workgroups = encodeWorkgroups({ nTokens, nLatents: dSae }, tile);
  const check = async () => {
    gpu.write(buffers.x, x);
    await gpu.run("encode", [{ program, buffers, params, workgroups }]);
    return new Float32Array((await readback.read([{ buffer: buffers.pre, bytes: 16 }]))[0]);
  };
  return { name: "", run: async () => void await check(), check, close: () => Promise.resolve(gpu.close()) };
}

async function ourEncode({ dModel, dSae, x, wEnc, bEnc }: Job): Promise<Contestant> {
  const backend = await createWebGpuBackend({ adapter: await findTestAdapter() });
  const decoder = { wDec: new Float32Array(dSae * dModel), bDec: new Float32Array(dModel), subtractBDec: false };
  const sae = await backend.load({ dModel, dSae, wEnc, bEnc, ...decoder, rule: { kind: "topK", k: 16, relu: true } });
  return { name: "", run: async () => void await sae.encode(x), close: () => backend.close() };
}

async function ortProduct({ nTokens, dModel, dSae, x, wEnc, bEnc }: Job): Promise<Contestant> {
  const { InferenceSession, Tensor } = await loadOrt();
  const ints = (data: number[]) => BigInt64Array.from(data, BigInt);
  const model = buildOnnx({
    inputs: [{ name: "x", dims: [nTokens, dModel] }],
    constants: [
      { name: "w", dims: [dModel, dSae], data: wEnc },
      { name: "b", dims: [dSae], data: bEnc },
      { name: "starts", dims: [2], data: ints([0, 0]) },
      { name: "ends", dims: [2], data: ints([1, 4]) },
    ],
    nodes: [
      { op: "MatMul", inputs: ["x", "w"], outputs: ["product"] },
      { op: "Add", inputs: ["product", "b"], outputs: ["pre"] },
      // Four numbers out, so that nothing dense is copied.
      { op: "Slice", inputs: ["pre", "starts", "ends"], outputs: ["corner"] },
    ],
    outputs: ["corner"],
  });
  const session = await InferenceSession.create(model, { executionProviders: ["webgpu"] });
  const check = async () => {
    const { corner } = await session.run({ x: new Tensor("float32", x, [nTokens, dModel]) });
    return await corner.getData() as Float32Array;
  };
  return { name: "", run: async () => void await check(), check, close: () => session.release() };
}

/** The little that is used of jax-js. An array is used up by an operation unless `ref` is passed. */
interface JaxArray {
  ref: JaxArray;
  add(other: JaxArray): JaxArray;
  blockUntilReady(): Promise<JaxArray>;
  data(): Promise<Float32Array>;
  dispose(): void;
}

async function jaxProduct({ nTokens, dModel, dSae, x, wEnc, bEnc }: Job): Promise<Contestant> {
  const path = process.env.SPARSIGHT_JAX;
  if (!path) throw new Error("SPARSIGHT_JAX does not name it");
  const jax = await import(pathToFileURL(path).href);
  if (!(await jax.init("webgpu")).includes("webgpu")) throw new Error("it found no adapter");
  jax.defaultDevice("webgpu");
  const array = (data: Float32Array, shape: number[]): JaxArray => jax.numpy.array(data, { shape });
  const [w, b] = [array(wEnc, [dModel, dSae]), array(bEnc, [dSae])];
  const product = () => (jax.numpy.matmul(array(x, [nTokens, dModel]), w.ref) as JaxArray).add(b.ref);
  return {
    name: "",
    run: async () => (await product().blockUntilReady()).dispose(),
    check: () => product().data(),
    close: () => Promise.resolve([w, b].forEach((kept) => kept.dispose())),
  };
}

function makeJob(size: { nTokens: number; dModel: number; dSae: number }): Job {
  const { nTokens, dModel, dSae } = size;
  const random = seededRandom(0);
  const numbers = (length: number, scale: number) => Float32Array.from({ length }, () => (random() - 0.5) * scale);
  return { ...size, x: numbers(nTokens * dModel, 2), wEnc: numbers(dModel * dSae, 0.1), bEnc: numbers(dSae, 1) };
}
