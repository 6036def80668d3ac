/**
 * Reads off a graph what tells families of ViTs apart: its norms, scales and positions.
 *
 * @module
 */
import { nodeAttribute } from "../onnx/attributes.ts";
import { type Flow, traceFlow } from "../onnx/flow.ts";
import { elementTypes, type OnnxModel, type OnnxNode } from "../onnx/model.ts";
import { readFields, wireFloat } from "../onnx/wire.ts";
import type { GraphSigns } from "./families.ts";
import type { BlockTensors } from "./residual_stream.ts";

const norms = new Set(["LayerNormalization", "SimplifiedLayerNormalization"]);

/** The signs of a graph that need no run. */
export function readGraphSigns(
  model: OnnxModel,
  blocks: readonly BlockTensors[],
  input: string,
): Pick<GraphSigns, "layerNormEpsilon" | "normBeforeBlocks" | "layerScale" | "rotary"> {
  const flow = traceFlow(model, input);
  const [first] = blocks;
  const attention = flow.between(first.residPre, first.attnOut[0]) ?? [];
  return {
    layerNormEpsilon: findEpsilon(attention, model, flow),
    normBeforeBlocks: isNormalized(first.residPre, model, flow),
    layerScale: isScaled(first.attnOut[0], model, flow),
    // Rotation by position swaps halves of a vector with a minus.
    rotary: attention.some(({ opType }) => opType === "Neg" || opType === "RotaryEmbedding"),
  };
}

/** Epsilon of the first norm in a branch: an attribute, or what is added before the square root. */
function findEpsilon(inside: readonly OnnxNode[], model: OnnxModel, flow: Flow): number | undefined {
  const norm = inside.find(({ opType }) => norms.has(opType));
  if (norm !== undefined) return nodeAttribute(norm, "epsilon")?.float ?? 1e-5;
  for (const node of inside) {
    if (node.opType !== "Sqrt") continue;
    const sum = flow.producer(node.inputs[0]);
    const constant = sum?.opType === "Add" ? sum.inputs.find((name) => !flow.depends(name)) : undefined;
    if (constant !== undefined) return readNumber(constant, model, flow);
  }
  return undefined;
}

/** A stored float; `undefined` if it is none. */
function readNumber(tensor: string, model: OnnxModel, flow: Flow): number | undefined {
  const node = flow.producer(tensor);
  const message = node ? nodeAttribute(node, "value")?.tensor : model.initializers.get(tensor)?.bytes;
  let type = 0;
  let float: number | undefined;
  for (const { field, value, bytes } of readFields(message ?? new Uint8Array(0))) {
    if (field === 2) type = value;
    // Floats are a field of their own, or raw bytes.
    else if ((field === 4 || field === 9) && bytes.length === 4) {
      float = wireFloat(bytes);
    }
  }
  return type === elementTypes.float32 ? float : undefined;
}

/** Whether a tensor comes out of a layer norm: in one operator, or as a product and a sum with vectors. */
function isNormalized(tensor: string, model: OnnxModel, flow: Flow): boolean {
  let node = flow.producer(tensor);
  while (node?.opType === "Transpose" || node?.opType === "Identity" || node?.opType === "Cast") {
    node = flow.producer(node.inputs[0]);
  }
  if (node === undefined || norms.has(node.opType)) return node !== undefined;
  const product = node.opType === "Add" && vectorOperand(node, model, flow) !== undefined
    ? flow.producer(node.inputs.find((name) => flow.depends(name))!)
    : undefined;
  return product?.opType === "Mul" && vectorOperand(product, model, flow) !== undefined;
}

/** Whether a branch ends in a product with a vector. */
function isScaled(branch: string, model: OnnxModel, flow: Flow): boolean {
  const node = flow.producer(flow.origin(branch));
  return node?.opType === "Mul" && vectorOperand(node, model, flow) !== undefined;
}

function vectorOperand(node: OnnxNode, model: OnnxModel, flow: Flow): string | undefined {
  return node.inputs.find((name) => {
    if (flow.depends(name)) return false;
    const dims = model.initializers.get(flow.origin(name))?.dims;
    return dims === undefined || dims.filter((dim) => dim > 1).length === 1;
  });
}
