/** Kernels one by one on an adapter, and how their mistakes are reported. */
import assert from "node:assert/strict";
import { BufferUsage, GpuDevice } from "../../lib/compute/webgpu/device.ts";
import {
  DEFAULT_ENCODE_TILE,
  encodeKernel,
  encodeParams,
  type EncodeTile,
  encodeWorkgroups,
} from "../../lib/compute/webgpu/encode_kernel.ts";
import { type Kernel, padToVec4 } from "../../lib/compute/webgpu/kernel.ts";
import { compilePrograms } from "../../lib/compute/webgpu/programs.ts";
import { ScratchBuffers } from "../../lib/compute/webgpu/scratch.ts";
import { selectKernel } from "../../lib/compute/webgpu/select_kernel.ts";
import { assertSameNumbers } from "../support/numeric_assertions.ts";
import { randomIntegers, randomWeights, referencePreActivations, seededRandom } from "../support/reference.ts";
import { findTestAdapter } from "../support/software_adapter.ts";

const adapter = await findTestAdapter();
const gpu = adapter && await GpuDevice.open(adapter);
const ignore = !gpu;

Deno.test({
  name: "encodeKernel() gives the same numbers whatever the tile",
  ignore,
  async fn() {
    const [nTokens, dModel, dSae] = [70, 33, 131];
    const weights = randomWeights({ dModel, dSae }, { rule: { kind: "relu" }, integers: true });
    const x = randomIntegers(nTokens * dModel, seededRandom(5), { limit: 3 });
    const expected = Float32Array.from(referencePreActivations(weights, x));
    const tiles: EncodeTile[] = [
      { tokens: 64, latents: 128, depth: 16, blockTokens: 8, blockLatents: 8 },
      { tokens: 32, latents: 64, depth: 8, blockTokens: 4, blockLatents: 4 },
      { tokens: 16, latents: 32, depth: 4, blockTokens: 2, blockLatents: 16 },
      { tokens: 32, latents: 64, depth: 8, blockTokens: 4, blockLatents: 4, unroll: 8 },
    ];
    const [xPitch, pitch] = [padToVec4(dModel), padToVec4(dSae)];
    for (const tile of tiles) {
      const pre = await runKernel(encodeKernel(weights, tile), {
        inputs: {
          x: padded(x, dModel, xPitch),
          w_enc: padded(weights.wEnc, dSae, pitch),
          b_enc: padded(weights.bEnc, dSae, pitch),
        },
        params: encodeParams({ nTokens, dModel, dSae }, { begin: 0, end: dSae }),
        workgroups: encodeWorkgroups({ nTokens, nLatents: dSae }, tile),
        output: { name: "pre", bytes: 4 * nTokens * pitch },
      });
      const values = new Float32Array(pre);
      for (let t = 0; t < nTokens; t++) {
        const row = values.subarray(t * pitch, t * pitch + dSae);
        assertSameNumbers(row, expected.subarray(t * dSae, (t + 1) * dSae), `${JSON.stringify(tile)}, token ${t}`);
      }
    }
  },
});

Deno.test({
  name: "selectKernel() orders infinities, zeros, tiny numbers and NaN, and cuts ties at the last latent that fits",
  ignore,
  async fn() {
    const row = Float32Array.of(1, -Infinity, 2, NaN, 0, 2, Infinity, -1, 2, 1e-37);
    // Descending: Infinity (6), 2 (2, 5, 8), 1 (0), 1e-37 (9), 0 (4), -1 (7), -Infinity (1), NaN (3).
    const expected: [value: number, latent: number][] = [
      [Infinity, 9],
      [2, 2],
      [2, 5],
      [2, 9],
      [1, 9],
      [row[9], 9],
      [0, 9],
      [-1, 9],
      [-Infinity, 9],
    ];
    for (const [i, [value, latent]] of expected.entries()) {
      const [key, last] = await thresholdOf(row, i + 1);
      assert.equal(valueOfKey(key), value, `k = ${i + 1}`);
      // Any latent from the last equal one on draws the same line.
      assert.equal(last, latent, `k = ${i + 1}`);
    }
    assert.deepEqual(await thresholdOf(row, 10), [0, 9]);
  },
});

Deno.test({
  name: "compile() reports line, column and source of a kernel that is not WGSL",
  ignore,
  async fn() {
    const broken: Kernel = { label: "broken", code: "fn fine() {}\n  let oops = ;\n", bindings: [] };
    await assert.rejects(gpu!.compile(broken), {
      name: "SyntaxError",
      message:
        /^Cannot compile kernel "broken": WGSL must be valid, current messages are\n2:\d+ [^]+\n {3}2 {4}let oops = ;/,
    });
    await gpu!.compile(selectKernel({ dSae: 7, k: 2 })); // the device is none the worse for it
  },
});

Deno.test({
  name: "compilePrograms() does without subgroups where the compiler does not take them",
  ignore: ignore || gpu.features.subgroups,
  async fn() {
    const rule = { kind: "topK", k: 2, relu: true } as const;
    const weights = { ...randomWeights({ dModel: 5, dSae: 7 }, { rule }), rule, normalization: undefined };
    const kernels = { precision: "float32", tile: DEFAULT_ENCODE_TILE } as const;
    const { select, count, write } = await compilePrograms(gpu!, weights, { ...kernels, subgroups: true });
    for (const program of [select!, count, write]) assert.doesNotMatch(program.kernel.code, /subgroup[A-Z]/);
  },
});

Deno.test({
  name: "run() rejects a dispatch that WebGPU finds invalid",
  ignore,
  async fn() {
    const program = await gpu!.compile(selectKernel({ dSae: 7, k: 2 }));
    const scratch = new ScratchBuffers(gpu!);
    const buffers = { pre: await scratch.storage("pre", 32), thresholds: await scratch.staging(32) };
    await assert.rejects(gpu!.run("select", [{ program, buffers, workgroups: [1] }]), {
      name: "Error",
      message: /^Cannot run select: WebGPU call must be valid \([^]+\)$/,
    });
    scratch.dispose();
  },
});

Deno.test({
  name: "close() frees the device of the kernel tests",
  ignore,
  fn() {
    gpu!.close();
    assert.throws(() => gpu!.assertUsable("go on"), {
      message: "Cannot go on: WebGPU device must be open, current state is closed",
    });
  },
});

async function runKernel(
  kernel: Kernel,
  call: {
    inputs: Record<string, Float32Array>;
    params?: number[];
    workgroups: [number, number?];
    output: { name: string; bytes: number };
  },
): Promise<ArrayBuffer> {
  const { inputs, params, workgroups, output } = call;
  const scratch = new ScratchBuffers(gpu!);
  try {
    const buffers = { [output.name]: await scratch.storage(output.name, output.bytes) };
    for (const [name, data] of Object.entries(inputs)) {
      buffers[name] = await gpu!.createBuffer(name, {
        bytes: data.byteLength,
        usage: BufferUsage.storage | BufferUsage.copyDestination,
      });
      gpu!.write(buffers[name], data);
    }
    await gpu!.run(kernel.label, [{ program: await gpu!.compile(kernel), buffers, params, workgroups }]);
    const parts = [{ buffer: buffers[output.name], bytes: output.bytes }];
    const [result] = await gpu!.read(parts, { staging: await scratch.staging(output.bytes) });
    for (const name of Object.keys(inputs)) buffers[name].destroy();
    return result;
  } finally {
    scratch.dispose();
  }
}

async function thresholdOf(row: Float32Array, k: number): Promise<[key: number, latent: number]> {
  const result = await runKernel(selectKernel({ dSae: row.length, k }), {
    inputs: { pre: padded(row, row.length, padToVec4(row.length)) },
    workgroups: [1],
    output: { name: "thresholds", bytes: 8 },
  });
  const [key, latent] = new Uint32Array(result);
  return [key, latent];
}

/** The number whose sort key is `key`. */
function valueOfKey(key: number): number {
  const bits = key >= 0x80000000 ? key - 0x80000000 : ~key;
  return new Float32Array(Uint32Array.of(bits).buffer)[0];
}

function padded(matrix: Float32Array, width: number, pitch: number): Float32Array {
  const out = new Float32Array((matrix.length / width) * pitch);
  for (let row = 0; row * width < matrix.length; row++) {
    out.set(matrix.subarray(row * width, (row + 1) * width), row * pitch);
  }
  return out;
}
