/**
 * A GPU adapter for tests, on every machine. Where Linux has no Vulkan driver, SwiftShader (Vulkan on the CPU) is taken
 * out of the npm package `@sparticuz/chromium`, which ships it for headless Chromium, and put in the driver's place.
 *
 * `SPARSIGHT_TEST_ADAPTER=swiftshader` takes SwiftShader even if there is a driver. `SPARSIGHT_REQUIRE_GPU=1` turns a
 * missing adapter, which otherwise skips the GPU tests with a loud line, into an error.
 *
 * @module
 */
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { brotliDecompressSync } from "node:zlib";
import { createWebGpuBackend, type WebGpuBackendOptions } from "../../lib/compute/webgpu/backend.ts";
import type { Backend } from "../../lib/compute/contract.ts";
import { describeAdapter, findGpuAdapter } from "../../lib/runtime/gpu.ts";

const SWIFTSHADER_PACKAGE = "@sparticuz/chromium";
const DRIVER_FILE = "vk_swiftshader_icd.json";

/** A device under test that collects what went wrong on it. */
export interface TestGpu {
  adapter: GPUAdapter;
  device: GPUDevice;
  /** Runs a test body inside error scopes and throws the first error they caught. */
  scoped(body: () => Promise<void>): Promise<void>;
}

/** A back end under test, on a device of its own. */
export interface TestBackend extends TestGpu {
  backend: Backend;
}

/** The adapter for GPU tests, or `undefined` if none could be had. Says on stderr which it is. */
export async function findTestAdapter(): Promise<GPUAdapter | undefined> {
  let reason = "no Vulkan, Metal or Direct3D driver";
  if (process.platform === "linux" && (process.env.SPARSIGHT_TEST_ADAPTER === "swiftshader" || !hasVulkanDevice())) {
    try {
      activateSwiftShader(await unpackSwiftShader());
    } catch (cause) {
      reason += `, and no SwiftShader (${(cause as Error).message})`;
    }
  }
  const adapter = await findGpuAdapter();
  if (adapter) {
    console.error(`GPU TESTS RUN ON: ${describeAdapter(adapter)}`);
  } else if (process.env.SPARSIGHT_REQUIRE_GPU) {
    throw new Error(`Cannot run GPU tests: an adapter must be available, current value is undefined (${reason})`);
  } else {
    console.error(`GPU TESTS ARE SKIPPED: ${reason}`);
  }
  return adapter;
}

/** Opens a plain device, for tests of a single kernel. */
export async function openTestGpu(): Promise<TestGpu | undefined> {
  const adapter = await findTestAdapter();
  return adapter && withScopes(adapter, await adapter.requestDevice({ label: "test" }));
}

/** Opens a WebGPU back end and keeps hold of its device. */
export async function openTestBackend(
  options: Omit<WebGpuBackendOptions, "adapter"> = {},
): Promise<TestBackend | undefined> {
  const adapter = await findTestAdapter();
  if (!adapter) return undefined;
  const requestDevice = adapter.requestDevice.bind(adapter);
  let device: GPUDevice | undefined;
  adapter.requestDevice = async (descriptor) => device = await requestDevice(descriptor);
  const backend = await createWebGpuBackend({ ...options, adapter });
  return { ...withScopes(adapter, device!), backend };
}

function withScopes(adapter: GPUAdapter, device: GPUDevice): TestGpu {
  return {
    adapter,
    device,
    async scoped(body) {
      const filters = ["validation", "out-of-memory", "internal"] as const;
      for (const filter of filters) device.pushErrorScope(filter);
      try {
        await body();
      } finally {
        const errors = await Promise.all(filters.map(() => device.popErrorScope()));
        const first = errors.find((error) => error !== null);
        // deno-lint-ignore no-unsafe-finally -- a GPU error explains whatever the body has thrown
        if (first) throw new Error(`GPU error during test: ${first.message}`);
      }
    },
  };
}

/** Folder with SwiftShader and a Vulkan loader, unpacked once a machine. */
export async function unpackSwiftShader(): Promise<string> {
  const entry = createRequire(import.meta.url).resolve(SWIFTSHADER_PACKAGE);
  const archive = join(dirname(entry), "..", "bin", "swiftshader.tar.br");
  const { version } = JSON.parse(await readFile(join(dirname(entry), "..", "package.json"), "utf8"));
  const folder = join(tmpdir(), `sparsight-swiftshader-${version}`);
  if (existsSync(join(folder, DRIVER_FILE))) return folder;
  const unpacked = await mkdtemp(`${folder}-`);
  for (const { name, bytes } of tarFiles(brotliDecompressSync(await readFile(archive)))) {
    await mkdir(dirname(join(unpacked, name)), { recursive: true });
    await writeFile(join(unpacked, name), bytes);
  }
  // Renamed in one step, so that tests running side by side never see half of it. The first to finish wins.
  await rename(unpacked, folder).catch(() => rm(unpacked, { recursive: true }));
  return folder;
}

/** Makes this process find SwiftShader; has to happen before the first adapter is asked for. */
function activateSwiftShader(folder: string): void {
  process.env.VK_DRIVER_FILES = join(folder, DRIVER_FILE);
  // Loaded here, its name is taken from then on: whoever asks for libvulkan.so.1 gets this one.
  Deno.dlopen(join(folder, "libvulkan.so.1"), {
    vkEnumerateInstanceVersion: { parameters: ["pointer"], result: "i32" },
  });
}

/**
 * Whether the system's Vulkan has any device. Asked of Vulkan itself because asking for an adapter cannot be undone: it
 * settles the process on the drivers it found, or on OpenGL, which lacks features.
 */
function hasVulkanDevice(): boolean {
  try {
    const { symbols } = Deno.dlopen("libvulkan.so.1", {
      vkCreateInstance: { parameters: ["buffer", "pointer", "buffer"], result: "i32" },
      vkDestroyInstance: { parameters: ["pointer", "pointer"], result: "void" },
      vkEnumeratePhysicalDevices: { parameters: ["pointer", "buffer", "pointer"], result: "i32" },
    });
    const createInfo = new Uint32Array(16); // a VkInstanceCreateInfo that wants nothing
    createInfo[0] = 1; // VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO
    const handle = new BigUint64Array(1);
    if (symbols.vkCreateInstance(createInfo, null, handle) !== 0) return false;
    const instance = Deno.UnsafePointer.create(handle[0]);
    const count = new Uint32Array(1);
    symbols.vkEnumeratePhysicalDevices(instance, count, null);
    symbols.vkDestroyInstance(instance, null);
    return count[0] > 0;
  } catch {
    return false; // no loader
  }
}

/** The plain files of a tar archive. */
function* tarFiles(archive: Uint8Array): Generator<{ name: string; bytes: Uint8Array }> {
  const text = (begin: number, length: number) =>
    new TextDecoder().decode(archive.subarray(begin, begin + length)).replace(/\0.*$/s, "");
  for (let header = 0; header < archive.length && archive[header] !== 0;) {
    const size = parseInt(text(header + 124, 12), 8);
    const isFile = ["", "0"].includes(text(header + 156, 1));
    if (isFile) yield { name: text(header, 100), bytes: archive.subarray(header + 512, header + 512 + size) };
    header += 512 + Math.ceil(size / 512) * 512;
  }
}
