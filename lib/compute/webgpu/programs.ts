/**
 * The kernels an SAE needs, compiled for a device.
 *
 * @module
 */
import type { TokenWeights } from "../contract.ts";
import { countKernel, writeKernel } from "./compact_kernels.ts";
import { decodeKernel } from "./decode_kernel.ts";
import type { GpuDevice, Program } from "./device.ts";
import { encodeKernel } from "./encode_kernel.ts";
import { imageMaxKernel } from "./image_max_kernel.ts";
import { selectKernel } from "./select_kernel.ts";

/** The compiled kernels of one SAE. */
export interface Programs {
  encode: Program;
  /** Only for the top-k rule. */
  select?: Program;
  count: Program;
  write: Program;
  imageMax: Program;
  decode: Program;
}

/** Compiles the kernels for the shape and the rule of an SAE. */
export async function compilePrograms(gpu: GpuDevice, shape: TokenWeights): Promise<Programs> {
  const { dSae, rule } = shape;
  const [encode, count, write, imageMax, decode] = await Promise.all(
    [encodeKernel(shape), countKernel(shape), writeKernel(shape), imageMaxKernel(shape), decodeKernel(shape)]
      .map((kernel) => gpu.compile(kernel)),
  );
  const select = rule.kind === "topK" ? await gpu.compile(selectKernel({ dSae, k: rule.k })) : undefined;
  return { encode, select, count, write, imageMax, decode };
}
