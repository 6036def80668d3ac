/**
 * The engines that training is tested on: the CPU's, and WebGPU's on one software adapter that all tests of a file share.
 *
 * @module
 */
import { GpuDevice } from "../../lib/compute/webgpu/device.ts";
import { openCpuEngine } from "../../lib/train/cpu/engine.ts";
import type { OpenEngine } from "../../lib/train/open_engine.ts";
import { openWebGpuEngine } from "../../lib/train/webgpu/engine.ts";
import type { TrainMemoryLimits } from "../../lib/train/webgpu/memory.ts";
import { findTestAdapter } from "../support/software_adapter.ts";

/** An engine under test. */
export interface TestEngine {
  readonly kind: "cpu" | "webgpu";
  readonly open: OpenEngine;
  /** Whether there is no adapter for it. */
  readonly ignore: boolean;
}

/** The CPU's engine. */
export const cpuEngine: TestEngine = { kind: "cpu", open: openCpuEngine, ignore: false };

/** WebGPU's engine, all of them on one device; `openWith` limits what they take of it. */
export async function findWebGpuEngine(): Promise<TestEngine & { openWith(limits: TrainMemoryLimits): OpenEngine }> {
  const adapter = await findTestAdapter();
  let device: Promise<GpuDevice> | undefined;
  const openWith = (limits: TrainMemoryLimits): OpenEngine => async (options) => {
    device ??= GpuDevice.open(adapter!);
    return await openWebGpuEngine(options, { gpu: await device, device: "test", ...limits });
  };
  return { kind: "webgpu", ignore: adapter === undefined, open: openWith({}), openWith };
}
