/**
 * The kernels an SAE needs, compiled for a device.
 *
 * @module
 */
import type { TokenWeights } from "../contract.ts";
import { countKernel, writeKernel } from "./compact_kernels.ts";
import { decodeKernel } from "./decode_kernel.ts";
import type { GpuDevice, Program } from "./device.ts";
import { encodeKernel, type EncodeTile, type Precision } from "./encode_kernel.ts";
import { imageMaxKernel } from "./image_max_kernel.ts";
import type { Kernel } from "./kernel.ts";
import { selectKernel } from "./select_kernel.ts";

/** Which versions of the kernels to compile. */
export interface KernelOptions {
  /** How `wEnc` is stored. */
  precision: Precision;
  /** How the product with `wEnc` is cut up. */
  tile: EncodeTile;
  /** Whether to use subgroups, which the device has to have. */
  subgroups: boolean;
}

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
export async function compilePrograms(
  gpu: GpuDevice,
  weights: TokenWeights,
  options: KernelOptions,
): Promise<Programs> {
  const { dModel, dSae, rule, subtractBDec } = weights;
  const { precision, tile, subgroups } = options;
  const [encode, imageMax, decode, count, write, select] = await Promise.all([
    gpu.compile(encodeKernel({ subtractBDec, precision }, tile)),
    gpu.compile(imageMaxKernel({ dSae, rule })),
    gpu.compile(decodeKernel({ dModel })),
    compileSumming(gpu, (subgroups) => countKernel({ dSae, rule, subgroups }), subgroups),
    compileSumming(gpu, (subgroups) => writeKernel({ dSae, rule, subgroups }), subgroups),
    rule.kind === "topK"
      ? compileSumming(gpu, (subgroups) => selectKernel({ dSae, k: rule.k, subgroups }), subgroups)
      : undefined,
  ]);
  return { encode, select, count, write, imageMax, decode };
}

/** Compiles a kernel with subgroups if it may, and without where the compiler knows them less well than the adapter. */
async function compileSumming(
  gpu: GpuDevice,
  make: (subgroups: boolean) => Kernel,
  subgroups: boolean,
): Promise<Program> {
  try {
    return await gpu.compile(make(subgroups));
  } catch (cause) {
    if (!subgroups || !(cause instanceof SyntaxError)) throw cause;
    return await gpu.compile(make(false));
  }
}
