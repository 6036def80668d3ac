/**
 * Screens as ONNX graphs: an upper bound of every pre-activation, and of each token those whose bounds are highest.
 * Little more than those comes out: an output is copied on its way to JavaScript, and a dense one costs as much as a
 * third of a product.
 *
 * @module
 */
import { buildOnnx, microsoftDomain, type NodeSpec, type TensorSpec } from "../../onnx/build.ts";

/** Names of what the graphs take and make. */
export const graphNames = {
  x: "x",
  xScale: "x_scale",
  bias: "bias",
  nAsked: "n_asked",
  bounds: "bounds",
  latents: "latents",
  groups: "groups",
  lowest: "lowest",
} as const;

const encoderName = "w_enc";

/** How bounds are found: by a product in float32, or in 8 bits. */
export type ScreenProduct =
  | { readonly kind: "float32"; /** Shape `[dSae, width]`. */ readonly rows: Float32Array }
  | {
    readonly kind: "int8";
    /** Shape `[width, dSae]`. */
    readonly columns: Int8Array;
    /** What a column is to be multiplied by, shape `[dSae]`. */
    readonly scales: Float32Array;
  };

/** What comes out of a token: the latents with the highest bounds, or the groups of latents with the highest ones. */
export type ScreenOutput = "latents" | "groups";

/** Zero of activations in 8 bits. */
export const ZERO_POINT = 128;

/** Groups have this many latents, so that most are ruled out by the maximum of their group. */
const LARGEST_GROUP = 8;

/**
 * Latents of a group: group `g` holds latents `g`, `g + dSae / size`, `g + 2 · dSae / size`, …, so that a maximum over
 * groups reads memory in order.
 */
export function groupSize(dSae: number): number {
  let size = LARGEST_GROUP;
  while (dSae % size !== 0) size /= 2;
  return size;
}

/** A graph for `createSession()`. */
export interface ScreenGraph {
  readonly model: Uint8Array;
  /** Constants that lie apart from the model, by name. */
  readonly weights: Readonly<Record<string, Float32Array | Int8Array>>;
}

/**
 * Builds a screen. It takes `x` of shape `[nTokens, width]` (8 bits with `x_scale`, shape `[1]`, or float32), `bias` of
 * shape `[dSae]` and how many are asked for, `n_asked`, shape `[1]`.
 *
 * - `latents`: `bounds` and `latents` of shape `[nTokens, nAsked]`, in no order within a token.
 * - `groups`: `groups` of shape `[nTokens, nAsked]`, in no order within a token, and the `bounds` of their latents, shape
 *   `[nTokens, groupSize, nAsked]`.
 *
 * `lowest`, shape `[nTokens]`, is what no bound of those left out exceeds.
 */
export function buildScreen(
  product: ScreenProduct,
  options: { width: number; dSae: number; output: ScreenOutput },
): ScreenGraph {
  const { width, dSae, output } = options;
  const { x, xScale, bias, nAsked, bounds, latents, groups, lowest } = graphNames;
  const inputs: TensorSpec[] = [
    { name: bias, dims: [dSae] },
    { name: nAsked, dims: [1], type: "int64" },
  ];
  const constants: TensorSpec[] = [];
  const nodes: NodeSpec[] = [];
  if (product.kind === "float32") {
    inputs.push({ name: x, dims: ["n_tokens", width] });
    constants.push({ name: encoderName, dims: [dSae, width], data: product.rows, isApart: true });
    nodes.push({ op: "Gemm", inputs: [x, encoderName, bias], outputs: ["h"], attributes: { transB: 1 } });
  } else {
    inputs.push({ name: x, dims: ["n_tokens", width], type: "uint8" }, { name: xScale, dims: [1] });
    constants.push(
      { name: encoderName, dims: [width, dSae], data: product.columns, isApart: true },
      { name: "scales", dims: [dSae], data: product.scales },
      { name: "zero_point", dims: [1], data: Uint8Array.of(ZERO_POINT) },
    );
    nodes.push({
      op: "MatMulIntegerToFloat",
      domain: microsoftDomain,
      inputs: [x, encoderName, xScale, "scales", "zero_point", "", bias],
      outputs: ["h"],
    });
  }
  const int32 = { to: 6 };
  const lowestOf = { axes: [1], keepdims: 0 };
  let outputs: string[];
  if (output === "latents") {
    nodes.push(
      { op: "TopK", inputs: ["h", nAsked], outputs: [bounds, "latents_64"], attributes: { sorted: 0 } },
      { op: "Cast", inputs: ["latents_64"], outputs: [latents], attributes: int32 },
      { op: "ReduceMin", inputs: [bounds], outputs: [lowest], attributes: lowestOf },
    );
    outputs = [bounds, latents, lowest];
  } else {
    const size = groupSize(dSae);
    constants.push(
      { name: "grouped_shape", dims: [3], data: integers(-1, size, dSae / size) },
      { name: "middle", dims: [1], data: integers(1) },
      { name: "members", dims: [3], data: integers(1, size, 1) },
    );
    nodes.push(
      { op: "Reshape", inputs: ["h", "grouped_shape"], outputs: ["grouped"] },
      { op: "ReduceMax", inputs: ["grouped"], outputs: ["maxima"], attributes: { axes: [1], keepdims: 0 } },
      { op: "TopK", inputs: ["maxima", nAsked], outputs: ["largest", "groups_64"], attributes: { sorted: 0 } },
      { op: "ReduceMin", inputs: ["largest"], outputs: [lowest], attributes: lowestOf },
      { op: "Cast", inputs: ["groups_64"], outputs: [groups], attributes: int32 },
      { op: "Unsqueeze", inputs: [groups, "middle"], outputs: ["one_row"] },
      { op: "Expand", inputs: ["one_row", "members"], outputs: ["rows"] },
      { op: "GatherElements", inputs: ["grouped", "rows"], outputs: [bounds], attributes: { axis: 2 } },
    );
    outputs = [bounds, groups, lowest];
  }
  return {
    model: buildOnnx({ inputs, constants, nodes, outputs }),
    weights: { [encoderName]: product.kind === "float32" ? product.rows : product.columns },
  };
}

function integers(...numbers: number[]): BigInt64Array {
  return BigInt64Array.from(numbers, BigInt);
}
