/**
 * The maximum of each latent over an image's tokens, with the token where it is. One invocation a latent of an image
 * walks the tokens in order, so the first of equal maxima stays.
 *
 * @module
 */
import type { TokenRule } from "../contract.ts";
import { isKeptWgsl, ruleBindings } from "./activation_wgsl.ts";
import { type Binding, declareBindings, type Kernel, padToVec4, WORKGROUP_SIZE } from "./kernel.ts";

/**
 * Kernel of the image maxima. `params` holds the tokens of each image that are in `pre`, and the index within the image
 * of the first of them; where that is not 0 the maxima so far are taken up again, so that an image may come in parts.
 */
export function imageMaxKernel(shape: { dSae: number; rule: TokenRule }): Kernel {
  const { dSae, rule } = shape;
  const bindings: Binding[] = [
    ["pre", "read", "f32"],
    ["max_values", "read_write", "f32"],
    ["max_tokens", "read_write", "i32"],
    ...ruleBindings(rule),
  ];
  const code = /* wgsl */ `
const D_SAE = ${dSae}u;
const PRE_PITCH = ${padToVec4(dSae)}u;

struct Params { n_tokens: u32, first_token: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${declareBindings(bindings, { first: 1 })}
${isKeptWgsl(rule)}
@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let latent = group.x * ${WORKGROUP_SIZE}u + local;
  if (latent >= D_SAE) { return; }
  let cell = group.y * D_SAE + latent;
  var best_key = KEY_OF_ZERO; // only positive values beat it
  var best_token = -1;
  if (params.first_token > 0u) {
    best_key = sort_key(max_values[cell]);
    best_token = max_tokens[cell];
  }
  for (var t = 0u; t < params.n_tokens; t++) {
    let token = group.y * params.n_tokens + t;
    let value = pre[token * PRE_PITCH + latent];
    let key = sort_key(value);
    if (key > best_key && is_kept(value, latent, threshold_of(token))) {
      best_key = key;
      best_token = i32(params.first_token + t);
    }
  }
  max_values[cell] = bitcast<f32>(best_key ^ KEY_OF_ZERO);
  max_tokens[cell] = best_token;
}
`;
  return { label: `image maxima of ${dSae}`, code, bindings: ["params", ...bindings.map(([name]) => name)] };
}

/** Grid of the kernel for `nImages` images. */
export function imageMaxWorkgroups(size: { nImages: number; dSae: number }): [number, number] {
  return [Math.ceil(size.dSae / WORKGROUP_SIZE), size.nImages];
}
