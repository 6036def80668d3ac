/**
 * Takes fused operators apart, so that a graph reads the same whoever optimized or quantized it: an addition and a norm
 * in one, a bias and a GELU in one, an addition of integers. onnxruntime fuses what it likes again when it runs.
 * Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 *
 * @module
 */
import { nodeAttribute } from "../onnx/attributes.ts";
import { makeNode, microsoftDomain, withMicrosoftOperators } from "../onnx/build.ts";
import { traceFlow } from "../onnx/flow.ts";
import type { OnnxModel, OnnxNode } from "../onnx/model.ts";

/** The same model with plain operators around its residual stream and its GELUs. `input` is the one for pixels. */
export function takeApart(model: OnnxModel, input: string): OnnxModel {
  const { depends } = traceFlow(model, input);
  const nodes = model.nodes.flatMap((node) => {
    if (node.opType === "Sum") return apartSum(node, depends);
    return parts[node.opType]?.(node) ?? [node];
  });
  if (nodes.length === model.nodes.length) return model;
  return withMicrosoftOperators({ ...model, nodes });
}

const parts: Readonly<Record<string, (node: OnnxNode) => OnnxNode[]>> = {
  SkipLayerNormalization: (node) => {
    const [first, second, scale, shift, bias] = node.inputs;
    return apartNorm(node, { op: "LayerNormalization", terms: [first, second, bias], factors: [scale, shift] });
  },
  SkipSimplifiedLayerNormalization: (node) => {
    const [first, second, scale, bias] = node.inputs;
    return apartNorm(node, { op: "SimplifiedLayerNormalization", terms: [first, second, bias], factors: [scale] });
  },
  BiasGelu: (node) => apartBias(node, "Gelu"),
  FastGelu: (node) => node.inputs[1] ? apartBias(node, "FastGelu") : [node],
  QLinearAdd: (node) => {
    const [a, aScale, aZero, b, bScale, bZero, scale, zero] = node.inputs;
    const [output] = node.outputs;
    const [left, right, sum] = ["left", "right", "sum"].map((name) => `${output}/${name}`);
    return [
      makeNode({ op: "DequantizeLinear", inputs: [a, aScale, aZero], outputs: [left] }),
      makeNode({ op: "DequantizeLinear", inputs: [b, bScale, bZero], outputs: [right] }),
      makeNode({ op: "Add", inputs: [left, right], outputs: [sum] }),
      makeNode({ op: "QuantizeLinear", inputs: [sum, scale, zero], outputs: [output] }),
    ];
  },
};

/** Adds up the terms, then applies the norm. The sum keeps its name where the graph has one for it. */
function apartNorm(
  node: OnnxNode,
  { op, terms, factors }: { op: string; terms: readonly string[]; factors: readonly string[] },
): OnnxNode[] {
  const [output, , , named] = node.outputs;
  const sum = named || `${output}/sum`;
  const epsilon = { float: nodeAttribute(node, "epsilon")?.float ?? 1e-12 };
  return [
    ...addUp(terms.filter(Boolean), sum),
    makeNode({ op, inputs: [sum, ...factors.filter(Boolean)], outputs: [output], attributes: { axis: -1, epsilon } }),
  ];
}

function apartBias(node: OnnxNode, op: string): OnnxNode[] {
  const [output] = node.outputs;
  return [
    makeNode({ op: "Add", inputs: node.inputs, outputs: [`${output}/biased`] }),
    makeNode({ op, domain: microsoftDomain, inputs: [`${output}/biased`], outputs: [output] }),
  ];
}

/** What comes from the image first, constants after. */
function apartSum(node: OnnxNode, depends: (tensor: string) => boolean): OnnxNode[] {
  if (node.inputs.length < 2) return [node];
  const fromImage = node.inputs.filter(depends);
  return addUp([...fromImage, ...node.inputs.filter((name) => !depends(name))], node.outputs[0]);
}

/** Additions, from the first term to the last. */
export function addUp(terms: readonly string[], output: string): OnnxNode[] {
  let sum = terms[0];
  return terms.slice(1).map((term, i) => {
    const next = i === terms.length - 2 ? output : `${output}/partial_${i}`;
    const node = makeNode({ op: "Add", inputs: [sum, term], outputs: [next] });
    sum = next;
    return node;
  });
}
