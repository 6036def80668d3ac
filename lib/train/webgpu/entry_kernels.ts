/**
 * Work that follows the active latents of a batch: their slopes, and from those the gradients of their rows. Entries lie
 * latent by latent; `rows[entry]` is the row of a matrix that belongs to an entry, its token and, with several
 * prefixes, `prefix · nTokens` before it. A `modulus` of nTokens leaves the token.
 *
 * @module
 */
import { declareBindings, type Kernel } from "../../compute/webgpu/kernel.ts";
import { GROUP_ARGUMENTS, GROUP_INDEX, ROW_INVOCATIONS } from "./rows.ts";

/** Invocations that share a dot product, and dot products of a workgroup. */
const LANES = 32;
const ENTRIES = 8;

/**
 * Kernel of `dots[entry] = matrix[rows[entry] % modulus] · w_dec[latents[entry]]`. Its `params` are nEntries, pitch and
 * modulus; a grid of {@linkcode dotsGroups} workgroups.
 */
export function dotsKernel(): Kernel {
  const code = /* wgsl */ `
struct Params { n_entries: u32, pitch: u32, modulus: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${
    declareBindings([
      ["rows", "read", "u32"],
      ["latents", "read", "u32"],
      ["matrix", "read", "vec4f"],
      ["w_dec", "read", "vec4f"],
      ["dots", "read_write", "f32"],
    ], { first: 1 })
  }

var<workgroup> lane_sums: array<f32, ${ENTRIES * LANES}>;

@compute @workgroup_size(${ENTRIES * LANES})
fn main(${GROUP_ARGUMENTS}) {
  let entry = (${GROUP_INDEX}) * ${ENTRIES}u + local / ${LANES}u;
  let lane = local % ${LANES}u;
  var sum = 0.0;
  if (entry < params.n_entries) {
    let row = rows[entry] % params.modulus * params.pitch;
    let decoder_row = latents[entry] * params.pitch;
    for (var column = lane; column < params.pitch; column += ${LANES}u) {
      sum += dot(matrix[row + column], w_dec[decoder_row + column]);
    }
  }
  lane_sums[local] = sum;
  workgroupBarrier();
  if (lane == 0u && entry < params.n_entries) {
    for (var i = 1u; i < ${LANES}u; i++) { sum += lane_sums[local + i]; }
    dots[entry] = sum;
  }
}
`;
  return { label: "dots", code, bindings: ["params", "rows", "latents", "matrix", "w_dec", "dots"] };
}

/** Workgroups of the kernel of dots. */
export function dotsGroups(nEntries: number): number {
  return Math.ceil(nEntries / ENTRIES);
}

/** In an element of `list`: the latent's row is added to. */
export const ADD_TO_ROW = 2 ** 31;

/**
 * Kernel of `out[latent] = Σ factors[entry] · matrix[rows[entry] % modulus]` for the latents of `list`, added to what
 * is there where their {@linkcode ADD_TO_ROW} is set. Its `params` are the length of the list, pitch and modulus; a
 * workgroup each.
 */
export function gatherKernel(): Kernel {
  const code = /* wgsl */ `
struct Params { n_rows: u32, pitch: u32, modulus: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${
    declareBindings([
      ["list", "read", "u32"],
      ["offsets", "read", "u32"],
      ["rows", "read", "u32"],
      ["factors", "read", "f32"],
      ["matrix", "read", "vec4f"],
      ["out", "read_write", "vec4f"],
    ], { first: 1 })
  }

@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let index = ${GROUP_INDEX};
  if (index >= params.n_rows) { return; }
  let latent = list[index] & 0x7fffffffu;
  let is_added_to = list[index] > 0x7fffffffu;
  let begin = offsets[latent];
  let end = offsets[latent + 1u];
  for (var column = local; column < params.pitch; column += ${ROW_INVOCATIONS}u) {
    var sum = vec4f();
    if (is_added_to) { sum = out[latent * params.pitch + column]; }
    for (var entry = begin; entry < end; entry++) {
      sum += factors[entry] * matrix[rows[entry] % params.modulus * params.pitch + column];
    }
    out[latent * params.pitch + column] = sum;
  }
}
`;
  return { label: "gather", code, bindings: ["params", "list", "offsets", "rows", "factors", "matrix", "out"] };
}
