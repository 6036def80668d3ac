/**
 * What the kernels of training share. Matrices lie row by row, a row padded with zeros to whole vec4; `pitch` is its
 * length in vec4. Most kernels give a row to a workgroup, whose invocations each own some of its columns, so that sums
 * have one order on every run.
 *
 * @module
 */

/** Invocations of a workgroup that works on one row. */
export const ROW_INVOCATIONS = 64;

/** Arguments of `main` in a kernel that gives each workgroup one thing to do. */
export const GROUP_ARGUMENTS = /* wgsl */ `
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
`;

/** Number of the workgroup, in a grid of {@linkcode groupGrid}. */
export const GROUP_INDEX = "group.y * groups.x + group.x";

// WebGPU promises 65,535 workgroups a dimension.
const MAX_GROUPS_X = 32_768;

/** Grid of `n` workgroups or a few more, however many there are. */
export function groupGrid(n: number): [x: number, y: number] {
  const x = Math.min(Math.max(n, 1), MAX_GROUPS_X);
  return [x, Math.ceil(n / x)];
}

/** `group_sum(local, value)`: the sum over a workgroup, which all of its invocations have to ask for. */
export const GROUP_SUM_WGSL = /* wgsl */ `
var<workgroup> sums: array<f32, ${ROW_INVOCATIONS}>;

fn group_sum(local: u32, value: f32) -> f32 {
  workgroupBarrier(); // whoever still reads the last sum
  sums[local] = value;
  for (var half = ${ROW_INVOCATIONS / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local < half) { sums[local] += sums[local + half]; }
  }
  workgroupBarrier();
  return sums[0];
}
`;

/** Bits of a float32, for a kernel whose `params` hold one. */
export function floatBits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0];
}

/** Numbers of the rows that `isWanted`, ascending: a list for a kernel. */
export function indicesWhere(nRows: number, isWanted: (row: number) => boolean): Uint32Array {
  const list = new Uint32Array(nRows);
  let length = 0;
  for (let row = 0; row < nRows; row++) if (isWanted(row)) list[length++] = row;
  return list.subarray(0, length);
}
