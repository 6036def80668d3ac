/**
 * What a compute kernel is on this back end: WGSL text made by a pure function of shapes and options, with the names it
 * binds and the grid it wants. Making the text is here and in the `*_kernel.ts` files; running it is in `device.ts`.
 *
 * Every kernel keeps to what WebGPU guarantees: 256 invocations a workgroup, 16 KiB of workgroup memory, eight storage
 * buffers, 65535 workgroups a dimension. Numbers of 16 bits and subgroups are in the text only where a kernel is asked
 * for them.
 *
 * @module
 */

/** A kernel as text. */
export interface Kernel {
  /** Name in error messages and GPU debuggers. */
  readonly label: string;
  /** WGSL source with one entry point, `main`. */
  readonly code: string;
  /** What is bound at binding 0, 1, 2, … of group 0. `params` is a uniform buffer of up to eight u32. */
  readonly bindings: readonly string[];
}

/** A storage buffer of a kernel. */
export type Binding = readonly [name: string, access: "read" | "read_write", element: string];

/** WGSL that declares storage buffers of group 0, one binding after the other. */
export function declareBindings(
  bindings: readonly Binding[],
  options: {
    /** Binding of the first one. @default {0} */
    first?: number;
  } = {},
): string {
  const { first = 0 } = options;
  return bindings.map(([name, access, element], i) =>
    `@group(0) @binding(${first + i}) var<storage, ${access}> ${name}: array<${element}>;`
  ).join("\n");
}

/** Invocations of a workgroup in the kernels that give a workgroup one token. */
export const WORKGROUP_SIZE = 256;

/** `size` rounded up to a whole number of vec4, the row pitch of the matrices on the device. */
export function padToVec4(size: number): number {
  return Math.ceil(size / 4) * 4;
}
