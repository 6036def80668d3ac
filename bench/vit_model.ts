/**
 * A ViT-B/16 in ONNX with random weights, as torchvision has it: what a model of the usual size costs, with nothing
 * downloaded. All blocks have the same weights, which keeps the file small and the work the same.
 *
 * @module
 */
import { buildOnnx, type GraphSpec, type NodeSpec, type TensorSpec } from "../lib/onnx/build.ts";
import { seededRandom } from "../lib/train/random.ts";

/** Sizes of a ViT. */
export interface VitSizes {
  readonly imagePx: number;
  readonly patchPx: number;
  readonly dModel: number;
  readonly nHeads: number;
  readonly nBlocks: number;
}

/** ViT-B/16. */
export const vitB16: VitSizes = { imagePx: 224, patchPx: 16, dModel: 768, nHeads: 12, nBlocks: 12 };
/** The same program, small enough for a test. */
export const tinyVit: VitSizes = { imagePx: 32, patchPx: 16, dModel: 24, nHeads: 2, nBlocks: 2 };

const MLP_RATIO = 4;

/** Bytes of the model: pixels `[n, 3, imagePx, imagePx]` to the residual stream after the last block. */
export function buildVit({ imagePx, patchPx, dModel, nHeads, nBlocks }: VitSizes): Uint8Array {
  const random = seededRandom(0);
  const nPatches = (imagePx / patchPx) ** 2;
  const dHead = dModel / nHeads;
  const constants: TensorSpec[] = [];
  const nodes: NodeSpec[] = [];
  /** Weights of such a size that what they make is about as large as what they are given. */
  const weights = (name: string, dims: readonly number[], nInputs: number) => {
    const scale = Math.sqrt(12 / nInputs);
    const data = Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => (random() - 0.5) * scale);
    constants.push({ name, dims, data });
  };
  const integers = (name: string, values: readonly number[]) =>
    constants.push({ name, dims: [values.length], data: BigInt64Array.from(values, BigInt) });
  const number = (name: string, value: number) => constants.push({ name, dims: [], data: Float32Array.of(value) });
  const filled = (name: string, length: number, value: number) =>
    constants.push({ name, dims: [length], data: new Float32Array(length).fill(value) });
  const add = (op: string, inputs: readonly string[], output: string, attributes?: NodeSpec["attributes"]) => {
    nodes.push({ op, inputs, outputs: [output], attributes });
    return output;
  };

  weights("patch_weight", [dModel, 3, patchPx, patchPx], 3 * patchPx ** 2);
  weights("positions", [1, 1 + nPatches, dModel], 12);
  weights("cls", [1, 1, dModel], 12);
  for (const [name, dIn, dOut] of projections(dModel)) {
    weights(`${name}_weight`, [dIn, dOut], dIn);
    filled(`${name}_bias`, dOut, 0.01);
  }
  filled("norm_weight", dModel, 1);
  filled("norm_bias", dModel, 0);
  integers("patch_rows", [0, dModel, nPatches]);
  integers("heads", [0, 1 + nPatches, nHeads, dHead]);
  integers("joined", [0, 1 + nPatches, dModel]);
  integers("first_only", [0]);
  integers("one", [1]);
  integers("cls_tail", [1, dModel]);
  [["root_2", Math.SQRT2], ["half", 0.5], ["unit", 1], ["score_scale", 1 / Math.sqrt(dHead)]]
    .forEach(([name, value]) => number(name as string, value as number));

  const project = (x: string, name: string, at: string) =>
    add("Add", [add("MatMul", [x, `${name}_weight`], `${at}/${name}_product`), `${name}_bias`], `${at}/${name}`);
  const normalize = (x: string, output: string) =>
    add("LayerNormalization", [x, "norm_weight", "norm_bias"], output, { axis: -1, epsilon: { float: 1e-6 } });
  const splitHeads = (x: string, perm: readonly number[]) =>
    add("Transpose", [add("Reshape", [x, "heads"], `${x}_split`)], `${x}_heads`, { perm });

  const strides = { kernel_shape: [patchPx, patchPx], strides: [patchPx, patchPx] };
  add("Conv", ["pixels", "patch_weight"], "patches", strides);
  add("Transpose", [add("Reshape", ["patches", "patch_rows"], "flat")], "tokens", { perm: [0, 2, 1] });
  add("Shape", ["pixels"], "pixel_dims");
  add("Gather", ["pixel_dims", "first_only"], "n_images", { axis: 0 });
  add("Expand", ["cls", add("Concat", ["n_images", "cls_tail"], "cls_dims", { axis: 0 })], "cls_tokens");
  add("Concat", ["cls_tokens", "tokens"], "all_tokens", { axis: 1 });
  let stream = add("Add", ["all_tokens", "positions"], "stream");
  for (let block = 0; block < nBlocks; block++) {
    const at = `block_${block}`;
    const seen = normalize(stream, `${at}/norm_1`);
    const query = splitHeads(project(seen, "query", at), [0, 2, 1, 3]);
    const key = splitHeads(project(seen, "key", at), [0, 2, 3, 1]);
    const value = splitHeads(project(seen, "value", at), [0, 2, 1, 3]);
    const scores = add("Mul", [add("MatMul", [query, key], `${at}/products`), "score_scale"], `${at}/scores`);
    const mixed = add("MatMul", [add("Softmax", [scores], `${at}/pattern`, { axis: -1 }), value], `${at}/mixed`);
    const turned = add("Transpose", [mixed], `${at}/mixed_tokens`, { perm: [0, 2, 1, 3] });
    const attended = project(add("Reshape", [turned, "joined"], `${at}/joined`), "out", at);
    stream = add("Add", [stream, attended], `${at}/resid_mid`);
    const hidden = project(normalize(stream, `${at}/norm_2`), "up", at);
    const erf = add("Erf", [add("Div", [hidden, "root_2"], `${at}/scaled`)], `${at}/erf`);
    const gate = add("Mul", [add("Add", [erf, "unit"], `${at}/erf_1`), "half"], `${at}/gate`);
    const gelu = add("Mul", [hidden, gate], `${at}/gelu`);
    stream = add("Add", [stream, project(gelu, "down", at)], `${at}/resid_post`);
  }
  const graph: GraphSpec = {
    inputs: [{ name: "pixels", dims: ["n", 3, imagePx, imagePx] }],
    constants,
    nodes,
    outputs: [stream],
  };
  return buildOnnx(graph);
}

/** The products of a block: name, inputs, outputs. */
function projections(dModel: number): [name: string, dIn: number, dOut: number][] {
  return [
    ...["query", "key", "value", "out"].map((name): [string, number, number] => [name, dModel, dModel]),
    ["up", dModel, MLP_RATIO * dModel],
    ["down", MLP_RATIO * dModel, dModel],
  ];
}
