/**
 * From dense pre-activations to sparse latents, in two steps: `count` says how many latents each token keeps, the host
 * turns the counts into offsets, and `write` puts every kept (latent, value) in its place, ascending by latent.
 *
 * One workgroup a token. Neighboring invocations look at neighboring latents, so that their reads are one; which ones are
 * kept is remembered as bits, since only few are. Places come from prefix sums rather than from a shared counter, so the
 * order is the same on every run.
 *
 * @module
 */
import type { TokenRule } from "../contract.ts";
import { isKeptWgsl, ruleBindings } from "./activation_wgsl.ts";
import { type Binding, declareBindings, type Kernel, padToVec4, WORKGROUP_SIZE } from "./kernel.ts";
import { enableSubgroups, scanWgsl } from "./scan_wgsl.ts";

/** What both kernels are made from. */
export interface CompactShape {
  dSae: number;
  rule: TokenRule;
  /** Whether the device has subgroups. @default {false} */
  subgroups?: boolean;
}

/** Latents whose bits, 32 to an invocation, the workgroup holds at once. */
const BLOCK = 32 * WORKGROUP_SIZE;

/** Kernel that writes the number of kept latents of each token to `counts`. */
export function countKernel(shape: CompactShape): Kernel {
  const { subgroups = false } = shape;
  const { inputs, functions } = common(shape);
  const code = /* wgsl */ `${enableSubgroups(subgroups)}${functions}
${declareBindings([...inputs, ["counts", "read_write", "u32"]])}

var<workgroup> total: atomic<u32>;

@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let threshold = threshold_of(group.x);
  var count = 0u;
  for (var latent = local; latent < D_SAE; latent += WORKGROUP_SIZE) {
    if (is_kept(pre[group.x * PRE_PITCH + latent], latent, threshold)) { count++; }
  }
${
    subgroups
      ? `  workgroupBarrier(); // lanes that took different numbers of steps
  count = subgroupAdd(count);
  if (subgroupElect()) { atomicAdd(&total, count); }`
      : "  atomicAdd(&total, count);"
  }
  workgroupBarrier();
  if (local == 0u) { counts[group.x] = atomicLoad(&total); }
}
`;
  return { label: `count kept of ${shape.dSae}`, code, bindings: [...inputs.map(([name]) => name), "counts"] };
}

/** Kernel that writes the kept latents of each token, from `offsets[token]` on, to `indices` and `values`. */
export function writeKernel(shape: CompactShape): Kernel {
  const { subgroups = false } = shape;
  const { inputs, functions } = common(shape);
  const bindings: Binding[] = [
    ...inputs,
    ["offsets", "read", "u32"],
    ["indices", "read_write", "u32"],
    ["values", "read_write", "f32"],
  ];
  const code = /* wgsl */ `${enableSubgroups(subgroups)}${functions}
${declareBindings(bindings)}
${scanWgsl(subgroups)}
var<workgroup> kept: array<atomic<u32>, ${WORKGROUP_SIZE}>; // bit i of word w: latent 32 * w + i of the block

@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let rank = draw_rank(local);
  let row = group.x * PRE_PITCH;
  let threshold = threshold_of(group.x);
  var base = offsets[group.x];
  for (var block = 0u; block < D_SAE; block += ${BLOCK}u) {
    atomicStore(&kept[local], 0u);
    workgroupBarrier();
    let end = min(block + ${BLOCK}u, D_SAE);
    for (var latent = block + local; latent < end; latent += WORKGROUP_SIZE) {
      if (is_kept(pre[row + latent], latent, threshold)) {
        atomicOr(&kept[(latent - block) / 32u], 1u << (latent % 32u));
      }
    }
    workgroupBarrier();
    var bits = atomicLoad(&kept[rank]);
    let sums = scan_sums(rank, countOneBits(bits));
    var place = base + sums.x;
    base += sums.y;
    while (bits != 0u) {
      let latent = block + rank * 32u + countTrailingZeros(bits);
      indices[place] = latent;
      values[place] = pre[row + latent];
      place++;
      bits &= bits - 1u;
    }
  }
}
`;
  return { label: `write kept of ${shape.dSae}`, code, bindings: bindings.map(([name]) => name) };
}

function common({ dSae, rule }: CompactShape): { inputs: Binding[]; functions: string } {
  const inputs: Binding[] = [["pre", "read", "f32"], ...ruleBindings(rule)];
  const functions = /* wgsl */ `
const D_SAE = ${dSae}u;
const PRE_PITCH = ${padToVec4(dSae)}u;
const WORKGROUP_SIZE = ${WORKGROUP_SIZE}u;
${isKeptWgsl(rule)}
`;
  return { inputs, functions };
}
