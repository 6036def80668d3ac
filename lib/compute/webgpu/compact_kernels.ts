/**
 * From dense pre-activations to sparse latents, in two steps: `count` says how many latents each token keeps, the host
 * turns the counts into offsets, and `write` puts every kept (latent, value) in its place, ascending by latent.
 *
 * One workgroup a token; an invocation looks at 32 neighboring latents and remembers the kept ones as bits of a word.
 * Places come from prefix sums rather than from a shared atomic counter, so the order is the same on every run.
 *
 * @module
 */
import type { TokenRule } from "../contract.ts";
import { isKeptWgsl, ruleBindings } from "./activation_wgsl.ts";
import { type Binding, declareBindings, type Kernel, padToVec4, WORKGROUP_SIZE } from "./kernel.ts";

/** What both kernels are made from. */
export interface CompactShape {
  dSae: number;
  rule: TokenRule;
}

/** Kernel that writes the number of kept latents of each token to `counts`. */
export function countKernel(shape: CompactShape): Kernel {
  const { inputs, functions } = common(shape);
  const code = /* wgsl */ `${functions}
${declareBindings([...inputs, ["counts", "read_write", "u32"]])}

var<workgroup> total: atomic<u32>;

@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  var count = 0u;
  for (var word = local; word < WORDS; word += WORKGROUP_SIZE) {
    count += countOneBits(kept_word(group.x, word));
  }
  atomicAdd(&total, count);
  workgroupBarrier();
  if (local == 0u) { counts[group.x] = atomicLoad(&total); }
}
`;
  return { label: `count kept of ${shape.dSae}`, code, bindings: [...inputs.map(([name]) => name), "counts"] };
}

/** Kernel that writes the kept latents of each token, from `offsets[token]` on, to `indices` and `values`. */
export function writeKernel(shape: CompactShape): Kernel {
  const { inputs, functions } = common(shape);
  const bindings: Binding[] = [
    ...inputs,
    ["offsets", "read", "u32"],
    ["indices", "read_write", "u32"],
    ["values", "read_write", "f32"],
  ];
  const code = /* wgsl */ `${functions}
${declareBindings(bindings)}

var<workgroup> scan: array<u32, ${WORKGROUP_SIZE}>;

@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  var base = offsets[group.x];
  for (var first_word = 0u; first_word < WORDS; first_word += WORKGROUP_SIZE) {
    let word = first_word + local;
    var bits = 0u;
    if (word < WORDS) { bits = kept_word(group.x, word); }
    let count = countOneBits(bits);
    scan[local] = count;
    for (var step = 1u; step < WORKGROUP_SIZE; step *= 2u) {
      workgroupBarrier();
      var sum = scan[local];
      if (local >= step) { sum += scan[local - step]; }
      workgroupBarrier();
      scan[local] = sum;
    }
    workgroupBarrier();
    var place = base + scan[local] - count;
    base += scan[WORKGROUP_SIZE - 1u];
    while (bits != 0u) {
      let latent = word * 32u + countTrailingZeros(bits);
      indices[place] = latent;
      values[place] = pre[group.x * PRE_PITCH + latent];
      place++;
      bits &= bits - 1u;
    }
    workgroupBarrier();
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
const WORDS = ${Math.ceil(dSae / 32)}u;
const WORKGROUP_SIZE = ${WORKGROUP_SIZE}u;
${isKeptWgsl(rule)}
// Bit i says whether latent 32 * word + i of the token is kept.
fn kept_word(token: u32, word: u32) -> u32 {
  let threshold = threshold_of(token);
  let begin = word * 32u;
  let end = min(begin + 32u, D_SAE);
  var bits = 0u;
  for (var latent = begin; latent < end; latent++) {
    if (is_kept(pre[token * PRE_PITCH + latent], latent, threshold)) { bits |= 1u << (latent - begin); }
  }
  return bits;
}
`;
  return { inputs, functions };
}
