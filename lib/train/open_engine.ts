/**
 * Picks where training is computed, by the rule of `openBackend()`: a GPU if there is a real one, else the CPU.
 *
 * @module
 */
import { type BackendChoice, chooseAdapter } from "../compute/select.ts";
import { GpuDevice } from "../compute/webgpu/device.ts";
import { GpuFailure } from "../compute/webgpu/watch.ts";
import { describeAdapter } from "../runtime/gpu.ts";
import { openCpuEngine } from "./cpu/engine.ts";
import type { Engine, EngineOptions } from "./engine.ts";
import { openWebGpuEngine } from "./webgpu/engine.ts";

/** Opens an engine. */
export type OpenEngine = (options: EngineOptions) => Promise<Engine>;

/** Where to train. */
export interface OpenEngineOptions {
  /** @default the environment variable `SPARSIGHT_BACKEND`, else "auto" */
  backend?: BackendChoice;
  /** @default the system's preferred adapter */
  adapter?: GPUAdapter;
  /** @default {console.warn} */
  onWarning?: (message: string) => void;
}

/**
 * Opens the engine that was asked for.
 *
 * @throws {RangeError} If `backend` is none of the choices, or the dictionary is too large for a GPU asked for by name.
 * @throws {Error} If a GPU is asked for by name and there is none, or it lacks the memory.
 */
export async function openEngine(engine: EngineOptions, options: OpenEngineOptions): Promise<Engine> {
  const { onWarning = console.warn } = options;
  const { choice, adapter } = await chooseAdapter(options, "train SAE");
  if (adapter === undefined) return await openCpuEngine(engine);
  const device = describeAdapter(adapter);
  try {
    const gpu = await GpuDevice.open(adapter);
    try {
      const opened = await openWebGpuEngine(engine, { gpu, device });
      return { ...opened, close: () => opened.close().finally(() => gpu.close()) };
    } catch (cause) {
      gpu.close();
      throw cause;
    }
  } catch (cause) {
    if (choice === "webgpu") throw cause;
    onWarning(`${device} failed, training on the CPU: ${(cause as Error).message}`);
    return await openCpuEngine(engine);
  }
}

/**
 * Says of a step that a GPU has failed in where training can go on: what it had learned is lost with it.
 *
 * @param at Steps done before.
 */
export async function explainFailure<T>(
  taking: Promise<T>,
  at: { step: number; nSteps: number; device: string },
): Promise<T> {
  try {
    return await taking;
  } catch (cause) {
    if (!(cause instanceof GpuFailure)) throw cause;
    const { step, nSteps, device } = at;
    const remedy = cause.reason === "memory" ? "choose a smaller batchSize, or" : "go on from the last checkpoint, or";
    throw new Error(
      `Cannot go on training after step ${step} of ${nSteps}: ${device} must not fail, it did (${cause.message}); ` +
        `${remedy} use backend cpu`,
      { cause },
    );
  }
}
