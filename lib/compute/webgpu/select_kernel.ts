/**
 * Finds where the top-k line runs for each token, without sorting: a radix select. One workgroup a token makes four
 * passes over the token's pre-activations; each pass counts values by the next eight bits of their sort key, and from
 * the top the bin that holds the k-th largest gives the next eight bits of the line. A last step settles ties.
 *
 * The only atomics are integer counts, whose order does not matter, so the answer is the same on every run. Most values
 * of a token share their first eight bits (a sign and an exponent), so with subgroups the lanes that agree with the
 * first one of their subgroup are counted at once instead of queueing for one bin.
 *
 * @module
 */
import { SORT_KEY_WGSL } from "./activation_wgsl.ts";
import { type Kernel, padToVec4, WORKGROUP_SIZE } from "./kernel.ts";
import { enableSubgroups, scanWgsl } from "./scan_wgsl.ts";

/**
 * Kernel of the top-k line. Writes for each token `(key, latent)`: the sort key of the k-th largest value, and the last
 * latent kept among those that equal it (ties go to the lower latents). Any `k` from 1 to `dSae`.
 */
export function selectKernel(shape: { dSae: number; k: number; subgroups?: boolean }): Kernel {
  const { dSae, k, subgroups = false } = shape;
  const code = /* wgsl */ `${enableSubgroups(subgroups)}
const D_SAE = ${dSae}u;
const PRE_PITCH = ${padToVec4(dSae)}u;
const K = ${k}u;
const WORKGROUP_SIZE = ${WORKGROUP_SIZE}u; // also the number of bins: one invocation owns one bin
const NO_BIN = WORKGROUP_SIZE;
// Latents of one invocation where ties are settled, a contiguous run each.
const RUN = ${Math.ceil(dSae / WORKGROUP_SIZE)}u;

@group(0) @binding(0) var<storage, read> pre: array<f32>;
@group(0) @binding(1) var<storage, read_write> thresholds: array<vec2u>;

var<workgroup> bins: array<atomic<u32>, ${WORKGROUP_SIZE}>;
var<workgroup> line: u32; // bits of the k-th largest key found so far
var<workgroup> wanted: u32; // how many values with those bits are still to be kept
var<workgroup> present: u32; // how many values have those bits
var<workgroup> last_latent: u32;
${SORT_KEY_WGSL}${scanWgsl(subgroups)}${subgroups ? COUNT_WITH_SUBGROUPS : COUNT_ONE_BY_ONE}
@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let rank = draw_rank(local);
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
    // The same number of steps for all, so that a subgroup stays together.
    for (var first = 0u; first < D_SAE; first += WORKGROUP_SIZE) {
      let latent = first + local;
      var bin = NO_BIN;
      if (latent < D_SAE) {
        let key = sort_key(pre[row + latent]);
        if ((key & known_bits) == prefix) { bin = (key >> shift) & 255u; }
      }
      count_value(bin);
    }
    workgroupBarrier();
    // Bins in descending order, so that the scan counts from the largest value down.
    let bin = WORKGROUP_SIZE - 1u - rank;
    let count = atomicLoad(&bins[bin]);
    let needed = wanted;
    let above = scan_sums(rank, count).x;
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
    let begin = min(rank * RUN, D_SAE);
    let end = min(begin + RUN, D_SAE);
    var count = 0u;
    for (var latent = begin; latent < end; latent++) {
      if (sort_key(pre[row + latent]) == key) { count++; }
    }
    var seen = scan_sums(rank, count).x;
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

const COUNT_ONE_BY_ONE = /* wgsl */ `
fn count_value(bin: u32) {
  if (bin != NO_BIN) { atomicAdd(&bins[bin], 1u); }
}
`;

// Every invocation has to call it. Lanes that differ from the first one count for themselves.
const COUNT_WITH_SUBGROUPS = /* wgsl */ `
fn count_value(bin: u32) {
  let leading = subgroupBroadcastFirst(bin);
  let agreeing = subgroupAdd(select(0u, 1u, bin == leading));
  let is_first = subgroupElect();
  if (bin == NO_BIN) { return; }
  if (bin != leading) {
    atomicAdd(&bins[bin], 1u);
  } else if (is_first) {
    atomicAdd(&bins[bin], agreeing);
  }
}
`;
