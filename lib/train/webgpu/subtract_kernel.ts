/**
 * What the encoder sees where `bDec` is subtracted: `out = x − b_dec`, row by row.
 *
 * @module
 */
import { declareBindings, type Kernel } from "../../compute/webgpu/kernel.ts";
import { GROUP_ARGUMENTS, GROUP_INDEX, ROW_INVOCATIONS } from "./rows.ts";

/** Kernel of the difference. Its `params` are nRows and pitch; a workgroup a row. */
export function subtractKernel(): Kernel {
  const code = /* wgsl */ `
struct Params { n_rows: u32, pitch: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${declareBindings([["x", "read", "vec4f"], ["b_dec", "read", "vec4f"], ["out", "read_write", "vec4f"]], { first: 1 })}

@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(${GROUP_ARGUMENTS}) {
  let row = ${GROUP_INDEX};
  if (row >= params.n_rows) { return; }
  for (var column = local; column < params.pitch; column += ${ROW_INVOCATIONS}u) {
    let at = row * params.pitch + column;
    out[at] = x[at] - b_dec[column];
  }
}
`;
  return { label: "subtract b_dec", code, bindings: ["params", "x", "b_dec", "out"] };
}
