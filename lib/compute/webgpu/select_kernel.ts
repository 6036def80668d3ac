/**
 * Finds where the top-k line runs for each token, without sorting: a radix select. One workgroup a token makes four
 * passes over the token's pre-activations; each pass counts values by the next eight bits of their sort key, and from
 * the top the bin that holds the k-th largest gives the next eight bits of the line. A last step settles ties.
 *
 * The only atomics are integer counts, whose order does not matter, so the answer is the same on every run.
 *
 * @module
 */
import { SORT_KEY_WGSL } from "./activation_wgsl.ts";
import { type Kernel, padToVec4, WORKGROUP_SIZE } from "./kernel.ts";

/**
 * Kernel of the top-k line. Writes for each token `(key, latent)`: the sort key of the k-th largest value, and the last
 * latent kept among those that equal it (ties go to the lower latents). Any `k` from 1 to `dSae`.
 */
export function selectKernel(shape: { dSae: number; k: number }): Kernel {
  const { dSae, k } = shape;
  const code = /* wgsl */ `
const D_SAE = ${dSae}u;
const PRE_PITCH = ${padToVec4(dSae)}u;
const K = ${k}u;
const WORKGROUP_SIZE = ${WORKGROUP_SIZE}u; // also the number of bins: one invocation owns one bin
// Latents of one invocation where ties are settled, a contiguous run each.
const RUN = ${Math.ceil(dSae / WORKGROUP_SIZE)}u;

@group(0) @binding(0) var<storage, read> pre: array<f32>;
@group(0) @binding(1) var<storage, read_write> thresholds: array<vec2u>;

var<workgroup> bins: array<atomic<u32>, ${WORKGROUP_SIZE}>;
var<workgroup> scan: array<u32, ${WORKGROUP_SIZE}>;
var<workgroup> line: u32; // bits of the k-th largest key found so far
var<workgroup> wanted: u32; // how many values with those bits are still to be kept
var<workgroup> present: u32; // how many values have those bits
var<workgroup> last_latent: u32;
${SORT_KEY_WGSL}
// Turns scan[i] into the sum of scan[0..i]. Every invocation of the workgroup has to call it.
fn inclusive_scan(local: u32) {
  for (var step = 1u; step < WORKGROUP_SIZE; step *= 2u) {
    workgroupBarrier();
    var sum = scan[local];
    if (local >= step) { sum += scan[local - step]; }
    workgroupBarrier();
    scan[local] = sum;
  }
  workgroupBarrier();
}

@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = group.x * PRE_PITCH;
  if (local == 0u) {
    line = 0u;
    wanted = K;
    last_latent = D_SAE - 1u;
  }
  var known_bits = 0u; // mask of the bits already in the line
  for (var pass_index = 0u; pass_index < 4u; pass_index++) {
    let shift = 24u - 8u * pass_index;
    atomicStore(&bins[local], 0u);
    workgroupBarrier();
    let prefix = line;
    for (var latent = local; latent < D_SAE; latent += WORKGROUP_SIZE) {
      let key = sort_key(pre[row + latent]);
      if ((key & known_bits) == prefix) { atomicAdd(&bins[(key >> shift) & 255u], 1u); }
    }
    workgroupBarrier();
    // Bins in descending order, so that the scan counts from the largest value down.
    let bin = WORKGROUP_SIZE - 1u - local;
    let count = atomicLoad(&bins[bin]);
    let needed = wanted;
    scan[local] = count;
    inclusive_scan(local);
    let above = scan[local] - count;
    if (above < needed && needed <= above + count) {
      line = prefix | (bin << shift);
      wanted = needed - above;
      present = count;
    }
    workgroupBarrier();
    known_bits |= 255u << shift;
  }

  // Fewer places than equal values: the lower latents win.
  if (workgroupUniformLoad(&present) > workgroupUniformLoad(&wanted)) {
    let key = line;
    let begin = min(local * RUN, D_SAE);
    let end = min(begin + RUN, D_SAE);
    var count = 0u;
    for (var latent = begin; latent < end; latent++) {
      if (sort_key(pre[row + latent]) == key) { count++; }
    }
    scan[local] = count;
    inclusive_scan(local);
    var seen = scan[local] - count;
    if (seen < wanted && wanted <= seen + count) {
      for (var latent = begin; latent < end; latent++) {
        if (sort_key(pre[row + latent]) != key) { continue; }
        seen++;
        if (seen == wanted) { last_latent = latent; }
      }
    }
    workgroupBarrier();
  }
  if (local == 0u) { thresholds[group.x] = vec2u(line, last_latent); }
}
`;
  return { label: `select top ${k} of ${dSae}`, code, bindings: ["pre", "thresholds"] };
}
