/**
 * An ONNX model as a graph of nodes that can be searched, edited (`attributes.ts`, `build.ts`) and cut (`cut.ts`).
 * Tensors stay views of the file's bytes. Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 *
 * @module
 */
import { bytesField, joinPieces, type Pieces, readFields, wireIntegers, wireText } from "./wire.ts";

/** Codes of the element types that ViTs are stored in. */
export const elementTypes = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, float16: 10, bfloat16: 16 } as const;

/** One operation of the graph. */
export interface OnnxNode {
  readonly name: string;
  readonly opType: string;
  /** Operator set that `opType` is from; empty for ONNX's own. */
  readonly domain: string;
  /** Names of tensors; an empty one stands for an optional input that is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** The message itself. */
  readonly bytes: Uint8Array;
}

/** A constant tensor stored in the model. */
export interface OnnxInitializer {
  readonly name: string;
  readonly dims: readonly number[];
  /** One of {@linkcode elementTypes}, or another of ONNX's codes. */
  readonly elementType: number;
  /** Where the numbers are, if they are in another file. */
  readonly external: ExternalData | undefined;
  readonly bytes: Uint8Array;
}

/** Numbers of a tensor in another file. */
export interface ExternalData {
  /** Path of the file, relative to the model's folder. */
  readonly location: string;
  /** Where they begin, in bytes. */
  readonly offset: number;
  /** How many bytes; `undefined` for all to the end. */
  readonly length: number | undefined;
}

/** A graph input or output; a dimension is a number, or a name where it is open. */
export interface OnnxValue {
  readonly name: string;
  readonly dims: readonly (number | string)[];
  /** One of {@linkcode elementTypes}, or another of ONNX's codes; 0 where it is not given. */
  readonly elementType: number;
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

/** Field numbers of a model's message. */
export const modelFields = { irVersion: 1, graph: 7, operatorSet: 8, functions: 25 } as const;
const nodeInput = 1;
/** Field numbers of a graph's message. */
export const graphFields = { node: 1, name: 2, initializer: 5, input: 11, output: 12 } as const;

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
      if (field === modelFields.graph) graph = content;
      else header.push(raw);
      hasOperatorSet ||= field === modelFields.operatorSet;
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

/** Parses a graph's message: the model's, or one inside a node (the branch of an `If`, the body of a `Loop`). */
export function readGraph(graph: Uint8Array): Omit<OnnxModel, "header"> {
  const nodes: OnnxNode[] = [];
  const initializers = new Map<string, OnnxInitializer>();
  const inputs: OnnxValue[] = [];
  const outputs: OnnxValue[] = [];
  for (const { field, bytes } of readFields(graph)) {
    if (field === graphFields.node) nodes.push(readNode(bytes));
    else if (field === graphFields.input) inputs.push(readValue(bytes));
    else if (field === graphFields.output) outputs.push(readValue(bytes));
    else if (field === graphFields.initializer) {
      const initializer = readInitializer(bytes);
      initializers.set(initializer.name, initializer);
    }
  }
  // Old exports list initializers among the inputs, too.
  return { nodes, initializers, inputs: inputs.filter((input) => !initializers.has(input.name)), outputs };
}

/** Parses a node's message. */
export function readNode(bytes: Uint8Array): OnnxNode {
  const inputs: string[] = [];
  const outputs: string[] = [];
  let name = "";
  let opType = "";
  let domain = "";
  for (const { field, bytes: content } of readFields(bytes)) {
    if (field === nodeInput) inputs.push(wireText(content));
    else if (field === 2) outputs.push(wireText(content));
    else if (field === 3) name = wireText(content);
    else if (field === 4) opType = wireText(content);
    else if (field === 7) domain = wireText(content);
  }
  // Both spellings mean ONNX's own set.
  return { name, opType, domain: domain === "ai.onnx" ? "" : domain, inputs, outputs, bytes };
}

function readInitializer(bytes: Uint8Array): OnnxInitializer {
  const dims: number[] = [];
  const entries = new Map<string, string>();
  let name = "";
  let elementType = 0;
  let isExternal = false;
  for (const field of readFields(bytes)) {
    if (field.field === 1) dims.push(...wireIntegers(field));
    else if (field.field === 2) elementType = field.value;
    else if (field.field === 8) name = wireText(field.bytes);
    else if (field.field === 13) entries.set(wireText(nested(field.bytes, 1)), wireText(nested(field.bytes, 2)));
    else if (field.field === 14) isExternal = field.value === 1;
  }
  const length = entries.get("length");
  const external = isExternal
    ? {
      location: entries.get("location") ?? "",
      offset: Number(entries.get("offset") ?? 0),
      length: length === undefined ? undefined : Number(length),
    }
    : undefined;
  return { name, dims, elementType, external, bytes };
}

function readValue(bytes: Uint8Array): OnnxValue {
  let name = "";
  let elementType = 0;
  const dims: (number | string)[] = [];
  for (const { field, bytes: content } of readFields(bytes)) {
    if (field === 1) name = wireText(content);
    // ValueInfo.type (2) → tensor_type (1) → elem_type (1), shape (2) → dim (1) → dim_value (1) or dim_param (2).
    if (field !== 2) continue;
    const tensorType = nested(content, 1);
    for (const part of readFields(tensorType)) if (part.field === 1) elementType = part.value;
    const shape = nested(tensorType, 2);
    for (const { field, bytes } of readFields(shape)) {
      if (field !== 1) continue;
      let dim: number | string = "?";
      for (const part of readFields(bytes)) dim = part.field === 1 ? part.value : wireText(part.bytes);
      dims.push(dim);
    }
  }
  return { name, dims, elementType, bytes };
}

function nested(message: Uint8Array, wanted: number): Uint8Array {
  for (const { field, bytes } of readFields(message)) if (field === wanted) return bytes;
  return new Uint8Array(0);
}

/** Index of the node that makes each tensor. */
export function producers(model: OnnxModel): Map<string, number> {
  const map = new Map<string, number>();
  model.nodes.forEach((node, index) => node.outputs.forEach((output) => map.set(output, index)));
  return map;
}

/** The same node with other inputs. */
export function withInputs(node: OnnxNode, inputs: readonly string[]): OnnxNode {
  const others = [...readFields(node.bytes)].filter(({ field }) => field !== nodeInput).map(({ raw }) => raw);
  const bytes = joinPieces([...inputs.flatMap((name) => bytesField(nodeInput, name)), ...others]);
  return { ...node, inputs, bytes };
}
