/**
 * How numbers flow through a graph: what depends on an input, and what lies between two tensors.
 *
 * @module
 */
import { type OnnxModel, type OnnxNode, producers } from "./model.ts";

/** Questions about one graph and one of its inputs. */
export interface Flow {
  /** Whether a tensor's numbers depend on the input. Shapes that are read off a tensor do not count. */
  depends(tensor: string): boolean;
  /** The node that makes a tensor; `undefined` for inputs and stored constants. */
  producer(tensor: string): OnnxNode | undefined;
  /** The nodes that take a tensor. */
  consumers(tensor: string): readonly OnnxNode[];
  /** The tensor that this one repeats in another precision. */
  origin(tensor: string): string;
  /**
   * Nodes on the way from one tensor to another, the last first; `undefined` if some of the input reaches `to` around
   * `from`.
   */
  between(from: string, to: string): OnnxNode[] | undefined;
}

// These hand on what they are given, up to rounding.
const repeating = new Set(["Cast", "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"]);

/** Looks at what depends on `input`. */
export function traceFlow(model: OnnxModel, input: string): Flow {
  const madeBy = producers(model);
  const dependent = new Set([input]);
  const takenBy = new Map<string, OnnxNode[]>();
  // ONNX nodes are stored in the order they run.
  for (const node of model.nodes) {
    for (const name of new Set(node.inputs)) {
      const nodes = takenBy.get(name);
      if (nodes === undefined) takenBy.set(name, [node]);
      else nodes.push(node);
    }
    if (node.opType === "Shape" || node.opType === "Size") continue;
    if (node.inputs.some((name) => dependent.has(name))) node.outputs.forEach((output) => dependent.add(output));
  }
  const producer = (tensor: string) => {
    const index = madeBy.get(tensor);
    return index === undefined ? undefined : model.nodes[index];
  };
  return {
    depends: (tensor) => dependent.has(tensor),
    producer,
    consumers: (tensor) => takenBy.get(tensor) ?? [],
    origin(tensor) {
      for (let node = producer(tensor); node && repeating.has(node.opType); node = producer(tensor)) {
        tensor = node.inputs[0];
      }
      return tensor;
    },
    between(from, to) {
      const inside = new Set<OnnxNode>();
      const seen = new Set<string>([from]);
      const pending = [to];
      while (pending.length > 0) {
        const tensor = pending.pop()!;
        if (seen.has(tensor) || !dependent.has(tensor)) continue;
        seen.add(tensor);
        const node = producer(tensor);
        if (node === undefined) return undefined; // The input itself.
        inside.add(node);
        pending.push(...node.inputs);
      }
      return [...inside];
    },
  };
}
