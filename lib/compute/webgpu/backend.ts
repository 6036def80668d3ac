/**
 * The WebGPU back end: one device, and the SAEs loaded on it. Runs on Deno's and the browser's `navigator.gpu`, and on
 * Dawn under Node.
 *
 * @module
 */
import type { Backend, LoadedSae, SaeWeights } from "../contract.ts";
import { loadWithConventions } from "../conventions.ts";
import { describeAdapter, findGpuAdapter } from "../../runtime/gpu.ts";
import { GpuDevice } from "./device.ts";
import { loadWebGpuSae } from "./sae.ts";

/** Options of {@linkcode createWebGpuBackend}. */
export interface WebGpuBackendOptions {
  /**
   * The adapter to use. It can be opened only once, so each back end needs its own.
   *
   * @default {await findGpuAdapter()}
   */
  adapter?: GPUAdapter;
  /**
   * Bytes of device memory for the dense pre-activations of the tokens in flight. Larger batches are cut up.
   *
   * @default {67108864}
   */
  scratchBytes?: number;
  /**
   * Largest buffer to bind to a kernel, in bytes. Dictionaries larger than that are cut into panels.
   *
   * @default {the adapter's limit}
   */
  maxBindingBytes?: number;
}

/**
 * Opens a WebGPU device.
 *
 * @throws {Error} If there is no adapter.
 */
export async function createWebGpuBackend(options: WebGpuBackendOptions = {}): Promise<Backend> {
  const { adapter = await findGpuAdapter(), scratchBytes = 64 * 1024 * 1024, maxBindingBytes = Infinity } = options;
  if (!adapter) {
    throw new Error("Cannot create WebGPU back end: adapter must be a GPUAdapter, current value is undefined");
  }
  const device = describeAdapter(adapter);
  const gpu = await GpuDevice.open(adapter);
  const limits = { scratchBytes, maxBindingBytes: Math.min(maxBindingBytes, gpu.maxBindingBytes) };
  return {
    kind: "webgpu",
    device,
    load(weights: SaeWeights): Promise<LoadedSae> {
      return loadWithConventions(weights, (inner) => loadWebGpuSae(gpu, inner, limits));
    },
    close(): Promise<void> {
      gpu.close();
      return Promise.resolve();
    },
  };
}
