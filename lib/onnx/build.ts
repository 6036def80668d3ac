/**
 * Builds small ONNX models, so that onnxruntime can run a matrix product and what follows it in one go.
 * Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 *
 * @module
 */
import { bytesField, integerField, joinPieces, type Pieces } from "./wire.ts";

/** One operation. */
export interface NodeSpec {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Integer attributes. */
  readonly attributes?: Readonly<Record<string, number>>;
}

/** A constant, or the shape of an input (a name stands for an open dimension). */
export interface TensorSpec {
  readonly name: string;
  readonly dims: readonly (number | string)[];
  /** Numbers of a constant. */
  readonly data?: Float32Array | BigInt64Array | Int32Array;
}

/** What {@linkcode buildOnnx} builds. */
export interface GraphSpec {
  readonly inputs: readonly TensorSpec[];
  readonly constants: readonly TensorSpec[];
  readonly nodes: readonly NodeSpec[];
  /** Names of the tensors that come out. */
  readonly outputs: readonly string[];
}

const FLOAT = 1;
const INT32 = 6;
const INT64 = 7;
const OPSET = 17;
const IR_VERSION = 8;
const ATTRIBUTE_IS_INTEGER = 2;

/** Bytes of an ONNX model. */
export function buildOnnx(graph: GraphSpec): Uint8Array {
  const pieces: Pieces = [
    ...graph.nodes.flatMap((node) => bytesField(1, encodeNode(node))),
    ...bytesField(2, "sparsight"),
    ...graph.constants.flatMap((constant) => bytesField(5, encodeConstant(constant))),
    ...graph.inputs.flatMap((input) => bytesField(11, encodeInput(input))),
    ...graph.outputs.flatMap((name) => bytesField(12, bytesField(1, name))),
  ];
  return joinPieces([
    ...integerField(1, IR_VERSION),
    ...bytesField(7, pieces),
    ...bytesField(8, integerField(2, OPSET)),
  ]);
}

function encodeNode({ op, inputs, outputs, attributes = {} }: NodeSpec): Pieces {
  return [
    ...inputs.flatMap((name) => bytesField(1, name)),
    ...outputs.flatMap((name) => bytesField(2, name)),
    ...bytesField(4, op),
    ...Object.entries(attributes).flatMap(([name, value]) =>
      bytesField(5, [...bytesField(1, name), ...integerField(3, value), ...integerField(20, ATTRIBUTE_IS_INTEGER)])
    ),
  ];
}

function encodeConstant({ name, dims, data }: TensorSpec): Pieces {
  const type = data instanceof Float32Array ? FLOAT : data instanceof Int32Array ? INT32 : INT64;
  return [
    ...dims.flatMap((dim) => integerField(1, dim as number)),
    ...integerField(2, type),
    ...bytesField(8, name),
    ...bytesField(9, new Uint8Array(data!.buffer, data!.byteOffset, data!.byteLength)),
  ];
}

function encodeInput({ name, dims }: TensorSpec): Pieces {
  const shape = dims.flatMap((dim) =>
    bytesField(1, typeof dim === "number" ? integerField(1, dim) : bytesField(2, dim))
  );
  return [
    ...bytesField(1, name),
    ...bytesField(2, bytesField(1, [...integerField(1, FLOAT), ...bytesField(2, shape)])),
  ];
}
