/**
 * Screens as ONNX graphs: `x · wEnc + bias` in float32 or in 8 bits, with a bias that makes upper bounds of the products.
 *
 * @module
 */
import { buildOnnx, microsoftDomain, type NodeSpec, type TensorSpec } from "../../onnx/build.ts";

/** Names of what the graphs take and make. */
export const graphNames = { x: "x", xScale: "x_scale", bias: "bias", bounds: "bounds" } as const;

const encoderName = "w_enc";

/** An encoder, as a screen multiplies with it. */
export type ScreenEncoder =
  | { readonly precision: "float32"; /** Shape `[nColumns, width]`. */ readonly rows: Float32Array }
  | {
    readonly precision: "int8";
    /** Shape `[width, nColumns]`. */
    readonly columns: Int8Array;
    /** What a column is to be multiplied by, shape `[nColumns]`. */
    readonly scales: Float32Array;
  };

/** Zero of activations in 8 bits. */
export const ZERO_POINT = 128;

/** A graph for `createSession()`. */
export interface ScreenGraph {
  readonly model: Uint8Array;
  /** Constants that lie apart from the model, by name. */
  readonly weights: Readonly<Record<string, Float32Array | Int8Array>>;
}

/**
 * Builds a screen. It takes `x` of shape `[nTokens, width]` (float32, or 8 bits with `x_scale`, shape `[1]`) and `bias`
 * of shape `[nColumns]`, and makes `bounds` of shape `[nTokens, nColumns]`.
 */
export function buildScreen(encoder: ScreenEncoder, shape: { width: number; nColumns: number }): ScreenGraph {
  const { width, nColumns } = shape;
  const { x, xScale, bias, bounds } = graphNames;
  const inputs: TensorSpec[] = [{ name: bias, dims: [nColumns] }];
  const constants: TensorSpec[] = [];
  const nodes: NodeSpec[] = [];
  if (encoder.precision === "float32") {
    inputs.push({ name: x, dims: ["n_tokens", width] });
    constants.push({ name: encoderName, dims: [nColumns, width], data: encoder.rows, isApart: true });
    nodes.push({ op: "Gemm", inputs: [x, encoderName, bias], outputs: [bounds], attributes: { transB: 1 } });
  } else {
    inputs.push({ name: x, dims: ["n_tokens", width], type: "uint8" }, { name: xScale, dims: [1] });
    constants.push(
      { name: encoderName, dims: [width, nColumns], data: encoder.columns, isApart: true },
      { name: "scales", dims: [nColumns], data: encoder.scales },
      { name: "zero_point", dims: [1], data: Uint8Array.of(ZERO_POINT) },
    );
    nodes.push({
      op: "MatMulIntegerToFloat",
      domain: microsoftDomain,
      inputs: [x, encoderName, xScale, "scales", "zero_point", "", bias],
      outputs: [bounds],
    });
  }
  return {
    model: buildOnnx({ inputs, constants, nodes, outputs: [bounds] }),
    weights: { [encoderName]: encoder.precision === "float32" ? encoder.rows : encoder.columns },
  };
}
