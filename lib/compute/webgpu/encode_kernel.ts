/**
 * The one large product of an SAE: `pre = (x - b_dec) · w_enc + b_enc`.
 * A workgroup makes one tile of the result. It walks along `dModel` in slabs that it first stages in workgroup memory,
 * and each invocation keeps a small block of the tile in registers, so that a number fetched once is used many times.
 *
 * @module
 */
import { type Kernel, padToVec4 } from "./kernel.ts";

/** How the result is cut among workgroups and invocations. */
export interface EncodeTile {
  /** Tokens of one workgroup's tile. */
  tokens: number;
  /** Latents of one workgroup's tile, a multiple of 4. */
  latents: number;
  /** Step along `dModel`, a multiple of 4. */
  depth: number;
  /** Tokens of one invocation's block. */
  blockTokens: number;
  /** Latents of one invocation's block, a multiple of 4. */
  blockLatents: number;
  /** Steps along `depth` that are written out one after the other, a divisor of it. @default {1} */
  unroll?: number;
}

/** How the encoder's weights are stored: as they are, or rounded to 16 bits. Sums are of 32 bits either way. */
export type Precision = "float32" | "float16";

/**
 * 8 x 8 sums an invocation: of the shapes tried on lavapipe and SwiftShader, the fastest whose sums (64 floats) and tiles
 * (12 KiB of workgroup memory) fit every GPU. Blocks of 4 x 4 took twice as long; 8 x 16 won another quarter on lavapipe
 * and lost on SwiftShader.
 */
export const DEFAULT_ENCODE_TILE: EncodeTile = { tokens: 64, latents: 128, depth: 16, blockTokens: 8, blockLatents: 8 };

/**
 * Kernel of the encoder product. Rows of all matrices are padded with zeros to whole vec4, so any size works. Sizes come
 * in `params`, see {@linkcode encodeParams}, because this kernel takes long to compile: one text serves every SAE.
 *
 * `b_dec` is subtracted from `x` as it is loaded. Folding `b_dec · w_enc` into the bias would save that work and round
 * differently from the published models.
 */
export function encodeKernel(
  options: { subtractBDec: boolean; precision?: Precision },
  tile: EncodeTile = DEFAULT_ENCODE_TILE,
): Kernel {
  const { subtractBDec, precision = "float32" } = options;
  const { tokens, latents, depth, blockTokens, blockLatents, unroll = 1 } = tile;
  const half = precision === "float16";
  const rows = range(blockTokens);
  const columns = range(blockLatents / 4);
  const acrossLatents = latents / blockLatents;
  const invocations = tileInvocations(tile);
  const bindings = ["params", "x", "w_enc", "b_enc", "pre", ...(subtractBDec ? ["b_dec"] : [])];

  const code = /* wgsl */ `${half ? "enable f16;\n" : ""}
const TILE_TOKENS = ${tokens}u;
const TILE_LATENTS = ${latents / 4}u; // in vec4
const DEPTH = ${depth}u;
const INVOCATIONS = ${invocations}u;

// Pitches and panel_begin are in vec4.
struct Params { n_tokens: u32, d_model: u32, x_pitch: u32, pre_pitch: u32, panel_begin: u32, panel_pitch: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> w_enc: array<${half ? "vec4h" : "vec4f"}>;
@group(0) @binding(3) var<storage, read> b_enc: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> pre: array<vec4f>;
${subtractBDec ? "@group(0) @binding(5) var<storage, read> b_dec: array<vec4f>;" : ""}

// Transposed to [depth][token], so that the inner loop walks both tiles along the same axis.
var<workgroup> x_tile: array<f32, ${tokens * depth}>;
var<workgroup> w_tile: array<vec4f, ${(latents / 4) * depth}>;

fn load_x(token: u32, column: u32) -> vec4f {
  if (token >= params.n_tokens || column >= params.x_pitch) { return vec4f(); }
  return x[token * params.x_pitch + column]${subtractBDec ? " - b_dec[column]" : ""};
}

fn load_w(row: u32, column: u32) -> vec4f {
  if (row >= params.d_model || column >= params.panel_pitch) { return vec4f(); }
  return ${half ? "vec4f(w_enc[row * params.panel_pitch + column])" : "w_enc[row * params.panel_pitch + column]"};
}

@compute @workgroup_size(${invocations})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * TILE_TOKENS;
  let first_column = group.x * TILE_LATENTS;
  let block_token = local / ${acrossLatents}u * ${blockTokens}u;
  let block_column = local % ${acrossLatents}u * ${blockLatents / 4}u;
${rows.map((m) => columns.map((n) => `  var sum_${m}_${n} = vec4f();`).join("\n")).join("\n")}

  for (var slab = 0u; slab < params.d_model; slab += DEPTH) {
    for (var i = local; i < TILE_TOKENS * DEPTH / 4u; i += INVOCATIONS) {
      let token = i / (DEPTH / 4u);
      let column = i % (DEPTH / 4u);
      let loaded = load_x(first_token + token, slab / 4u + column);
      x_tile[(column * 4u) * TILE_TOKENS + token] = loaded.x;
      x_tile[(column * 4u + 1u) * TILE_TOKENS + token] = loaded.y;
      x_tile[(column * 4u + 2u) * TILE_TOKENS + token] = loaded.z;
      x_tile[(column * 4u + 3u) * TILE_TOKENS + token] = loaded.w;
    }
    for (var i = local; i < TILE_LATENTS * DEPTH; i += INVOCATIONS) {
      w_tile[i] = load_w(slab + i / TILE_LATENTS, first_column + i % TILE_LATENTS);
    }
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k += ${unroll}u) {
${range(unroll).map((step) => multiplyStep(step, { rows, columns })).join("\n")}
    }
    workgroupBarrier();
  }

${columns.map((n) => storeColumn(n, rows)).join("\n")}
}
`;
  return { label: "encode", code, bindings };
}

/** The `params` of the kernel for `nTokens` tokens and the latents of one panel. */
export function encodeParams(
  size: { nTokens: number; dModel: number; dSae: number },
  panel: { begin: number; end: number },
): number[] {
  const { nTokens, dModel, dSae } = size;
  const { begin, end } = panel;
  return [nTokens, dModel, padToVec4(dModel) / 4, padToVec4(dSae) / 4, begin / 4, padToVec4(end - begin) / 4];
}

/** Grid of the kernel for `nTokens` tokens and a panel of `nLatents` latents. */
export function encodeWorkgroups(
  size: { nTokens: number; nLatents: number },
  tile: EncodeTile = DEFAULT_ENCODE_TILE,
): [number, number] {
  return [Math.ceil(size.nLatents / tile.latents), Math.ceil(size.nTokens / tile.tokens)];
}

/** Invocations of a workgroup that makes one tile. */
export function tileInvocations({ tokens, latents, blockTokens, blockLatents }: EncodeTile): number {
  return (tokens / blockTokens) * (latents / blockLatents);
}

/** Bytes of workgroup memory a tile needs for its slabs of `x` and of `w_enc`. */
export function tileBytes({ tokens, latents, depth }: EncodeTile): number {
  return 4 * depth * (tokens + latents);
}

/** Adds the products of one step along `depth` to an invocation's block. */
function multiplyStep(step: number, block: { rows: number[]; columns: number[] }): string {
  const { rows, columns } = block;
  return /* wgsl */ `      {
        let w_at = (k + ${step}u) * TILE_LATENTS + block_column;
        let x_at = (k + ${step}u) * TILE_TOKENS + block_token;
${columns.map((n) => `        let w_${n} = w_tile[w_at + ${n}u];`).join("\n")}
${
    rows.map((m) =>
      `        let x_${m} = x_tile[x_at + ${m}u];\n` +
      columns.map((n) => `        sum_${m}_${n} += x_${m} * w_${n};`).join("\n")
    ).join("\n")
  }
      }`;
}

/** Writes one vec4 column of an invocation's block, leaving out what lies beyond the panel or the batch. */
function storeColumn(n: number, rows: number[]): string {
  return /* wgsl */ `
  let column_${n} = first_column + block_column + ${n}u;
  if (column_${n} < params.panel_pitch) {
    let out_${n} = params.panel_begin + column_${n};
    let bias_${n} = b_enc[out_${n}];
${
    rows.map((m) =>
      `    if (first_token + block_token + ${m}u < params.n_tokens) {
      pre[(first_token + block_token + ${m}u) * params.pre_pitch + out_${n}] = sum_${m}_${n} + bias_${n};
    }`
    ).join("\n")
  }
  }`;
}

function range(length: number): number[] {
  return Array.from({ length }, (_, i) => i);
}
