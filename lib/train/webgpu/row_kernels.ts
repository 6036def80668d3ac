/**
 * Work on rows of the matrices, each the business of one latent: gradients made ready, rows moved by Adam, rows of the
 * decoder brought to length 1. `list` says which rows; a workgroup each.
 *
 * @module
 */
import { declareBindings, type Kernel } from "../../compute/webgpu/kernel.ts";
import { GROUP_ARGUMENTS, GROUP_INDEX, GROUP_SUM_WGSL, ROW_INVOCATIONS } from "./rows.ts";

const EACH_COLUMN = `for (var column = local; column < params.pitch; column += ${ROW_INVOCATIONS}u)`;

/**
 * Kernel that takes out of each decoder row's gradient what is along the row, if `params` say so, and writes the
 * `squares` of both rows of gradients. `params` are the length of the list, pitch and that.
 */
export function finishKernel(): Kernel {
  const code = /* wgsl */ `
struct Params { n_rows: u32, pitch: u32, remove_parallel: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${
    declareBindings([
      ["list", "read", "u32"],
      ["w_dec", "read", "vec4f"],
      ["g_enc", "read", "vec4f"],
      ["g_dec", "read_write", "vec4f"],
      ["squares", "read_write", "f32"],
    ], { first: 1 })
  }
${GROUP_SUM_WGSL}
@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let index = ${GROUP_INDEX};
  if (index >= params.n_rows) { return; }
  let row = list[index] * params.pitch;
  var share = 0.0;
  if (params.remove_parallel == 1u) {
    var along = 0.0;
    var length = 0.0;
    ${EACH_COLUMN} {
      let w = w_dec[row + column];
      along += dot(g_dec[row + column], w);
      length += dot(w, w);
    }
    along = group_sum(local, along);
    length = group_sum(local, length);
    if (length > 0.0) { share = along / length; }
  }
  var total = 0.0;
  ${EACH_COLUMN} {
    let encoder = g_enc[row + column];
    let decoder = g_dec[row + column] - share * w_dec[row + column];
    g_dec[row + column] = decoder;
    total += dot(encoder, encoder) + dot(decoder, decoder);
  }
  total = group_sum(local, total);
  if (local == 0u) { squares[index] = total; }
}
`;
  return { label: "finish gradients", code, bindings: ["params", "list", "w_dec", "g_enc", "g_dec", "squares"] };
}

/** In the first number of an element of Adam's `list`: the latent has a gradient, or comes back after a rest. */
export const HAS_GRADIENT = 2 ** 31;
export const COMES_BACK = 2 ** 30;

/**
 * Kernel of Adam on the rows of `list`, whose elements are a latent with its flags and, as the bits of a float32, what
 * the mean squares of one that comes back have decayed by. `params` are the length of the list, pitch, and of Adam:
 * factor of gradients, 1 − β1, 1 − β2, step size, root factor, epsilon.
 */
export function adamKernel(): Kernel {
  const code = /* wgsl */ `
struct Params {
  n_rows: u32,
  pitch: u32,
  gradient_factor: f32,
  one_minus_beta1: f32,
  one_minus_beta2: f32,
  step_size: f32,
  root_factor: f32,
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
${
    declareBindings([
      ["list", "read", "vec2u"],
      ["gradients", "read", "vec4f"],
      ["parameters", "read_write", "vec4f"],
      ["means", "read_write", "vec4f"],
      ["squares", "read_write", "vec4f"],
    ], { first: 1 })
  }

@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let index = ${GROUP_INDEX};
  if (index >= params.n_rows) { return; }
  let flags = list[index].x;
  let row = (flags & 0x3fffffffu) * params.pitch;
  let has_gradient = (flags & 0x80000000u) != 0u;
  let comes_back = (flags & 0x40000000u) != 0u;
  let decay = bitcast<f32>(list[index].y);
  ${EACH_COLUMN} {
    let at = row + column;
    var g = vec4f();
    if (has_gradient) { g = params.gradient_factor * gradients[at]; }
    var m = means[at];
    var v = squares[at];
    if (comes_back) {
      m = vec4f();
      v *= decay;
    }
    m += params.one_minus_beta1 * (g - m);
    v += params.one_minus_beta2 * (g * g - v);
    means[at] = m;
    squares[at] = v;
    parameters[at] -= params.step_size * m / (sqrt(v) * params.root_factor + params.epsilon);
  }
}
`;
  return { label: "adam", code, bindings: ["params", "list", "gradients", "parameters", "means", "squares"] };
}

/** Kernel that brings the rows of `list` to length 1; a row of zeros stays. `params` are its length and pitch. */
export function normalizeKernel(): Kernel {
  const code = /* wgsl */ `
struct Params { n_rows: u32, pitch: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${declareBindings([["list", "read", "u32"], ["matrix", "read_write", "vec4f"]], { first: 1 })}
${GROUP_SUM_WGSL}
@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let index = ${GROUP_INDEX};
  if (index >= params.n_rows) { return; }
  let row = list[index] * params.pitch;
  var squares = 0.0;
  ${EACH_COLUMN} { squares += dot(matrix[row + column], matrix[row + column]); }
  squares = group_sum(local, squares);
  if (squares == 0.0) { return; }
  let factor = 1.0 / sqrt(squares);
  ${EACH_COLUMN} { matrix[row + column] *= factor; }
}
`;
  return { label: "normalize rows", code, bindings: ["params", "list", "matrix"] };
}
