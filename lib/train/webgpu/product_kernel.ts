/**
 * Products of matrices: `out = alpha · A · Bᵀ + beta · addend + bias`, tile by tile as the encoder's kernel does it
 * (`lib/compute/webgpu/encode_kernel.ts`), for matrices that lie either way. In training the encoder lies row by latent,
 * like the decoder, so that an optimizer moves both alike; Muon multiplies a matrix by itself.
 *
 * @module
 */
import { DEFAULT_ENCODE_TILE, type EncodeTile, tileInvocations } from "../../compute/webgpu/encode_kernel.ts";
import type { Kernel } from "../../compute/webgpu/kernel.ts";
import { floatBits } from "./rows.ts";

/** How a factor lies in memory: `rows` has the summed index along its rows, `columns` has it down its columns. */
export type FactorLayout = "rows" | "columns";

/** Which product. */
export interface ProductShape {
  /** `rows`: shape `[m, k]`, `columns`: `[k, m]`. */
  a: FactorLayout;
  /** `rows`: shape `[n, k]`, `columns`: `[k, n]`. */
  b: FactorLayout;
  /** Whether a bias of shape `[n]` is added to each row. @default {false} */
  bias?: boolean;
  /** Whether a matrix in the shape of the result is added, times `beta`. @default {false} */
  addend?: boolean;
  /** Whether row `j` of `B` is row `indices[j]` of its buffer; only with `b: "rows"`. @default {false} */
  indexed?: boolean;
}

/** Sizes of a product and its factors. */
export interface ProductSize {
  /** Rows of the result. */
  m: number;
  /** Columns of the result. */
  n: number;
  /** Length of the sums. */
  k: number;
  /** Row of `A` that the first row of the result is made of; only with `a: "rows"`. @default {0} */
  firstRow?: number;
  /** @default {1} */
  alpha?: number;
  /** @default {0} */
  beta?: number;
}

/** Kernel of a product; binds `a`, `b`, `out` and, where they are asked for, `bias`, `addend` and `indices`. */
export function productKernel(shape: ProductShape, tile: EncodeTile = DEFAULT_ENCODE_TILE): Kernel {
  const { a, b, bias = false, addend = false, indexed = false } = shape;
  const { tokens, latents, depth, blockTokens, blockLatents } = tile;
  const rows = range(blockTokens);
  const columns = range(blockLatents / 4);
  const acrossLatents = latents / blockLatents;
  const optional = [...(bias ? ["bias"] : []), ...(addend ? ["addend"] : []), ...(indexed ? ["indices"] : [])];
  const code = /* wgsl */ `
const TILE_M = ${tokens}u;
const TILE_N = ${latents / 4}u; // in vec4
const DEPTH = ${depth}u;
const INVOCATIONS = ${tileInvocations(tile)}u;

struct Params { m: u32, n: u32, k: u32, first_row: u32, alpha: f32, beta: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;
${
    optional.map((name, i) =>
      `@group(0) @binding(${4 + i}) var<storage, read> ${name}: array<${name === "indices" ? "u32" : "vec4f"}>;`
    ).join("\n")
  }

var<workgroup> a_tile: array<f32, ${tokens * depth}>; // [depth][m]
var<workgroup> b_tile: array<vec4f, ${(latents / 4) * depth}>; // [depth][n]

fn vec4_of(size: u32) -> u32 { return (size + 3u) / 4u; }

${a === "rows" ? LOAD_A_ROWS : LOAD_A_COLUMNS}
${b === "rows" ? loadBRows(indexed) : LOAD_B_COLUMNS}

@compute @workgroup_size(${tileInvocations(tile)})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first_m = group.y * TILE_M;
  let first_n = group.x * TILE_N;
  let block_m = local / ${acrossLatents}u * ${blockTokens}u;
  let block_n = local % ${acrossLatents}u * ${blockLatents / 4}u;
${rows.map((m) => columns.map((n) => `  var sum_${m}_${n} = vec4f();`).join("\n")).join("\n")}

  for (var slab = 0u; slab < params.k; slab += DEPTH) {
    load_a(local, first_m, slab);
    load_b(local, first_n, slab);
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k++) {
      let a_at = k * TILE_M + block_m;
      let b_at = k * TILE_N + block_n;
${columns.map((n) => `      let b_${n} = b_tile[b_at + ${n}u];`).join("\n")}
${
    rows.map((m) =>
      `      let a_${m} = a_tile[a_at + ${m}u];\n` +
      columns.map((n) => `      sum_${m}_${n} += a_${m} * b_${n};`).join("\n")
    ).join("\n")
  }
    }
    workgroupBarrier();
  }

  let pitch = vec4_of(params.n);
${
    columns.map((n) => `
  let column_${n} = first_n + block_n + ${n}u;
  if (column_${n} < pitch) {
${
      rows.map((m) =>
        `    if (first_m + block_m + ${m}u < params.m) {
      let at = (first_m + block_m + ${m}u) * pitch + column_${n};
      out[at] = params.alpha * sum_${m}_${n}${addend ? " + params.beta * addend[at]" : ""}${
          bias ? ` + bias[column_${n}]` : ""
        };
    }`
      ).join("\n")
    }
  }`).join("\n")
  }
}
`;
  const label = `product of ${a} and ${b}`;
  return { label, code, bindings: ["params", "a", "b", "out", ...optional] };
}

/** The `params` of a product. */
export function productParams({ m, n, k, firstRow = 0, alpha = 1, beta = 0 }: ProductSize): number[] {
  return [m, n, k, firstRow, floatBits(alpha), floatBits(beta)];
}

/** Grid of a product. */
export function productWorkgroups(
  { m, n }: { m: number; n: number },
  tile: EncodeTile = DEFAULT_ENCODE_TILE,
): [number, number] {
  return [Math.ceil(n / tile.latents), Math.ceil(m / tile.tokens)];
}

const LOAD_A_ROWS = /* wgsl */ `
fn load_a(local: u32, first_m: u32, slab: u32) {
  let pitch = vec4_of(params.k);
  for (var i = local; i < TILE_M * DEPTH / 4u; i += INVOCATIONS) {
    let m = i / (DEPTH / 4u);
    let column = i % (DEPTH / 4u);
    var loaded = vec4f();
    if (first_m + m < params.m && slab / 4u + column < pitch) {
      loaded = a[(params.first_row + first_m + m) * pitch + slab / 4u + column];
    }
    for (var c = 0u; c < 4u; c++) { a_tile[(4u * column + c) * TILE_M + m] = loaded[c]; }
  }
}
`;

const LOAD_A_COLUMNS = /* wgsl */ `
fn load_a(local: u32, first_m: u32, slab: u32) {
  let pitch = vec4_of(params.m);
  for (var i = local; i < TILE_M / 4u * DEPTH; i += INVOCATIONS) {
    let row = i / (TILE_M / 4u);
    let column = i % (TILE_M / 4u);
    var loaded = vec4f();
    if (slab + row < params.k && first_m / 4u + column < pitch) {
      loaded = a[(slab + row) * pitch + first_m / 4u + column];
    }
    for (var c = 0u; c < 4u; c++) { a_tile[row * TILE_M + 4u * column + c] = loaded[c]; }
  }
}
`;

/** Four rows at once, turned around in registers: invocations must not share a vec4 of workgroup memory. */
const loadBRows = (indexed: boolean) => /* wgsl */ `
fn load_b_row(n: u32, column: u32, pitch: u32) -> vec4f {
  if (n >= params.n || column >= pitch) { return vec4f(); }
  return b[${indexed ? "indices[n]" : "n"} * pitch + column];
}

fn load_b(local: u32, first_n: u32, slab: u32) {
  let pitch = vec4_of(params.k);
  for (var i = local; i < TILE_N * DEPTH / 4u; i += INVOCATIONS) {
    let n = i / (DEPTH / 4u);
    let column = i % (DEPTH / 4u);
    let row = 4u * (first_n + n);
    let turned = transpose(mat4x4f(
      load_b_row(row, slab / 4u + column, pitch),
      load_b_row(row + 1u, slab / 4u + column, pitch),
      load_b_row(row + 2u, slab / 4u + column, pitch),
      load_b_row(row + 3u, slab / 4u + column, pitch),
    ));
    for (var c = 0u; c < 4u; c++) { b_tile[(4u * column + c) * TILE_N + n] = turned[c]; }
  }
}
`;

const LOAD_B_COLUMNS = /* wgsl */ `
fn load_b(local: u32, first_n: u32, slab: u32) {
  let pitch = vec4_of(params.n);
  for (var i = local; i < TILE_N * DEPTH; i += INVOCATIONS) {
    let row = i / TILE_N;
    let column = first_n + i % TILE_N;
    var loaded = vec4f();
    if (slab + row < params.k && column < pitch) { loaded = b[(slab + row) * pitch + column]; }
    b_tile[i] = loaded;
  }
}
`;

function range(length: number): number[] {
  return Array.from({ length }, (_, i) => i);
}
