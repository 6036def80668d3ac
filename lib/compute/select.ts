/**
 * Picks the back end. `auto` takes WebGPU on a real GPU, and the CPU where the only adapter is software, which is 20
 * to 50 times slower than onnxruntime on the same cores. Where that GPU then fails, the CPU goes on with its work.
 *
 * @module
 */
import process from "node:process";
import { describeAdapter, findGpuAdapter, isSoftwareAdapter } from "../runtime/gpu.ts";
import type { Backend } from "./contract.ts";
import { createCpuBackend } from "./cpu/backend.ts";
import { withCpuFallback } from "./fallback.ts";
import { createWebGpuBackend, type WebGpuBackendOptions } from "./webgpu/backend.ts";

/** What can be asked for. */
export type BackendChoice = "auto" | "webgpu" | "cpu";

/** The choices there are. */
export const backendChoices: readonly BackendChoice[] = ["auto", "webgpu", "cpu"];

/** Environment variable that is followed where no option is given. */
export const backendVariable = "SPARSIGHT_BACKEND";

/** Options of {@linkcode openBackend}. */
export interface OpenBackendOptions {
  /**
   * Which back end.
   *
   * @default the environment variable `SPARSIGHT_BACKEND`, else "auto"
   */
  backend?: BackendChoice;
  /**
   * Threads of the CPU back end; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
  /**
   * GPU to use instead of the one that would be found.
   *
   * @default the system's preferred adapter
   */
  adapter?: GPUAdapter;
  /**
   * How the WebGPU back end works, where that is chosen.
   *
   * @default {{}}
   */
  webgpu?: Omit<WebGpuBackendOptions, "adapter">;
  /**
   * Told, once, that `auto` has gone over from a GPU to the CPU, and why.
   *
   * @default {console.warn}
   */
  onWarning?: (message: string) => void;
}

/**
 * The GPU that a choice means, `undefined` for the CPU.
 *
 * @param action What cannot be done without, for errors.
 * @throws {RangeError} If the choice is none of {@linkcode backendChoices}.
 * @throws {Error} If WebGPU is asked for by name and there is no adapter.
 */
export async function chooseAdapter(
  options: Pick<OpenBackendOptions, "backend" | "adapter">,
  action: string,
): Promise<{ choice: BackendChoice; adapter: GPUAdapter | undefined }> {
  const choice = (options.backend ?? (process.env[backendVariable] || "auto")) as BackendChoice;
  if (!backendChoices.includes(choice)) {
    throw new RangeError(
      `Cannot ${action}: backend must be one of ${backendChoices.join(", ")}, current value is ${choice}`,
    );
  }
  if (choice === "cpu") return { choice, adapter: undefined };
  const adapter = options.adapter ?? await findGpuAdapter();
  if (choice === "webgpu" && adapter === undefined) {
    throw new Error(
      `Cannot ${action}: a GPU adapter must be there for webgpu, none was found; install a Vulkan or Metal driver, or use ` +
        "backend cpu",
    );
  }
  const isSoftware = adapter !== undefined && isSoftwareAdapter(adapter);
  return { choice, adapter: choice === "auto" && isSoftware ? undefined : adapter };
}

/**
 * Opens a compute back end. With `auto`, a GPU that cannot be opened, is lost or has too little memory is left for the
 * CPU, with one warning; its SAEs move along and the batch that failed is done again. A GPU that is asked for by name
 * is never left.
 *
 * @throws {RangeError} If the choice is none of {@linkcode backendChoices}.
 * @throws {Error} If WebGPU is asked for by name and there is no adapter.
 */
export async function openBackend(options: OpenBackendOptions = {}): Promise<Backend> {
  const { threads = 0, webgpu = {}, onWarning = console.warn } = options;
  const { choice, adapter } = await chooseAdapter(options, "open back end");
  if (adapter === undefined) return await createCpuBackend({ threads });
  if (choice === "webgpu") return await createWebGpuBackend({ ...webgpu, adapter });
  const openCpu = () => createCpuBackend({ threads });
  let gpu: Backend;
  try {
    gpu = await createWebGpuBackend({ ...webgpu, adapter });
  } catch (cause) {
    // A mistake in an option is the caller's.
    if (cause instanceof RangeError) throw cause;
    const cpu = await openCpu();
    onWarning(`${describeAdapter(adapter)} failed, going on with ${cpu.device}: ${(cause as Error).message}`);
    return cpu;
  }
  return withCpuFallback(gpu, { openCpu, onWarning });
}
