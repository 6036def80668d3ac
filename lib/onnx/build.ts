/**
 * Builds small ONNX models, so that onnxruntime can run a matrix product and what follows it in one go, and single
 * nodes and inputs to edit a model with.
 * Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 *
 * @module
 */
import { elementTypes, modelFields, type OnnxModel, type OnnxNode, type OnnxValue } from "./model.ts";
import { bytesField, integerField, joinPieces, type Pieces, readFields, wireText } from "./wire.ts";

/** An attribute: an integer, integers, text, or a float. */
export type AttributeSpec = number | readonly number[] | string | { readonly float: number };

/** One operation. */
export interface NodeSpec {
  readonly op: string;
  /** Operator set that `op` is from; ONNX's own if absent. */
  readonly domain?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
}

/** A constant, or the shape of an input (a name stands for an open dimension). */
export interface TensorSpec {
  readonly name: string;
  readonly dims: readonly (number | string)[];
  /** Numbers of a constant. */
  readonly data?: Float32Array | BigInt64Array | Int32Array | Int8Array | Uint8Array;
  /**
   * Leaves the numbers of a constant out of the model. They are handed over beside it, as `weights` of the session under
   * the constant's name, and large ones are copied twice less on their way in.
   *
   * @default {false}
   */
  readonly isApart?: boolean;
  /**
   * Element type of an input.
   *
   * @default {"float32"}
   */
  readonly type?: keyof typeof elementTypes;
}

/** What {@linkcode buildOnnx} builds. */
export interface GraphSpec {
  readonly inputs: readonly TensorSpec[];
  readonly constants: readonly TensorSpec[];
  readonly nodes: readonly NodeSpec[];
  /** Names of the tensors that come out. */
  readonly outputs: readonly string[];
}

const OPSET = 17;
const IR_VERSION = 8;
/** Operators of onnxruntime: its fused ones, and those that quantize. */
export const microsoftDomain = "com.microsoft";
const MICROSOFT_OPSET = 1;

/** Bytes of an ONNX model. */
export function buildOnnx(graph: GraphSpec): Uint8Array {
  const pieces: Pieces = [
    ...graph.nodes.flatMap((node) => bytesField(1, encodeNode(node))),
    ...bytesField(2, "sparsight"),
    ...graph.constants.flatMap((constant) => bytesField(5, encodeConstant(constant))),
    ...graph.inputs.flatMap((input) => bytesField(11, encodeInput(input))),
    ...graph.outputs.flatMap((name) => bytesField(12, bytesField(1, name))),
  ];
  const usesMicrosoft = graph.nodes.some((node) => node.domain === microsoftDomain);
  return joinPieces([
    ...integerField(modelFields.irVersion, IR_VERSION),
    ...bytesField(modelFields.graph, pieces),
    ...bytesField(modelFields.operatorSet, integerField(2, OPSET)),
    ...(usesMicrosoft ? microsoftOperatorSet() : []),
  ]);
}

/** A node to put into a model that was read. */
export function makeNode(spec: NodeSpec): OnnxNode {
  const { op, domain = "", inputs, outputs } = spec;
  return { name: "", opType: op, domain, inputs, outputs, bytes: joinPieces(encodeNode(spec)) };
}

/** An input to put into a model that was read. */
export function makeInput(spec: TensorSpec): OnnxValue {
  const { name, dims, type = "float32" } = spec;
  return { name, dims, elementType: elementTypes[type], bytes: joinPieces(encodeInput(spec)) };
}

/** The same model, with leave to use onnxruntime's own operators. */
export function withMicrosoftOperators(model: OnnxModel): OnnxModel {
  const has = [...readFields(joinPieces(model.header as Pieces))].some(({ field, bytes }) =>
    field === modelFields.operatorSet &&
    [...readFields(bytes)].some((part) => part.field === 1 && wireText(part.bytes) === microsoftDomain)
  );
  return has ? model : { ...model, header: [...model.header, ...microsoftOperatorSet()] };
}

function microsoftOperatorSet(): Pieces {
  return bytesField(modelFields.operatorSet, [...bytesField(1, microsoftDomain), ...integerField(2, MICROSOFT_OPSET)]);
}

function encodeNode({ op, domain, inputs, outputs, attributes = {} }: NodeSpec): Pieces {
  return [
    ...inputs.flatMap((name) => bytesField(1, name)),
    ...outputs.flatMap((name) => bytesField(2, name)),
    ...bytesField(4, op),
    ...Object.entries(attributes).flatMap(([name, value]) =>
      bytesField(5, [...bytesField(1, name), ...encodeAttribute(value)])
    ),
    ...(domain ? bytesField(7, domain) : []),
  ];
}

// The second field is the attribute's type: 1 float, 2 integer, 3 text, 7 integers.
function encodeAttribute(value: AttributeSpec): Pieces {
  if (typeof value === "number") return [...integerField(3, value), ...integerField(20, 2)];
  if (typeof value === "string") return [...bytesField(4, value), ...integerField(20, 3)];
  if ("float" in value) {
    const float = new Uint8Array(5);
    float[0] = 2 * 8 + 5; // Field 2, four bytes wide.
    new DataView(float.buffer).setFloat32(1, value.float, true);
    return [float, ...integerField(20, 1)];
  }
  return [...value.flatMap((integer) => integerField(8, integer)), ...integerField(20, 7)];
}

function encodeConstant({ name, dims, data, isApart = false }: TensorSpec): Pieces {
  return [
    ...dims.flatMap((dim) => integerField(1, dim as number)),
    ...integerField(2, elementTypeOf(data!)),
    ...bytesField(8, name),
    ...(isApart
      ? encodeLocation({ location: name, offset: "0", length: String(data!.byteLength) })
      : bytesField(9, new Uint8Array(data!.buffer, data!.byteOffset, data!.byteLength))),
  ];
}

/** Where a constant that is not in the model lies; 1 says that it does. */
function encodeLocation(entries: Readonly<Record<string, string>>): Pieces {
  return [
    ...Object.entries(entries).flatMap(([key, value]) =>
      bytesField(13, [...bytesField(1, key), ...bytesField(2, value)])
    ),
    ...integerField(14, 1),
  ];
}

function elementTypeOf(data: NonNullable<TensorSpec["data"]>): number {
  if (data instanceof Float32Array) return elementTypes.float32;
  if (data instanceof Int32Array) return elementTypes.int32;
  if (data instanceof Int8Array) return elementTypes.int8;
  return data instanceof Uint8Array ? elementTypes.uint8 : elementTypes.int64;
}

function encodeInput({ name, dims, type = "float32" }: TensorSpec): Pieces {
  const shape = dims.flatMap((dim) =>
    bytesField(1, typeof dim === "number" ? integerField(1, dim) : bytesField(2, dim))
  );
  return [
    ...bytesField(1, name),
    ...bytesField(2, bytesField(1, [...integerField(1, elementTypes[type]), ...bytesField(2, shape)])),
  ];
}
