/**
 * An ONNX model as a graph of nodes that can be searched, and cut to what a few of its tensors need.
 * Tensors stay views of the file's bytes. Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 *
 * @module
 */
import { bytesField, joinPieces, type Pieces, readFields, wireIntegers, wireText } from "./wire.ts";

/** One operation of the graph. */
export interface OnnxNode {
  readonly name: string;
  readonly opType: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** The message itself. */
  readonly bytes: Uint8Array;
}

/** A constant tensor stored in the model. */
export interface OnnxInitializer {
  readonly name: string;
  readonly dims: readonly number[];
  /** Whether the numbers are in another file. */
  readonly external: boolean;
  readonly bytes: Uint8Array;
}

/** A graph input or output; a dimension is a number, or a name where it is open. */
export interface OnnxValue {
  readonly name: string;
  readonly dims: readonly (number | string)[];
  readonly bytes: Uint8Array;
}

/** A parsed model. */
export interface OnnxModel {
  readonly nodes: readonly OnnxNode[];
  readonly initializers: ReadonlyMap<string, OnnxInitializer>;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  /** Fields of the model around the graph (version, operator sets, …), as they were. */
  readonly header: Pieces;
}

const MODEL_GRAPH = 7;
const MODEL_OPERATOR_SET = 8;
const GRAPH_NODE = 1;
const GRAPH_NAME = 2;
const GRAPH_INITIALIZER = 5;
const GRAPH_INPUT = 11;
const GRAPH_OUTPUT = 12;

/**
 * Parses a model.
 *
 * @throws {SyntaxError} If the bytes are not an ONNX model.
 */
export function readOnnx(bytes: Uint8Array): OnnxModel {
  let graph: Uint8Array | undefined;
  let hasOperatorSet = false;
  const header: Pieces = [];
  try {
    for (const { field, bytes: content, raw } of readFields(bytes)) {
      if (field === MODEL_GRAPH) graph = content;
      else header.push(raw);
      hasOperatorSet ||= field === MODEL_OPERATOR_SET;
    }
    if (graph !== undefined && hasOperatorSet) return { ...readGraph(graph), header };
  } catch (error) {
    throw new SyntaxError("Cannot read ONNX model: the file must be a protobuf message, it may be cut short", {
      cause: error,
    });
  }
  const missing = graph === undefined ? "a graph" : "an operator set";
  throw new SyntaxError(`Cannot read ONNX model: the file must hold ${missing}, none was found`);
}

function readGraph(graph: Uint8Array): Omit<OnnxModel, "header"> {
  const nodes: OnnxNode[] = [];
  const initializers = new Map<string, OnnxInitializer>();
  const inputs: OnnxValue[] = [];
  const outputs: OnnxValue[] = [];
  for (const { field, bytes } of readFields(graph)) {
    if (field === GRAPH_NODE) nodes.push(readNode(bytes));
    else if (field === GRAPH_INPUT) inputs.push(readValue(bytes));
    else if (field === GRAPH_OUTPUT) outputs.push(readValue(bytes));
    else if (field === GRAPH_INITIALIZER) {
      const initializer = readInitializer(bytes);
      initializers.set(initializer.name, initializer);
    }
  }
  // Old exports list initializers among the inputs, too.
  return { nodes, initializers, inputs: inputs.filter((input) => !initializers.has(input.name)), outputs };
}

function readNode(bytes: Uint8Array): OnnxNode {
  const inputs: string[] = [];
  const outputs: string[] = [];
  let name = "";
  let opType = "";
  for (const { field, bytes: content } of readFields(bytes)) {
    if (field === 1) inputs.push(wireText(content));
    else if (field === 2) outputs.push(wireText(content));
    else if (field === 3) name = wireText(content);
    else if (field === 4) opType = wireText(content);
  }
  return { name, opType, inputs, outputs, bytes };
}

function readInitializer(bytes: Uint8Array): OnnxInitializer {
  const dims: number[] = [];
  let name = "";
  let external = false;
  for (const field of readFields(bytes)) {
    if (field.field === 1) dims.push(...wireIntegers(field));
    else if (field.field === 8) name = wireText(field.bytes);
    else if (field.field === 14) external = field.value === 1;
  }
  return { name, dims, external, bytes };
}

function readValue(bytes: Uint8Array): OnnxValue {
  let name = "";
  const dims: (number | string)[] = [];
  for (const { field, bytes: content } of readFields(bytes)) {
    if (field === 1) name = wireText(content);
    // ValueInfo.type (2) → tensor_type (1) → shape (2) → dim (1) → dim_value (1) or dim_param (2).
    if (field !== 2) continue;
    const shape = nested(nested(content, 1), 2);
    for (const { field, bytes } of readFields(shape)) {
      if (field !== 1) continue;
      let dim: number | string = "?";
      for (const part of readFields(bytes)) dim = part.field === 1 ? part.value : wireText(part.bytes);
      dims.push(dim);
    }
  }
  return { name, dims, bytes };
}

function nested(message: Uint8Array, wanted: number): Uint8Array {
  for (const { field, bytes } of readFields(message)) if (field === wanted) return bytes;
  return new Uint8Array(0);
}

/** Integers of a node's attribute, such as a convolution's `strides`; `undefined` if it has none of that name. */
export function nodeIntegers(node: OnnxNode, attribute: string): number[] | undefined {
  for (const { field, bytes } of readFields(node.bytes)) {
    if (field !== 5) continue;
    let name = "";
    const integers: number[] = [];
    for (const part of readFields(bytes)) {
      if (part.field === 1) name = wireText(part.bytes);
      else if (part.field === 8) integers.push(...wireIntegers(part));
    }
    if (name === attribute) return integers;
  }
  return undefined;
}

/** Index of the node that makes each tensor. */
export function producers(model: OnnxModel): Map<string, number> {
  const map = new Map<string, number>();
  model.nodes.forEach((node, index) => node.outputs.forEach((output) => map.set(output, index)));
  return map;
}

/**
 * Bytes of the smallest model that makes the named tensors: they become its outputs, and all that they do not need is
 * left out. onnxruntime computes every node of a graph whatever is asked of it, so this is how later blocks are saved.
 *
 * @throws {RangeError} If the model has no tensor of that name.
 */
export function cutToOutputs(model: OnnxModel, names: readonly string[]): Uint8Array {
  const madeBy = producers(model);
  const keep = new Set<number>();
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
    if (keep.has(index)) continue;
    keep.add(index);
    pending.push(...model.nodes[index].inputs, ...outerTensors(model.nodes[index]));
  }
  const graph: Pieces = bytesField(GRAPH_NAME, "cut");
  model.nodes.forEach((node, index) => keep.has(index) && graph.push(...bytesField(GRAPH_NODE, node.bytes)));
  for (const { name, bytes } of model.initializers.values()) {
    if (tensors.has(name)) graph.push(...bytesField(GRAPH_INITIALIZER, bytes));
  }
  for (const { bytes } of model.inputs) graph.push(...bytesField(GRAPH_INPUT, bytes));
  for (const name of names) graph.push(...bytesField(GRAPH_OUTPUT, bytesField(1, name)));
  return joinPieces([...model.header, ...bytesField(MODEL_GRAPH, graph)]);
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
