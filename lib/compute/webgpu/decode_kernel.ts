/**
 * The sparse decoder: `x_hat = Σ value · w_dec[latent] + b_dec` over a token's active latents. One workgroup a token;
 * each invocation owns some columns of the residual stream and adds up the rows of the active latents.
 *
 * @module
 */
import { type Kernel, WORKGROUP_SIZE } from "./kernel.ts";

/**
 * Kernel of the decoder for the panel of latents from `params.panel_begin` up to `params.panel_end`. The panel that
 * begins at 0 starts from `b_dec`, later ones add to what is there, so panels have to run in order.
 */
export function decodeKernel(shape: { dModel: number }): Kernel {
  const { dModel } = shape;
  const code = /* wgsl */ `
const D_MODEL = ${dModel}u;

struct Params { panel_begin: u32, panel_end: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read> w_dec: array<f32>;
@group(0) @binding(5) var<storage, read> b_dec: array<f32>;
@group(0) @binding(6) var<storage, read_write> x_hat: array<f32>;

@compute @workgroup_size(${WORKGROUP_SIZE})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let begin = offsets[group.x];
  let end = offsets[group.x + 1u];
  for (var column = local; column < D_MODEL; column += ${WORKGROUP_SIZE}u) {
    let cell = group.x * D_MODEL + column;
    var sum = 0.0;
    for (var entry = begin; entry < end; entry++) {
      let latent = indices[entry];
      if (latent < params.panel_begin || latent >= params.panel_end) { continue; }
      sum += values[entry] * w_dec[(latent - params.panel_begin) * D_MODEL + column];
    }
    if (params.panel_begin == 0u) { x_hat[cell] = sum + b_dec[column]; } else { x_hat[cell] += sum; }
  }
}
`;
  return {
    label: `decode to ${dModel}`,
    code,
    bindings: ["params", "offsets", "indices", "values", "w_dec", "b_dec", "x_hat"],
  };
}
