/**
 * The encoder's product on WebGPU, from activations on the host to a finished result on the device: our kernel, and the
 * same product in onnxruntime's WebGPU provider and in jax-js. On SwiftShader, the only software adapter that
 * onnxruntime's provider takes, and on whatever adapter the machine has.
 *
 * @module
 */
import process from "node:process";
import type * as Jax from "@jax-js/jax";
import { GpuDevice } from "../lib/compute/webgpu/device.ts";
import {
  DEFAULT_ENCODE_TILE,
  encodeKernel,
  encodeParams,
  encodeWorkgroups,
} from "../lib/compute/webgpu/encode_kernel.ts";
import { Readback, ScratchBuffers } from "../lib/compute/webgpu/scratch.ts";
import { tunedTile } from "../lib/compute/webgpu/tuner.ts";
import { buildOnnx } from "../lib/onnx/build.ts";
import { describeAdapter, isSoftwareAdapter } from "../lib/runtime/gpu.ts";
import { loadOrt } from "../lib/runtime/ort.ts";
import { findTestAdapter } from "../tests/support/software_adapter.ts";
import { clock, type Measured, type Missing } from "./clock.ts";
import { readRawStart, readSizes } from "./data.ts";

/** Who makes the product. */
export type ProductMaker = "ours" | "ort" | "jax";

/** Where: on SwiftShader, or on the adapter that the machine has without it. */
export type ProductAdapter = "swiftshader" | "system";

/** Tasks by `webgpu_<maker>_<adapter>`. */
export const webgpuTasks: Readonly<
  Record<string, (folder: string) => Promise<Omit<Measured, "peakMb"> | Missing>>
> = Object.fromEntries(
  (["ours", "ort", "jax"] as const).flatMap((maker) =>
    (["swiftshader", "system"] as const).map((adapter) => {
      const task = (folder: string) => measureProduct(folder, { maker, adapter });
      return [`webgpu_${maker}_${adapter}`, task];
    })
  ),
);

/** `x · wEnc + bEnc`, for x of shape `[nTokens, dModel]` and `[nTokens, nLatents]` numbers coming out. */
interface Job {
  readonly nTokens: number;
  readonly dModel: number;
  readonly nLatents: number;
  readonly x: Float32Array;
  readonly wEnc: Float32Array;
  readonly bEnc: Float32Array;
}

/** One way to make the product. */
interface Product {
  /** Makes it, and waits until it is there. Next to nothing is copied back. */
  run(): Promise<void>;
  /** Makes it and copies all of it to the host. */
  read(): Promise<Float32Array>;
}

/** What is said of a program that cannot run on this machine. */
class Unavailable extends Error {}

const makers: Record<ProductMaker, (job: Job, adapter: GPUAdapter) => Promise<Product>> = {
  ours: ourProduct,
  ort: ortProduct,
  jax: jaxProduct,
};

// Numbers that are compared, from the first to the last.
const N_SAMPLED = 64;

async function measureProduct(
  folder: string,
  { maker, adapter: wanted }: { maker: ProductMaker; adapter: ProductAdapter },
): Promise<Omit<Measured, "peakMb"> | Missing> {
  try {
    const { dModel, webgpu: { nTokens, nLatents, seconds } } = await readSizes(folder);
    const job = {
      nTokens,
      dModel,
      nLatents,
      x: await readRawStart(folder, "x", nTokens * dModel),
      // Of random numbers any are as good: the first make a smaller encoder, and a bias that differs between latents.
      wEnc: await readRawStart(folder, "wEnc", dModel * nLatents),
      bEnc: await readRawStart(folder, "wDec", nLatents),
    };
    // Asked for by all three: it decides which driver this process has.
    const adapter = await findAdapter(wanted);
    const product = await makers[maker](job, adapter);
    const all = await product.read();
    const sample = Array.from({ length: N_SAMPLED }, (_, i) => all[Math.floor(i * (all.length - 1) / (N_SAMPLED - 1))]);
    await product.run();
    const start = clock();
    let nRuns = 0;
    // By time and not by number: a GPU is a thousand times as fast as SwiftShader.
    for (; clock() - start < seconds; nRuns++) await product.run();
    return { seconds: clock() - start, nDone: nRuns * nTokens, sample, device: describeAdapter(adapter) };
  } catch (cause) {
    if (cause instanceof Unavailable) return { missing: cause.message };
    throw cause;
  }
}

async function findAdapter(wanted: ProductAdapter): Promise<GPUAdapter> {
  if (wanted === "swiftshader") process.env.SPARSIGHT_TEST_ADAPTER = "swiftshader";
  else delete process.env.SPARSIGHT_TEST_ADAPTER;
  const adapter = await findTestAdapter();
  const found = adapter ? describeAdapter(adapter) : "none";
  if (adapter && /swiftshader/i.test(found) === (wanted === "swiftshader")) return adapter;
  throw new Unavailable(`no ${wanted === "swiftshader" ? "SwiftShader" : "adapter of its own"}, found ${found}`);
}

async function ourProduct(job: Job, adapter: GPUAdapter): Promise<Product> {
  const { nTokens, dModel, nLatents, x, wEnc, bEnc } = job;
  const [device, isSoftware] = [describeAdapter(adapter), isSoftwareAdapter(adapter)];
  const gpu = await GpuDevice.open(adapter);
  const [scratch, readback] = [new ScratchBuffers(gpu), new Readback(gpu)];
  // As the back end does by default.
  const tile = isSoftware
    ? DEFAULT_ENCODE_TILE
    : await tunedTile(gpu, { adapter: device, nTokens, dModel, dSae: nLatents });
  const program = await gpu.compile(encodeKernel({ subtractBDec: false }, tile));
  const buffers = {
    x: await scratch.storage("x", x.byteLength),
    w_enc: await scratch.storage("w_enc", wEnc.byteLength),
    b_enc: await scratch.storage("b_enc", bEnc.byteLength),
    pre: await scratch.storage("pre", 4 * nTokens * nLatents),
  };
  gpu.write(buffers.w_enc, wEnc);
  gpu.write(buffers.b_enc, bEnc);
  const params = encodeParams({ nTokens, dModel, dSae: nLatents }, { begin: 0, end: nLatents });
  const workgroups = encodeWorkgroups({ nTokens, nLatents }, tile);
  const make = async (bytes: number) => {
    gpu.write(buffers.x, x);
    await gpu.run("encode", [{ program, buffers, params, workgroups }]);
    return new Float32Array((await readback.read([{ buffer: buffers.pre, bytes }]))[0]);
  };
  return { run: async () => void await make(16), read: () => make(4 * nTokens * nLatents) };
}

async function ortProduct({ nTokens, dModel, nLatents, x, wEnc, bEnc }: Job): Promise<Product> {
  const { InferenceSession, Tensor } = await loadOrt();
  const model = buildOnnx({
    inputs: [{ name: "x", dims: [nTokens, dModel] }],
    constants: [
      { name: "w", dims: [dModel, nLatents], data: wEnc },
      { name: "b", dims: [nLatents], data: bEnc },
      { name: "starts", dims: [2], data: BigInt64Array.of(0n, 0n) },
      { name: "ends", dims: [2], data: BigInt64Array.of(1n, 4n) },
    ],
    nodes: [
      { op: "MatMul", inputs: ["x", "w"], outputs: ["product"] },
      { op: "Add", inputs: ["product", "b"], outputs: ["pre"] },
      { op: "Slice", inputs: ["pre", "starts", "ends"], outputs: ["corner"] },
    ],
    outputs: ["pre", "corner"],
  });
  const session = await InferenceSession.create(model, { executionProviders: ["webgpu"] })
    .catch((cause: Error) => {
      // What comes before is a place in its sources and what it had asserted there.
      throw new Unavailable(cause.message.replace(/^.* was false\.\s*/s, "").split("\n")[0]);
    });
  const make = async (output: "pre" | "corner") => {
    const made = await session.run({ x: new Tensor("float32", x, [nTokens, dModel]) }, [output]);
    return await made[output].getData() as Float32Array;
  };
  return { run: async () => void await make("corner"), read: () => make("pre") };
}

async function jaxProduct({ nTokens, dModel, nLatents, x, wEnc, bEnc }: Job): Promise<Product> {
  // Not a literal: a package that is not installed must be missed here, and not when the program is loaded.
  const name: string = "@jax-js/jax";
  const jax = await import(name).catch((cause: Error) => {
    throw new Unavailable(`${name} is not installed (${cause.message.split("\n")[0]})`);
  }) as typeof Jax;
  if (!(await jax.init("webgpu")).includes("webgpu")) throw new Unavailable(`${name} finds no adapter`);
  jax.defaultDevice("webgpu");
  const array = (data: Float32Array, shape: number[]) => jax.numpy.array(data as Float32Array<ArrayBuffer>, { shape });
  const [w, b] = [array(wEnc, [dModel, nLatents]), array(bEnc, [nLatents])];
  // An array is used up by an operation unless `ref` is passed.
  const make = () => jax.numpy.matmul(array(x, [nTokens, dModel]), w.ref).add(b.ref);
  return {
    run: async () => (await make().blockUntilReady()).dispose(),
    read: async () => await make().data() as Float32Array,
  };
}
