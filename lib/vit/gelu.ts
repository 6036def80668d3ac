/**
 * Which GELU a ViT's MLPs use, and how to give them another.
 *
 * CLIP was trained with the quick form, and some loaders run its weights with the exact one: an SAE that was trained on
 * such activations needs the same. Exporters write each form in many ways, so the form is told by what it computes: the
 * few element-wise operators around it are run on a few numbers.
 *
 * @module
 */
import { constantDims } from "../onnx/attributes.ts";
import { makeInput, makeNode, microsoftDomain, withMicrosoftOperators } from "../onnx/build.ts";
import { cutToOutputs } from "../onnx/cut.ts";
import { type Flow, traceFlow } from "../onnx/flow.ts";
import { elementTypes, type OnnxModel, type OnnxNode, withInputs } from "../onnx/model.ts";
import { createSession } from "../runtime/ort.ts";
import { loadOrt } from "../runtime/ort.ts";
import type { BlockTensors } from "./residual_stream.ts";

/** A form of GELU: `x · Φ(x)` exactly, its `tanh` approximation, or the quick one, `x · sigmoid(1.702 x)`. */
export type GeluKind = "exact" | "quick" | "tanh";

/** The forms of GELU. */
export const geluKinds: readonly GeluKind[] = ["exact", "quick", "tanh"];

/** The non-linear function of one MLP. */
export interface MlpActivation {
  /** Tensor that goes in. */
  readonly input: string;
  /** Tensor that comes out. */
  readonly output: string;
  /** The element-wise operators between, in the order they run. */
  readonly nodes: readonly OnnxNode[];
}

// Operators that show where the function is.
const bends = new Set(["Erf", "Tanh", "Sigmoid", "Gelu", "FastGelu", "QuickGelu", "Relu", "HardSwish", "Mish"]);
const precisions = new Set(["Cast", "Identity", "QuantizeLinear", "DequantizeLinear"]);
const elementWise = new Set([...bends, ...precisions, "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Neg"]);

/** Finds the function of each block's MLP; `undefined` for a block where there is not exactly one. */
export function findMlpActivations(
  model: OnnxModel,
  blocks: readonly BlockTensors[],
  input: string,
): (MlpActivation | undefined)[] {
  const flow = traceFlow(model, input);
  const isPartOf = isElementWise(model, flow);
  const order = new Map(model.nodes.map((node, index) => [node, index]));
  return blocks.map(({ residMid, mlpOut }) => {
    const inside = flow.between(residMid, mlpOut[0]) ?? [];
    inside.sort((a, b) => order.get(a)! - order.get(b)!);
    const bend = inside.find((node) => bends.has(node.opType));
    const start = bend && commonSource(bend, flow, isPartOf);
    return start === undefined ? undefined : followFunction(start, inside, flow, isPartOf);
  });
}

/** Whether a node does the same to every number: all else that goes in is one number. */
function isElementWise(model: OnnxModel, flow: Flow): (node: OnnxNode) => boolean {
  const isScalar = (tensor: string): boolean => {
    const node = flow.producer(tensor);
    if (node === undefined) return isOne(model.initializers.get(tensor)?.dims);
    return isOne(constantDims(node)) || (elementWise.has(node.opType) && node.inputs.filter(Boolean).every(isScalar));
  };
  return (node) => {
    if (!elementWise.has(node.opType)) return false;
    // Integers that come from elsewhere are no rounding of the numbers before.
    if (node.opType === "DequantizeLinear" && flow.producer(node.inputs[0])?.opType !== "QuantizeLinear") return false;
    if (node.opType === "QuantizeLinear") {
      const takers = flow.consumers(node.outputs[0]);
      if (!takers.every((taker) => taker.opType === "DequantizeLinear")) return false;
    }
    return node.inputs.every((name) => name === "" || flow.depends(name) || isScalar(name));
  };
}

function isOne(dims: readonly number[] | undefined): boolean {
  return dims !== undefined && dims.every((dim) => dim === 1);
}

/** The one tensor that all inputs of `bend` are functions of. */
function commonSource(bend: OnnxNode, flow: Flow, isPartOf: (node: OnnxNode) => boolean): string | undefined {
  const sources = new Set<string>();
  const pending = bend.inputs.filter((name) => flow.depends(name));
  while (pending.length > 0) {
    const tensor = pending.pop()!;
    const node = flow.producer(tensor);
    if (node !== undefined && isPartOf(node)) pending.push(...node.inputs.filter((name) => flow.depends(name)));
    else sources.add(tensor);
  }
  return sources.size === 1 ? [...sources][0] : undefined;
}

/** Goes on from `input` as long as there are only functions of it. */
function followFunction(
  input: string,
  inside: readonly OnnxNode[],
  flow: Flow,
  isPartOf: (node: OnnxNode) => boolean,
): MlpActivation | undefined {
  const functions = new Set([input]);
  const nodes = inside.filter((node) => {
    const fits = isPartOf(node) && node.inputs.every((name) => functions.has(name) || !flow.depends(name));
    if (fits) node.outputs.forEach((name) => functions.add(name));
    return fits;
  });
  const members = new Set(nodes);
  const results = nodes.flatMap((node) => node.outputs)
    .filter((name) => flow.consumers(name).some((taker) => !members.has(taker)));
  const isFedElsewhere = flow.consumers(input).some((node) => inside.includes(node) && !members.has(node));
  return results.length === 1 && !isFedElsewhere ? { input, output: results[0], nodes } : undefined;
}

const probes = Float32Array.from({ length: 33 }, (_, i) => (i - 16) / 4);

/**
 * Form of each function; `undefined` for another than GELU.
 *
 * @param options Folder of the files that hold weights, if the model's are not inside it.
 */
export async function classifyActivations(
  model: OnnxModel,
  activations: readonly MlpActivation[],
  options: { weightsFolder?: string } = {},
): Promise<(GeluKind | undefined)[]> {
  if (activations.length === 0) return [];
  const { Tensor } = await loadOrt();
  const feeds = Object.fromEntries(
    activations.map(({ input }) => [input, new Tensor("float32", probes, [probes.length])]),
  );
  try {
    const session = await createSession(functionModel(model, activations), { threads: 1, ...options });
    const results = await session.run(feeds);
    const kinds = activations.map(({ output }) => nearestKind(results[output].data as Float32Array));
    await session.release();
    return kinds;
  } catch {
    // What does not run by itself is nothing known; the model itself may well run.
    return activations.map(() => undefined);
  }
}

/** The functions alone, in float32 whatever the model is in, from their inputs to their outputs. */
function functionModel(model: OnnxModel, activations: readonly MlpActivation[]): Uint8Array {
  const inputs = [...new Set(activations.map(({ input }) => input))];
  const members = new Set(activations.flatMap(({ nodes }) => nodes));
  const computed = new Set([...inputs, ...[...members].flatMap((node) => node.outputs)]);
  const constants = new Set<string>();
  const to = elementTypes.float32;
  const nodes = [...members].map((node) => {
    if (precisions.has(node.opType)) {
      return makeNode({ op: "Identity", inputs: [node.inputs[0]], outputs: [node.outputs[0]] });
    }
    return withInputs(
      node,
      node.inputs.map((name) => {
        if (name === "" || computed.has(name)) return name;
        constants.add(name);
        return `${name}/float32`;
      }),
    );
  });
  const casts = [...constants].map((name) =>
    makeNode({ op: "Cast", inputs: [name], outputs: [`${name}/float32`], attributes: { to } })
  );
  const others = model.nodes.filter((node) => !node.outputs.some((name) => computed.has(name)));
  return cutToOutputs({
    ...model,
    nodes: [...others, ...casts, ...nodes],
    inputs: inputs.map((name) => makeInput({ name, dims: [probes.length] })),
  }, activations.map(({ output }) => output));
}

// The exact form and its approximation by tanh differ by up to 0.0005, constants in half precision by less than half
// of that.
const tolerance = 2e-4;

function nearestKind(values: Float32Array): GeluKind | undefined {
  return geluKinds.find((kind) => values.every((value, i) => Math.abs(value - gelu(probes[i], kind)) < tolerance));
}

/** GELU of one number. */
export function gelu(x: number, kind: GeluKind): number {
  if (kind === "quick") return x / (1 + Math.exp(-1.702 * x));
  if (kind === "tanh") return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  return 0.5 * x * (1 + erf(x / Math.SQRT2));
}

/** The error function, by its power series: exact to rounding for the few numbers between -3 and 3 it is used for. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 80; n++) {
    term *= -x * x / n;
    sum += term / (2 * n + 1);
  }
  return 2 / Math.sqrt(Math.PI) * sum;
}

const operators: Readonly<Record<GeluKind, string>> = { exact: "Gelu", quick: "QuickGelu", tanh: "FastGelu" };

/** The same model with another form of GELU in place of the given functions. */
export function replaceGelu(model: OnnxModel, activations: readonly MlpActivation[], kind: GeluKind): OnnxModel {
  const replaced = new Map(activations.map((activation) => [activation.output, activation]));
  const nodes = model.nodes.map((node) => {
    const activation = replaced.get(node.outputs[0]);
    if (activation === undefined) return node;
    const attributes = kind === "quick" ? { alpha: { float: 1.702 } } : undefined;
    const { input, output } = activation;
    return makeNode({ op: operators[kind], domain: microsoftDomain, inputs: [input], outputs: [output], attributes });
  });
  return withMicrosoftOperators({ ...model, nodes });
}
