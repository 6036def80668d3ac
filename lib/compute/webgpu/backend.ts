/**
 * The WebGPU back end: one device, and the SAEs loaded on it. Runs on Deno's and the browser's `navigator.gpu`, and on
 * Dawn under Node.
 *
 * @module
 */
import type { Backend, LoadedSae, SaeWeights } from "../contract.ts";
import { loadWithConventions } from "../conventions.ts";
import { describeAdapter, findGpuAdapter, isSoftwareAdapter } from "../../runtime/gpu.ts";
import { chunkTokens } from "./batches.ts";
import { GpuDevice } from "./device.ts";
import { DEFAULT_ENCODE_TILE, type Precision } from "./encode_kernel.ts";
import { loadWebGpuSae } from "./sae.ts";
import { tunedTile } from "./tuner.ts";

/** Options of {@linkcode createWebGpuBackend}. */
export interface WebGpuBackendOptions {
  /**
   * The adapter to use. It can be opened only once, so each back end needs its own.
   *
   * @default {await findGpuAdapter()}
   */
  adapter?: GPUAdapter;
  /**
   * How encoder weights are stored on the device. `float16` halves their memory and the traffic of the one large product;
   * each weight is rounded to 11 significant bits (a relative error of up to 2^-11, 0.05 %), and one below 6e-5 may
   * become zero. Pre-activations are off by up to 2^-11 of `|x| · |w_enc|`, so latents close to a boundary may fall on
   * its other side. Sums are of 32 bits either way. Needs an adapter with `shader-f16`.
   *
   * @default {"float32"}
   */
  precision?: Precision;
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
  /**
   * Whether kernels sum within subgroups where the adapter has them. It changes no number.
   *
   * @default {true}
   */
  subgroups?: boolean;
  /**
   * `auto` measures which way of cutting up the large product is the fastest on this adapter, when an SAE of a size is
   * loaded for the first time, and remembers it; `off` takes the one that is good everywhere.
   *
   * @default "auto", on software adapters "off"
   */
  tune?: "auto" | "off";
}

/**
 * Opens a WebGPU device.
 *
 * @throws {Error} If there is no adapter, or it lacks what `precision` needs.
 * @throws {RangeError} If `precision` or `tune` is none of the values it may have.
 */
export async function createWebGpuBackend(options: WebGpuBackendOptions = {}): Promise<Backend> {
  const { precision = "float32", scratchBytes = 64 * 1024 * 1024, maxBindingBytes = Infinity } = options;
  const { adapter = await findGpuAdapter(), subgroups = true } = options;
  if (!adapter) {
    throw new Error("Cannot create WebGPU back end: adapter must be a GPUAdapter, current value is undefined");
  }
  const { tune = isSoftwareAdapter(adapter) ? "off" : "auto" } = options;
  checkChoice("precision", precision, ["float32", "float16"]);
  checkChoice("tune", tune, ["auto", "off"]);
  if (precision === "float16" && !adapter.features.has("shader-f16")) {
    throw new Error(
      "Cannot create WebGPU back end: precision must be float32 on an adapter without shader-f16, current value is float16",
    );
  }
  const device = describeAdapter(adapter);
  const gpu = await GpuDevice.open(adapter);
  const limits = { scratchBytes, maxBindingBytes: Math.min(maxBindingBytes, gpu.maxBindingBytes) };
  return {
    kind: "webgpu",
    device,
    load(weights: SaeWeights): Promise<LoadedSae> {
      return loadWithConventions(weights, async (inner) => {
        const { dModel, dSae } = inner;
        const size = { dModel, dSae, nTokens: chunkTokens(inner, limits) };
        const tile = tune === "off"
          ? DEFAULT_ENCODE_TILE
          : await tunedTile(gpu, { ...size, precision, adapter: device });
        const kernels = { precision, tile, subgroups: subgroups && gpu.features.subgroups };
        return loadWebGpuSae(gpu, inner, { limits, kernels });
      });
    },
    close(): Promise<void> {
      gpu.close();
      return Promise.resolve();
    },
  };
}

function checkChoice(name: string, value: string, allowed: readonly string[]): void {
  if (allowed.includes(value)) return;
  throw new RangeError(
    `Cannot create WebGPU back end: ${name} must be one of ${allowed.join(", ")}, current value is ${value}`,
  );
}
