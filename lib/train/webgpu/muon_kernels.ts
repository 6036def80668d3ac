/**
 * Muon's passes over a matrix, before and after its products. A workgroup a row.
 *
 * @module
 */
import { declareBindings, type Kernel } from "../../compute/webgpu/kernel.ts";
import { GROUP_ARGUMENTS, GROUP_INDEX, GROUP_SUM_WGSL, ROW_INVOCATIONS } from "./rows.ts";

const EACH_COLUMN = `for (var column = local; column < params.pitch; column += ${ROW_INVOCATIONS}u)`;

/**
 * Kernel that takes gradients into their running `means`, writes where Nesterov's momentum goes to `ahead`, and the
 * `squares` of each of its rows. Rows that are not `touched` have no gradient. `params` are nRows, pitch, the factor of
 * gradients and the momentum.
 */
export function momentumKernel(): Kernel {
  const code = /* wgsl */ `
struct Params { n_rows: u32, pitch: u32, gradient_factor: f32, momentum: f32 }

@group(0) @binding(0) var<uniform> params: Params;
${
    declareBindings([
      ["touched", "read", "u32"],
      ["gradients", "read", "vec4f"],
      ["means", "read_write", "vec4f"],
      ["ahead", "read_write", "vec4f"],
      ["squares", "read_write", "f32"],
    ], { first: 1 })
  }
${GROUP_SUM_WGSL}
@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let row = ${GROUP_INDEX};
  if (row >= params.n_rows) { return; }
  var total = 0.0;
  ${EACH_COLUMN} {
    let at = row * params.pitch + column;
    var g = vec4f();
    if (touched[row] == 1u) { g = params.gradient_factor * gradients[at]; }
    let m = means[at] + (1.0 - params.momentum) * (g - means[at]);
    means[at] = m;
    let direction = g + params.momentum * (m - g);
    ahead[at] = direction;
    total += dot(direction, direction);
  }
  total = group_sum(local, total);
  if (local == 0u) { squares[row] = total; }
}
`;
  return { label: "momentum", code, bindings: ["params", "touched", "gradients", "means", "ahead", "squares"] };
}

/** Kernel of `matrix = keep · matrix − rate · direction`. `params` are nRows, pitch, keep and rate. */
export function stepAlongKernel(): Kernel {
  const code = /* wgsl */ `
struct Params { n_rows: u32, pitch: u32, keep: f32, rate: f32 }

@group(0) @binding(0) var<uniform> params: Params;
${declareBindings([["direction", "read", "vec4f"], ["matrix", "read_write", "vec4f"]], { first: 1 })}

@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let row = ${GROUP_INDEX};
  if (row >= params.n_rows) { return; }
  ${EACH_COLUMN} {
    let at = row * params.pitch + column;
    matrix[at] = params.keep * matrix[at] - params.rate * direction[at];
  }
}
`;
  return { label: "step along", code, bindings: ["params", "direction", "matrix"] };
}
