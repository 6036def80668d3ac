/**
 * From active latents to reconstructions, and from those to slopes of the loss. A workgroup has one token.
 *
 * @module
 */
import { declareBindings, type Kernel } from "../../compute/webgpu/kernel.ts";
import { GROUP_ARGUMENTS, GROUP_INDEX, GROUP_SUM_WGSL, ROW_INVOCATIONS } from "./rows.ts";

/**
 * Kernel of the decoder. The latents of a token ascend, so one walk along them passes the end of each prefix in turn.
 *
 * Writes `rows`, shape `[nPrefixes, nTokens, dModel]`: reconstructions by the latents of each prefix. Its `params` are
 * nTokens, nPrefixes, pitch, and whether `b_dec` is added.
 */
export function decodeRowsKernel(): Kernel {
  const code = /* wgsl */ `
struct Params { n_tokens: u32, n_prefixes: u32, pitch: u32, has_bias: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${
    declareBindings([
      ["offsets", "read", "u32"],
      ["latents", "read", "u32"],
      ["values", "read", "f32"],
      ["prefixes", "read", "u32"],
      ["w_dec", "read", "vec4f"],
      ["b_dec", "read", "vec4f"],
      ["rows", "read_write", "vec4f"],
    ], { first: 1 })
  }

@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let token = ${GROUP_INDEX};
  if (token >= params.n_tokens) { return; }
  let begin = offsets[token];
  let end = offsets[token + 1u];
  for (var column = local; column < params.pitch; column += ${ROW_INVOCATIONS}u) {
    var sum = vec4f();
    if (params.has_bias == 1u) { sum = b_dec[column]; }
    var prefix = 0u;
    for (var entry = begin; entry < end; entry++) {
      let latent = latents[entry];
      while (latent >= prefixes[prefix]) {
        rows[(prefix * params.n_tokens + token) * params.pitch + column] = sum;
        prefix++;
      }
      sum += values[entry] * w_dec[latent * params.pitch + column];
    }
    for (; prefix < params.n_prefixes; prefix++) {
      rows[(prefix * params.n_tokens + token) * params.pitch + column] = sum;
    }
  }
}
`;
  const bindings = ["params", "offsets", "latents", "values", "prefixes", "w_dec", "b_dec", "rows"];
  return { label: "decode rows", code, bindings };
}

/**
 * Kernel that turns reconstructions into slopes of the loss along them, in place, and with several prefixes adds to
 * each those of all longer ones. Writes `squares`, shape `[nPrefixes, nTokens]`: squared errors of each token; with
 * `residual` also what the whole dictionary leaves over. Its `params` are nTokens, nPrefixes and pitch.
 */
export function slopesKernel(options: { residual: boolean }): Kernel {
  const { residual } = options;
  const bindings = ["params", "x", "weights", "rows", "squares", ...(residual ? ["residual"] : [])];
  const code = /* wgsl */ `
struct Params { n_tokens: u32, n_prefixes: u32, pitch: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${
    declareBindings([
      ["x", "read", "vec4f"],
      ["weights", "read", "f32"],
      ["rows", "read_write", "vec4f"],
      ["squares", "read_write", "f32"],
      ...(residual ? [["residual", "read_write", "vec4f"] as const] : []),
    ], { first: 1 })
  }
${GROUP_SUM_WGSL}
@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let token = ${GROUP_INDEX};
  if (token >= params.n_tokens) { return; }
  let factor = 2.0 * weights[token];
  for (var i = 0u; i < params.n_prefixes; i++) {
    let prefix = params.n_prefixes - 1u - i; // the longest first
    let row = (prefix * params.n_tokens + token) * params.pitch;
    let longer = row + params.n_tokens * params.pitch;
    var squares_here = 0.0;
    for (var column = local; column < params.pitch; column += ${ROW_INVOCATIONS}u) {
      let error = rows[row + column] - x[token * params.pitch + column];
      ${residual ? "if (i == 0u) { residual[token * params.pitch + column] = -error; }" : ""}
      squares_here += dot(error, error);
      var slope = factor * error;
      if (i > 0u) { slope += rows[longer + column]; }
      rows[row + column] = slope;
    }
    let total = group_sum(local, squares_here);
    if (local == 0u) { squares[prefix * params.n_tokens + token] = total; }
  }
}
`;
  return { label: residual ? "slopes and residual" : "slopes", code, bindings };
}
