/**
 * Attributes of a node: the constants that it was made with, such as a convolution's strides.
 * Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 *
 * @module
 */
import type { OnnxNode } from "./model.ts";
import { readFields, wireFloat, wireIntegers, wireText } from "./wire.ts";

/** What an attribute holds; the other kinds are empty. */
export interface OnnxAttribute {
  readonly float: number;
  readonly integer: number;
  readonly text: string;
  readonly integers: readonly number[];
  /** Message of a tensor. */
  readonly tensor: Uint8Array | undefined;
}

/** An attribute of a node; `undefined` if it has none of that name. */
export function nodeAttribute(node: OnnxNode, attribute: string): OnnxAttribute | undefined {
  for (const { field, bytes } of readFields(node.bytes)) {
    if (field !== 5) continue;
    let name = "";
    let float = 0;
    let integer = 0;
    let text = "";
    let tensor: Uint8Array | undefined;
    const integers: number[] = [];
    for (const part of readFields(bytes)) {
      if (part.field === 1) name = wireText(part.bytes);
      else if (part.field === 2) float = wireFloat(part.bytes);
      else if (part.field === 3) integer = part.value;
      else if (part.field === 4) text = wireText(part.bytes);
      else if (part.field === 5) tensor = part.bytes;
      else if (part.field === 8) integers.push(...wireIntegers(part));
    }
    if (name === attribute) return { float, integer, text, integers, tensor };
  }
  return undefined;
}

/** Integers of a node's attribute, such as a convolution's `strides`; `undefined` if it has none of that name. */
export function nodeIntegers(node: OnnxNode, attribute: string): readonly number[] | undefined {
  return nodeAttribute(node, attribute)?.integers;
}

/** Shape of the tensor that a `Constant` node holds; `undefined` for other nodes. */
export function constantDims(node: OnnxNode): readonly number[] | undefined {
  if (node.opType !== "Constant") return undefined;
  const value = nodeAttribute(node, "value");
  if (value?.tensor === undefined) return [];
  const dims: number[] = [];
  for (const field of readFields(value.tensor)) if (field.field === 1) dims.push(...wireIntegers(field));
  return dims;
}
