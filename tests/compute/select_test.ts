import assert from "node:assert/strict";
import process from "node:process";
import { type BackendChoice, backendVariable, openBackend } from "../../lib/compute/select.ts";

/** An adapter with a name, whose device cannot be opened: the error shows that it was asked for one. */
function namedAdapter(info: Partial<GPUAdapterInfo>): GPUAdapter {
  const blank = { vendor: "", architecture: "", device: "", description: "", isFallbackAdapter: false };
  return {
    info: { ...blank, ...info },
    limits: { maxStorageBufferBindingSize: 2 ** 27, maxBufferSize: 2 ** 28 },
    features: new Set(),
    requestDevice: () => Promise.reject(new Error(`device of ${info.description} was asked for`)),
  } as unknown as GPUAdapter;
}

const hardware = namedAdapter({ description: "NVIDIA GeForce RTX 4070" });
const software = namedAdapter({ description: "llvmpipe (LLVM 15.0.6, 256 bits)" });
const opensSoftware = { message: "device of llvmpipe (LLVM 15.0.6, 256 bits) was asked for" };

/** Runs `body` with the environment variable set, or taken out, and puts it back. */
async function withVariable(value: string | undefined, body: () => Promise<void>): Promise<void> {
  const before = process.env[backendVariable];
  const set = (to: string | undefined) => {
    if (to === undefined) delete process.env[backendVariable];
    else process.env[backendVariable] = to;
  };
  set(value);
  try {
    await body();
  } finally {
    set(before);
  }
}

/** Runs `body` on a runtime whose WebGPU finds this adapter, or none. */
async function withFoundAdapter(adapter: GPUAdapter | null, body: () => Promise<void>): Promise<void> {
  const descriptor = Object.getOwnPropertyDescriptor(globalThis, "navigator")!;
  const gpu = { requestAdapter: () => Promise.resolve(adapter) };
  Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
  try {
    await body();
  } finally {
    Object.defineProperty(globalThis, "navigator", descriptor);
  }
}

async function assertCpu(options: Parameters<typeof openBackend>[0]): Promise<void> {
  const backend = await openBackend({ ...options, onWarning: (message) => assert.fail(message) });
  assert.equal(backend.kind, "cpu");
  await backend.close();
}

/** The GPU is tried. It cannot be opened, so that the CPU takes over, and says so once. */
async function assertTriesHardware(options: Parameters<typeof openBackend>[0]): Promise<void> {
  const warnings: string[] = [];
  const backend = await openBackend({ ...options, threads: 2, onWarning: (message) => warnings.push(message) });
  assert.deepEqual([backend.kind, warnings], ["cpu", [
    "NVIDIA GeForce RTX 4070 failed, going on with onnxruntime, 2 threads: device of NVIDIA GeForce RTX 4070 was asked for",
  ]]);
  await backend.close();
}

Deno.test("openBackend() takes the CPU where auto finds a software adapter or none, and a GPU where there is one", async () => {
  await withVariable(undefined, async () => {
    for (const backend of [undefined, "auto"] as const) {
      await assertCpu({ backend, adapter: software });
      await assertCpu({ backend, adapter: namedAdapter({ description: "some driver", isFallbackAdapter: true }) });
      await assertTriesHardware({ backend, adapter: hardware });
      await withFoundAdapter(null, () => assertCpu({ backend }));
      await withFoundAdapter(software, () => assertCpu({ backend }));
      await withFoundAdapter(hardware, () => assertTriesHardware({ backend }));
    }
  });
});

Deno.test("openBackend() follows a name, whatever the adapter", async () => {
  await assertCpu({ backend: "cpu", adapter: hardware });
  await assert.rejects(openBackend({ backend: "webgpu", adapter: software }), opensSoftware);
  await withFoundAdapter(software, () => assert.rejects(openBackend({ backend: "webgpu" }), opensSoftware));
});

Deno.test("openBackend() prefers the adapter it is given to the one that would be found", async () => {
  await withFoundAdapter(hardware, async () => {
    await assert.rejects(openBackend({ backend: "webgpu", adapter: software }), opensSoftware);
    await assertCpu({ backend: "auto", adapter: software });
  });
});

Deno.test("openBackend() follows the environment variable where no option is given", async () => {
  await withVariable("cpu", async () => {
    await assertCpu({ adapter: hardware });
    await assert.rejects(openBackend({ backend: "webgpu", adapter: hardware }), {
      message: "device of NVIDIA GeForce RTX 4070 was asked for",
    });
  });
  await withVariable("webgpu", async () => {
    await assert.rejects(openBackend({ adapter: software }), opensSoftware);
    await assertCpu({ backend: "auto", adapter: software });
  });
});

Deno.test("openBackend() says what helps where WebGPU is asked for and there is no adapter", async () => {
  await withFoundAdapter(null, async () => {
    await assert.rejects(openBackend({ backend: "webgpu" }), {
      name: "Error",
      message:
        "Cannot open back end: a GPU adapter must be there for webgpu, none was found; install a Vulkan or Metal " +
        "driver, or use backend cpu",
    });
  });
});

Deno.test("openBackend() lists the choices where a name is unknown", async () => {
  const unknown = {
    name: "RangeError",
    message: "Cannot open back end: backend must be one of auto, webgpu, cpu, current value is cuda",
  };
  await assert.rejects(openBackend({ backend: "cuda" as BackendChoice }), unknown);
  await withVariable("cuda", () => assert.rejects(openBackend(), unknown));
});

Deno.test("openBackend() passes the options of the WebGPU back end on, and does not take a mistake in them for a failure", async () => {
  const wrong = { name: "RangeError", message: /: tune must be one of auto, off, current value is sometimes$/ };
  for (const backend of ["auto", "webgpu"] as const) {
    const webgpu = { tune: "sometimes" as "auto" };
    await assert.rejects(openBackend({ backend, adapter: hardware, webgpu }), wrong);
  }
});

Deno.test("openBackend() passes the number of threads on", async () => {
  const backend = await openBackend({ backend: "cpu", threads: 3 });
  assert.equal(backend.device, "onnxruntime, 3 threads");
  await backend.close();
});
