/**
 * Sums over a workgroup in WGSL, in two versions of one meaning: with subgroups (a few invocations that run in step and
 * see each other's registers) two barriers suffice, without them it is a scan in workgroup memory with a barrier for
 * every doubling. All sums are of integers, so both give the same bits.
 *
 * WGSL does not say which invocations share a subgroup, nor that a subgroup is full. So with subgroups an invocation
 * draws a `rank`: its subgroup draws a run of ranks from a counter, and its lanes share them out. Whoever works by rank
 * instead of by local index is right on every device. Which subgroup draws first may differ from run to run; what the
 * workgroup computes may not, since every rank does the work of that rank.
 *
 * @module
 */
import { WORKGROUP_SIZE } from "./kernel.ts";

/** Goes in front of everything else in a kernel. */
export function enableSubgroups(subgroups: boolean): string {
  return subgroups ? "enable subgroups;\n" : "";
}

/**
 * WGSL of two functions that every invocation of a workgroup has to call:
 *
 * - `draw_rank(local)`, once, at the start: a number below the size of the workgroup that is this invocation's own.
 * - `scan_sums(rank, value)`: x is the sum of the values of all lower ranks, y that of all ranks.
 */
export function scanWgsl(subgroups: boolean): string {
  return subgroups ? SUBGROUP_SCAN : BARRIER_SCAN;
}

// By doubling. Rows of 16 with 3 barriers instead of 17 were no faster on lavapipe and SwiftShader.
const BARRIER_SCAN = /* wgsl */ `
var<workgroup> scan: array<u32, ${WORKGROUP_SIZE}>;

fn draw_rank(local: u32) -> u32 {
  return local;
}

fn scan_sums(rank: u32, value: u32) -> vec2u {
  workgroupBarrier(); // whoever still reads the last scan
  scan[rank] = value;
  for (var step = 1u; step < ${WORKGROUP_SIZE}u; step *= 2u) {
    workgroupBarrier();
    var sum = scan[rank];
    if (rank >= step) { sum += scan[rank - step]; }
    workgroupBarrier();
    scan[rank] = sum;
  }
  workgroupBarrier();
  return vec2u(scan[rank] - value, scan[${WORKGROUP_SIZE - 1}]);
}
`;

const SUBGROUP_SCAN = /* wgsl */ `
var<workgroup> drawn: atomic<u32>; // ranks in the upper half, subgroups in the lower, so that both go in one order
var<workgroup> subgroup_sums: array<u32, ${WORKGROUP_SIZE}>; // by the order in which subgroups drew
var<private> my_subgroup: u32;

fn draw_rank(local: u32) -> u32 {
  let lanes = subgroupAdd(1u);
  let below = subgroupExclusiveAdd(1u);
  var first = 0u;
  if (below == 0u) { first = atomicAdd(&drawn, (lanes << 16u) | 1u); }
  first = subgroupBroadcastFirst(first);
  my_subgroup = first & 0xffffu;
  return (first >> 16u) + below;
}

fn scan_sums(rank: u32, value: u32) -> vec2u {
  workgroupBarrier(); // whoever still reads the last scan, and lanes that went different ways
  let below = subgroupExclusiveAdd(value);
  let sum = subgroupAdd(value);
  subgroup_sums[my_subgroup] = sum;
  workgroupBarrier();
  let n_subgroups = atomicLoad(&drawn) & 0xffffu;
  var sums = vec2u(below, 0u);
  for (var s = 0u; s < n_subgroups; s++) {
    if (s < my_subgroup) { sums.x += subgroup_sums[s]; }
    sums.y += subgroup_sums[s];
  }
  return sums;
}
`;
