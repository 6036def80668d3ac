import assert from "node:assert/strict";
import process from "node:process";
import { describeAdapter, findGpuAdapter, isSoftwareAdapter } from "../../lib/runtime/gpu.ts";

function adapterWith(info: Partial<GPUAdapterInfo>): GPUAdapter {
  const blank = { vendor: "", architecture: "", device: "", description: "", isFallbackAdapter: false };
  return { info: { ...blank, ...info } } as GPUAdapter;
}

/** Puts `gpu` in the place of the runtime's for the time of `body`. */
async function withNavigatorGpu(gpu: unknown, body: () => Promise<void>): Promise<void> {
  const descriptor = Object.getOwnPropertyDescriptor(globalThis, "navigator")!;
  Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
  try {
    await body();
  } finally {
    Object.defineProperty(globalThis, "navigator", descriptor);
  }
}

Deno.test("isSoftwareAdapter() knows the software drivers and leaves GPUs alone", () => {
  const software: Partial<GPUAdapterInfo>[] = [
    { description: "llvmpipe (LLVM 15.0.6, 256 bits)" },
    { vendor: "google", architecture: "swiftshader" },
    { description: "Microsoft Basic Render Driver" },
    { device: "WARP" },
    { description: "some new driver", isFallbackAdapter: true },
  ];
  for (const info of software) assert.equal(isSoftwareAdapter(adapterWith(info)), true, JSON.stringify(info));
  const hardware: Partial<GPUAdapterInfo>[] = [
    { description: "NVIDIA GeForce RTX 4070" },
    { vendor: "apple", architecture: "metal-3" },
    { description: "Intel(R) Iris(R) Xe Graphics (Warpspeed edition)" },
  ];
  for (const info of hardware) assert.equal(isSoftwareAdapter(adapterWith(info)), false, JSON.stringify(info));
});

Deno.test("describeAdapter() prefers a name a person knows", () => {
  assert.equal(
    describeAdapter(adapterWith({ vendor: "4318", device: "10118", description: "NVIDIA GeForce RTX 4070" })),
    "NVIDIA GeForce RTX 4070",
  );
  assert.equal(describeAdapter(adapterWith({ vendor: "apple", architecture: "metal-3" })), "apple metal-3");
  assert.equal(describeAdapter(adapterWith({ vendor: "nvidia", device: "0x2786" })), "nvidia");
  assert.equal(describeAdapter(adapterWith({})), "unnamed GPU");
});

Deno.test("findGpuAdapter() is undefined where there is no adapter or asking fails", async () => {
  await withNavigatorGpu({ requestAdapter: () => Promise.resolve(null) }, async () => {
    assert.equal(await findGpuAdapter(), undefined);
  });
  await withNavigatorGpu({ requestAdapter: () => Promise.reject(new Error("no driver")) }, async () => {
    assert.equal(await findGpuAdapter(), undefined);
  });
});

Deno.test("findGpuAdapter() passes the preference on and leaves the environment as it was", async () => {
  const before = process.env.XDG_RUNTIME_DIR;
  const asked: unknown[] = [];
  const requestAdapter = (options: unknown) => {
    asked.push(options);
    return Promise.resolve(adapterWith({ description: "a" }));
  };
  await withNavigatorGpu({ requestAdapter }, async () => {
    assert.equal((await findGpuAdapter({ powerPreference: "low-power" }))?.info.description, "a");
    await findGpuAdapter();
  });
  assert.deepEqual(asked, [{ powerPreference: "low-power" }, { powerPreference: "high-performance" }]);
  assert.equal(process.env.XDG_RUNTIME_DIR, before);
});
