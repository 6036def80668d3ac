/**
 * The encoder as ONNX graphs: `h = (x − bDec) · wEnc + bEnc`, then the activation rule, with only the kept entries
 * coming out. Weights are constants of the graph, so onnxruntime packs them once.
 *
 * @module
 */
import { buildOnnx, type NodeSpec, type TensorSpec } from "../../onnx/build.ts";
import { jumpReluFloors, type TokenWeights } from "../contract.ts";

/** Names of what the graphs take and make. */
export const graphNames = { x: "x", values: "values", latents: "latents", tokens: "tokens" } as const;

/**
 * Bytes of the encoder of an SAE.
 *
 * - `topK`: `values` and `latents` of shape `[nTokens, k]`, in no order within a token. Of equal pre-activations
 *   onnxruntime keeps the lower latent index, as the ONNX specification of TopK asks.
 * - `relu`, `jumpRelu`: `values`, `latents` and `tokens` of shape `[nEntries]`, ordered by token, then latent.
 */
export function buildEncoder(weights: TokenWeights): Uint8Array {
  const { dModel, dSae, wEnc, bEnc, bDec, subtractBDec, rule } = weights;
  const constants: TensorSpec[] = [
    { name: "w_enc", dims: [dModel, dSae], data: wEnc },
    { name: "b_enc", dims: [dSae], data: bEnc },
  ];
  const nodes: NodeSpec[] = [];
  if (subtractBDec) {
    constants.push({ name: "b_dec", dims: [dModel], data: bDec });
    nodes.push({ op: "Sub", inputs: [graphNames.x, "b_dec"], outputs: ["centered"] });
  }
  nodes.push({ op: "Gemm", inputs: [subtractBDec ? "centered" : graphNames.x, "w_enc", "b_enc"], outputs: ["h"] });

  const int32 = { to: 6 };
  if (rule.kind === "topK") {
    constants.push({ name: "k", dims: [1], data: BigInt64Array.of(BigInt(rule.k)) });
    nodes.push(
      { op: "TopK", inputs: ["h", "k"], outputs: [graphNames.values, "latents_64"], attributes: { sorted: 0 } },
      { op: "Cast", inputs: ["latents_64"], outputs: [graphNames.latents], attributes: int32 },
    );
  } else {
    nodes.push(
      { op: "Greater", inputs: ["h", "floor"], outputs: ["active"] },
      { op: "NonZero", inputs: ["active"], outputs: ["position_rows"] },
      { op: "Transpose", inputs: ["position_rows"], outputs: ["positions"] },
      { op: "GatherND", inputs: ["h", "positions"], outputs: [graphNames.values] },
      { op: "Cast", inputs: ["position_rows"], outputs: ["positions_32"], attributes: int32 },
      { op: "Split", inputs: ["positions_32"], outputs: ["tokens_row", "latents_row"], attributes: { axis: 0 } },
      { op: "Reshape", inputs: ["tokens_row", "flat"], outputs: [graphNames.tokens] },
      { op: "Reshape", inputs: ["latents_row", "flat"], outputs: [graphNames.latents] },
    );
    const floor = rule.kind === "jumpRelu" ? jumpReluFloors(rule) : Float32Array.of(0);
    constants.push(
      { name: "floor", dims: [floor.length], data: floor },
      { name: "flat", dims: [1], data: BigInt64Array.of(-1n) },
    );
  }
  const { values, latents, tokens } = graphNames;
  return buildOnnx({
    inputs: [{ name: graphNames.x, dims: ["n_tokens", dModel] }],
    constants,
    nodes,
    outputs: rule.kind === "topK" ? [values, latents] : [values, latents, tokens],
  });
}
