/**
 * Cuts a model to what a few of its tensors need, so that later blocks, heads and other towers cost nothing.
 *
 * @module
 */
import { graphFields, modelFields, type OnnxModel, type OnnxNode, producers, readGraph } from "./model.ts";
import { bytesField, joinPieces, type Pieces, readFields } from "./wire.ts";

/** What some tensors need. */
export interface NeededTensors {
  /** Names of these tensors and of all that they are made from. */
  readonly tensors: ReadonlySet<string>;
  /** Positions in the model of the nodes that make them. */
  readonly nodes: ReadonlySet<number>;
}

/**
 * Collects what the named tensors need.
 *
 * @throws {RangeError} If the model has no tensor of that name.
 */
export function neededTensors(model: OnnxModel, names: readonly string[]): NeededTensors {
  const madeBy = producers(model);
  const nodes = new Set<number>();
  const tensors = new Set<string>();
  const pending = [...names];
  while (pending.length > 0) {
    const tensor = pending.pop()!;
    if (tensor === "" || tensors.has(tensor)) continue;
    tensors.add(tensor);
    const index = madeBy.get(tensor);
    if (index === undefined) {
      if (model.initializers.has(tensor) || model.inputs.some((input) => input.name === tensor)) continue;
      throw new RangeError(`Cannot cut ONNX model: it must hold the tensor ${tensor}, there is none of that name`);
    }
    if (nodes.has(index)) continue;
    nodes.add(index);
    pending.push(...model.nodes[index].inputs, ...outerTensors(model.nodes[index]));
  }
  return { tensors, nodes };
}

/**
 * Bytes of the smallest model that makes the named tensors: they become its outputs, and all that they do not need is
 * left out, inputs too. onnxruntime computes every node of a graph whatever is asked of it, so this is how later
 * blocks are saved.
 *
 * @throws {RangeError} If the model has no tensor of that name.
 */
export function cutToOutputs(model: OnnxModel, names: readonly string[]): Uint8Array {
  const { tensors, nodes } = neededTensors(model, names);
  const graph: Pieces = bytesField(graphFields.name, "cut");
  model.nodes.forEach((node, index) => nodes.has(index) && graph.push(...bytesField(graphFields.node, node.bytes)));
  for (const { name, bytes } of model.initializers.values()) {
    if (tensors.has(name)) graph.push(...bytesField(graphFields.initializer, bytes));
  }
  for (const { name, bytes } of model.inputs) {
    if (tensors.has(name)) graph.push(...bytesField(graphFields.input, bytes));
  }
  for (const name of names) graph.push(...bytesField(graphFields.output, bytesField(1, name)));
  return joinPieces([...model.header, ...bytesField(modelFields.graph, graph)]);
}

/** Tensors that the sub-graphs of a node (the branches of an `If`, the body of a `Loop`) take from around them. */
function outerTensors(node: OnnxNode): string[] {
  const names: string[] = [];
  for (const { field, bytes } of readFields(node.bytes)) {
    if (field !== 5) continue;
    for (const part of readFields(bytes)) {
      if (part.field !== 6 && part.field !== 11) continue;
      const inner = readGraph(part.bytes);
      const own = new Set([
        ...inner.inputs.map((input) => input.name),
        ...inner.nodes.flatMap((innerNode) => innerNode.outputs),
      ]);
      for (const innerNode of inner.nodes) {
        for (const name of [...innerNode.inputs, ...outerTensors(innerNode)]) {
          if (!own.has(name) && !inner.initializers.has(name)) names.push(name);
        }
      }
      names.push(...inner.outputs.map((output) => output.name).filter((name) => !own.has(name)));
    }
  }
  return names;
}
