/**
 * The encoder as ONNX graphs: `h = (x − bDec) · wEnc + bEnc`, then the activation rule, with little more than the kept
 * entries coming out: an output is copied on its way to JavaScript, and a dense one costs as much as a third of the
 * product. Weights are constants of the graph, so onnxruntime packs them once; they lie apart from its bytes.
 *
 * @module
 */
import { buildOnnx, type NodeSpec, type TensorSpec } from "../../onnx/build.ts";
import { jumpReluFloors, type TokenWeights } from "../contract.ts";

/** Names of what the graphs take and make. */
export const graphNames = {
  x: "x",
  nGroups: "n_groups",
  values: "values",
  latents: "latents",
  groups: "groups",
  lowest: "lowest",
} as const;

/** Latents are looked at in groups of this many, so that most are ruled out by the maximum of their group. */
const LARGEST_GROUP = 8;

/**
 * Latents of a group: group `g` holds latents `g`, `g + dSae / size`, `g + 2 · dSae / size`, …, so that a maximum over
 * groups reads memory in order.
 */
export function groupSize({ dSae }: { dSae: number }): number {
  let size = LARGEST_GROUP;
  while (dSae % size !== 0) size /= 2;
  return size;
}

/** An encoder for `createSession()`. */
export interface EncoderGraph {
  readonly model: Uint8Array;
  /** Constants that lie apart from the model, by name. */
  readonly weights: Readonly<Record<string, Float32Array>>;
}

/**
 * Builds the encoder of an SAE.
 *
 * - `topK`: `values` and `latents` of shape `[nTokens, k]`, in no order within a token. Of equal pre-activations
 *   onnxruntime keeps the lower latent index, as the ONNX specification of TopK asks.
 * - `relu`, `jumpRelu`: of each token the `n_groups` (an input) groups of latents whose maxima are largest: `groups` of
 *   shape `[nTokens, nGroups]`, in no order within a token, and their `values` of shape `[nTokens, groupSize, nGroups]`,
 *   0 where the rule drops them. `lowest`, shape `[nTokens]`, is the smallest maximum among them: where it is above zero,
 *   other groups may have been active, and more have to be asked for.
 */
export function buildEncoder(weights: TokenWeights): EncoderGraph {
  const { dModel, dSae, wEnc, bEnc, bDec, subtractBDec, rule } = weights;
  const x = { name: graphNames.x, dims: ["n_tokens", dModel] };
  const wEncName = "w_enc";
  const constants: TensorSpec[] = [
    { name: wEncName, dims: [dModel, dSae], data: wEnc, isApart: true },
    { name: "b_enc", dims: [dSae], data: bEnc },
  ];
  const nodes: NodeSpec[] = [];
  if (subtractBDec) {
    constants.push({ name: "b_dec", dims: [dModel], data: bDec });
    nodes.push({ op: "Sub", inputs: [graphNames.x, "b_dec"], outputs: ["centered"] });
  }
  nodes.push({ op: "Gemm", inputs: [subtractBDec ? "centered" : graphNames.x, wEncName, "b_enc"], outputs: ["h"] });
  const finish = (inputs: TensorSpec[], outputs: string[]): EncoderGraph => ({
    model: buildOnnx({ inputs, constants, nodes, outputs }),
    weights: { [wEncName]: wEnc },
  });
  const int32 = { to: 6 };
  const { values, latents, nGroups, groups, lowest } = graphNames;
  if (rule.kind === "topK") {
    constants.push({ name: "k", dims: [1], data: integers(rule.k) });
    nodes.push(
      { op: "TopK", inputs: ["h", "k"], outputs: [values, "latents_64"], attributes: { sorted: 0 } },
      { op: "Cast", inputs: ["latents_64"], outputs: [latents], attributes: int32 },
    );
    return finish([x], [values, latents]);
  }

  // What is NaN becomes 0, too, so that maxima are numbers.
  if (rule.kind === "relu") {
    nodes.push({ op: "ThresholdedRelu", inputs: ["h"], outputs: ["kept"], attributes: { alpha: { float: 0 } } });
  } else {
    constants.push(
      { name: "floor", dims: [dSae], data: jumpReluFloors(rule) },
      { name: "zero", dims: [1], data: Float32Array.of(0) },
    );
    nodes.push(
      { op: "Greater", inputs: ["h", "floor"], outputs: ["active"] },
      { op: "Where", inputs: ["active", "h", "zero"], outputs: ["kept"] },
    );
  }
  const size = groupSize(weights);
  constants.push(
    { name: "grouped_shape", dims: [3], data: integers(-1, size, dSae / size) },
    { name: "middle", dims: [1], data: integers(1) },
    { name: "members", dims: [3], data: integers(1, size, 1) },
  );
  nodes.push(
    { op: "Reshape", inputs: ["kept", "grouped_shape"], outputs: ["grouped"] },
    { op: "ReduceMax", inputs: ["grouped"], outputs: ["maxima"], attributes: { axes: [1], keepdims: 0 } },
    { op: "TopK", inputs: ["maxima", nGroups], outputs: ["largest", "groups_64"], attributes: { sorted: 0 } },
    { op: "ReduceMin", inputs: ["largest"], outputs: [lowest], attributes: { axes: [1], keepdims: 0 } },
    { op: "Cast", inputs: ["groups_64"], outputs: [groups], attributes: int32 },
    { op: "Unsqueeze", inputs: [groups, "middle"], outputs: ["one_row"] },
    { op: "Expand", inputs: ["one_row", "members"], outputs: ["rows"] },
    { op: "GatherElements", inputs: ["grouped", "rows"], outputs: [values], attributes: { axis: 2 } },
  );
  return finish([x, { name: nGroups, dims: [1], type: "int64" }], [values, groups, lowest]);
}

function integers(...numbers: number[]): BigInt64Array {
  return BigInt64Array.from(numbers, BigInt);
}
