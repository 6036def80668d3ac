import assert from "node:assert/strict";
import { createWebGpuBackend } from "../../lib/compute/webgpu/backend.ts";
import { scalarWeights, topK } from "../support/backend_case.ts";
import { backendCases } from "../support/backend_cases.ts";
import { openTestBackend } from "../support/software_adapter.ts";

const whole = await openTestBackend();
// Room for three tokens of the widest case, and dictionaries in panels: images and weights come in parts.
const parts = await openTestBackend({ scratchBytes: 20_000, maxBindingBytes: 65_536 });
const ignore = !whole || !parts;

for (const { name, run } of backendCases) {
  Deno.test({ name: `webgpu ${name}`, ignore, fn: () => whole!.scoped(() => run(whole!.backend)) });
}

for (
  const { name, run } of backendCases.filter(({ name }) =>
    /exact on integers: (130|3) tokens|concurrent|empty/.test(name)
  )
) {
  Deno.test({ name: `webgpu in parts ${name}`, ignore, fn: () => parts!.scoped(() => run(parts!.backend)) });
}

Deno.test({
  name: "webgpu encode() of a disposed SAE says so, and dispose() may be called twice",
  ignore,
  fn: () =>
    whole!.scoped(async () => {
      const sae = await whole!.backend.load(scalarWeights([1, 2], topK(1, true)));
      const underway = sae.encode(Float32Array.of(3));
      await sae.dispose();
      await sae.dispose();
      assert.deepEqual((await underway).values, Float32Array.of(6));
      await assert.rejects(sae.encode(Float32Array.of(3)), {
        name: "Error",
        message: "Cannot encode batch: SAE must be loaded, current state is disposed",
      });
    }),
});

Deno.test({
  name: "webgpu load() refuses a residual stream too wide to bind",
  ignore,
  fn: () =>
    parts!.scoped(async () => {
      const dModel = 5000;
      const weights = { ...scalarWeights([1], topK(1, true)), dModel };
      const wide = { ...weights, wEnc: new Float32Array(dModel), wDec: new Float32Array(dModel) };
      await assert.rejects(parts!.backend.load({ ...wide, bDec: new Float32Array(dModel) }), {
        name: "RangeError",
        message: "Cannot load SAE: four latents must fit in the 65536 bytes a kernel can bind, current size is 80000",
      });
    }),
});

Deno.test({
  name: "webgpu close() makes later calls fail with a clear error",
  ignore,
  async fn() {
    const sae = await whole!.backend.load(scalarWeights([1, 2], topK(1, true)));
    await whole!.backend.close();
    await parts!.backend.close();
    const closed = { name: "Error", message: /WebGPU device must be open, current state is closed$/ };
    await assert.rejects(sae.encode(Float32Array.of(3)), closed);
    await assert.rejects(sae.imageMaxima(Float32Array.of(3), { tokensPerImage: 1 }), closed);
    await assert.rejects(whole!.backend.load(scalarWeights([1], topK(1, true))), closed);
  },
});

Deno.test({
  name: "webgpu encode() on a lost device says so",
  ignore,
  async fn() {
    const gpu = (await openTestBackend())!;
    const sae = await gpu.backend.load(scalarWeights([1, 2], topK(1, true)));
    gpu.device.destroy(); // behind the back of the back end
    await gpu.device.lost;
    await assert.rejects(sae.encode(Float32Array.of(3)), {
      name: "Error",
      message: /^Cannot encode batch: WebGPU device must be open, current state is lost \(.+\)$/,
    });
    await gpu.backend.close();
  },
});

Deno.test("createWebGpuBackend() names what it lacks where there is no adapter", async () => {
  const descriptor = Object.getOwnPropertyDescriptor(globalThis, "navigator")!;
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu: { requestAdapter: () => null } },
    configurable: true,
  });
  try {
    await assert.rejects(createWebGpuBackend(), {
      name: "Error",
      message: "Cannot create WebGPU back end: adapter must be a GPUAdapter, current value is undefined",
    });
  } finally {
    Object.defineProperty(globalThis, "navigator", descriptor);
  }
});
