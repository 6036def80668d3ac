/**
 * Finds how a graph cuts the image into patches: a convolution, or a product with patches that were cut by reshaping.
 *
 * @module
 */
import { constantDims, nodeAttribute, nodeIntegers } from "../onnx/attributes.ts";
import { traceFlow } from "../onnx/flow.ts";
import type { OnnxModel, OnnxNode } from "../onnx/model.ts";

/** Edges of a patch in pixels. */
export interface PatchSize {
  readonly patchHeight: number;
  readonly patchWidth: number;
}

const nColors = 3;

// Where each operator has its weights.
const convolutionWeight: Readonly<Record<string, number>> = { Conv: 1, ConvInteger: 1, QLinearConv: 3 };
const productWeight: Readonly<Record<string, number>> = { MatMul: 1, Gemm: 1, MatMulInteger: 1, QLinearMatMul: 3 };
// These move numbers or scale them, which leaves patches what they are.
const arranging = new Set([
  ...["Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Add", "Sub", "Mul", "Div"],
  ...["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"],
]);

/**
 * Finds the size of a patch.
 *
 * @param input The graph's input for pixels.
 * @throws {TypeError} If the graph cuts no patches.
 */
export function findPatchSize(model: OnnxModel, input: string): PatchSize {
  const flow = traceFlow(model, input);
  /** Shape of a constant, through changes of its precision. */
  const dimsOf = (tensor: string): readonly number[] | undefined => {
    const origin = flow.origin(tensor);
    const producer = flow.producer(origin);
    return producer ? constantDims(producer) : model.initializers.get(origin)?.dims;
  };
  const arranged = new Set([input]);
  for (const node of model.nodes) {
    if (!node.inputs.some((name) => flow.depends(name))) continue;
    const patch = convolutionPatch(node, dimsOf) ?? (arranged.has(node.inputs[0]) && productPatch(node, dimsOf));
    if (patch) return patch;
    if (arranging.has(node.opType) && arranged.has(node.inputs[0])) node.outputs.forEach((name) => arranged.add(name));
  }
  throw new TypeError(
    "Cannot find the patch embedding: the graph must hold a convolution over 3 color channels whose stride equals its " +
      "kernel, or a product with square patches cut from the pixels, none was found",
  );
}

type DimsOf = (tensor: string) => readonly number[] | undefined;

function convolutionPatch(node: OnnxNode, dimsOf: DimsOf): PatchSize | undefined {
  const weight = convolutionWeight[node.opType];
  const dims = weight === undefined ? undefined : dimsOf(node.inputs[weight]);
  if (dims?.length !== 4 || dims[1] !== nColors) return undefined;
  const [, , patchHeight, patchWidth] = dims;
  const strides = nodeIntegers(node, "strides");
  return strides?.[0] === patchHeight && strides[1] === patchWidth ? { patchHeight, patchWidth } : undefined;
}

function productPatch(node: OnnxNode, dimsOf: DimsOf): PatchSize | undefined {
  const weight = productWeight[node.opType];
  const dims = weight === undefined ? undefined : dimsOf(node.inputs[weight]);
  if (dims?.length !== 2) return undefined;
  const nNumbers = nodeAttribute(node, "transB")?.integer === 1 ? dims[1] : dims[0];
  const edge = Math.sqrt(nNumbers / nColors);
  return Number.isInteger(edge) ? { patchHeight: edge, patchWidth: edge } : undefined;
}
