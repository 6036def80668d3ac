/**
 * Sums down the columns of a matrix, in runs of rows: the host adds up the runs. Each column of a run has one
 * invocation.
 *
 * @module
 */
import { declareBindings, type Kernel } from "../../compute/webgpu/kernel.ts";
import { ROW_INVOCATIONS } from "./rows.ts";

const RUN = 128;

/**
 * Kernel of `sums[run] = Σ weight · row` over the rows of each run; rows of weight 0 are not read. With
 * `weights: false` all weights are 1, and `squares` is there, too, with the sums of squares. `params` are nRows and
 * pitch.
 */
export function sumKernel(options: { weights: boolean }): Kernel {
  const { weights } = options;
  const code = /* wgsl */ `
struct Params { n_rows: u32, pitch: u32 }

@group(0) @binding(0) var<uniform> params: Params;
${
    declareBindings([
      ["matrix", "read", "vec4f"],
      ["sums", "read_write", "vec4f"],
      weights ? ["weights", "read", "f32"] : ["squares", "read_write", "vec4f"],
    ], { first: 1 })
  }

@compute @workgroup_size(${ROW_INVOCATIONS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let column = group.x * ${ROW_INVOCATIONS}u + local;
  if (column >= params.pitch) { return; }
  var sum = vec4f();
  ${weights ? "" : "var sum_of_squares = vec4f();"}
  let end = min((group.y + 1u) * ${RUN}u, params.n_rows);
  for (var row = group.y * ${RUN}u; row < end; row++) {
    ${
    weights
      ? "if (weights[row] != 0.0) { sum += weights[row] * matrix[row * params.pitch + column]; }"
      : `let number = matrix[row * params.pitch + column];
    sum += number;
    sum_of_squares += number * number;`
  }
  }
  sums[group.y * params.pitch + column] = sum;
  ${weights ? "" : "squares[group.y * params.pitch + column] = sum_of_squares;"}
}
`;
  const bindings = ["params", "matrix", "sums", weights ? "weights" : "squares"];
  return { label: weights ? "sum weighted rows" : "sum rows", code, bindings };
}

/** Runs of so many rows. */
export function countRuns(nRows: number): number {
  return Math.ceil(nRows / RUN);
}

/** Grid of the kernel; `pitch` is in vec4. */
export function sumWorkgroups(size: { nRows: number; pitch: number }): [number, number] {
  return [Math.ceil(size.pitch / ROW_INVOCATIONS), countRuns(size.nRows)];
}

/** Adds runs up into `totals`, shape `[dModel]`. @param pitch In vec4. */
export function addRuns(totals: Float64Array, runs: Float32Array, options: { pitch: number; factor?: number }): void {
  const { pitch, factor = 1 } = options;
  for (let start = 0; start < runs.length; start += 4 * pitch) {
    for (let d = 0; d < totals.length; d++) totals[d] += factor * runs[start + d];
  }
}
