/**
 * How many positive pre-activations there are of each size, from which the host reads off a floor that enough of a batch
 * are above: with it the candidates for the largest of a batch come to the host, not the batch. Counts are of integers,
 * so their order does not matter.
 *
 * @module
 */
import { SORT_KEY_WGSL } from "../../compute/webgpu/activation_wgsl.ts";
import { declareBindings, type Kernel, padToVec4, WORKGROUP_SIZE } from "../../compute/webgpu/kernel.ts";

/** By exponent and the first three bits behind the point: neighbors are an eighth apart at most. */
export const N_BINS = 2048;
const SHIFT = 20;

/** Kernel that adds the counts of rows of pre-activations to `bins`, shape `[N_BINS]`. A workgroup a token. */
export function binsKernel(shape: { dSae: number }): Kernel {
  const { dSae } = shape;
  const code = /* wgsl */ `
const D_SAE = ${dSae}u;
const PRE_PITCH = ${padToVec4(dSae)}u;
const WORKGROUP_SIZE = ${WORKGROUP_SIZE}u;
${SORT_KEY_WGSL}
${declareBindings([["pre", "read", "f32"], ["bins", "read_write", "atomic<u32>"]])}

var<workgroup> counts: array<atomic<u32>, ${N_BINS}>;

@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  for (var bin = local; bin < ${N_BINS}u; bin += WORKGROUP_SIZE) { atomicStore(&counts[bin], 0u); }
  workgroupBarrier();
  for (var latent = local; latent < D_SAE; latent += WORKGROUP_SIZE) {
    let key = sort_key(pre[group.x * PRE_PITCH + latent]);
    if (key > KEY_OF_ZERO) { atomicAdd(&counts[(key >> ${SHIFT}u) & ${N_BINS - 1}u], 1u); }
  }
  workgroupBarrier();
  for (var bin = local; bin < ${N_BINS}u; bin += WORKGROUP_SIZE) {
    let count = atomicLoad(&counts[bin]);
    if (count > 0u) { atomicAdd(&bins[bin], count); }
  }
}
`;
  return { label: `count sizes of ${dSae}`, code, bindings: ["pre", "bins"] };
}

/**
 * A number, not below 0, that at least `n` of those counted are above, as near as the bins tell; undefined if fewer than
 * `n` are above 0.
 */
export function floorOfLargest(bins: Uint32Array, n: number): number | undefined {
  let count = 0;
  for (let bin = N_BINS - 1; bin >= 0; bin--) {
    count += bins[bin];
    // One less than the bits of its smallest member, which is to be above the floor.
    if (count >= n) return new Float32Array(Uint32Array.of(Math.max(1, bin << SHIFT) - 1).buffer)[0];
  }
  return undefined;
}
