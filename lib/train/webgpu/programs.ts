/**
 * The kernels that every trainer needs, compiled for a device. Sizes come in their `params`, so each is compiled once.
 *
 * @module
 */
import type { GpuDevice, Program } from "../../compute/webgpu/device.ts";
import { decodeRowsKernel, slopesKernel } from "./decode_kernel.ts";
import { dotsKernel, gatherKernel } from "./entry_kernels.ts";
import { finishKernel, normalizeKernel } from "./row_kernels.ts";
import { sumKernel } from "./sum_kernel.ts";
import { subtractKernel } from "./subtract_kernel.ts";

const kernels = {
  subtract: subtractKernel(),
  decode: decodeRowsKernel(),
  slopes: slopesKernel({ residual: false }),
  slopesAndResidual: slopesKernel({ residual: true }),
  dots: dotsKernel(),
  gather: gatherKernel(),
  sum: sumKernel({ weights: false }),
  sumWeighted: sumKernel({ weights: true }),
  finish: finishKernel(),
  normalize: normalizeKernel(),
};

/** The compiled kernels by name. */
export type TrainPrograms = Readonly<Record<keyof typeof kernels, Program>>;

/** Compiles them. */
export async function compileTrainPrograms(gpu: GpuDevice): Promise<TrainPrograms> {
  const compiled = await Promise.all(
    Object.entries(kernels).map(async ([name, kernel]) => [name, await gpu.compile(kernel)] as const),
  );
  return Object.fromEntries(compiled) as unknown as TrainPrograms;
}
