/**
 * Finds the residual stream of a vision transformer in its ONNX graph, from the structure alone.
 *
 * A pre-norm block adds two branches to the stream: `h + attention(norm(h))`, then `h + mlp(norm(h))`. So an addition
 * belongs to the stream when everything that one of its inputs takes from the image comes through the other input
 * (the skip connection). Such additions form a chain; the branch of one holds a softmax if it is attention. No name
 * of any exporter is used, so a model whose tensors are called `/encoder/layers.3/Add_1` and one whose tensors are
 * called `1742` read the same.
 *
 * @module
 */
import { nodeIntegers, type OnnxModel, type OnnxNode, producers } from "../onnx/model.ts";

/** Names of the tensors of one transformer block. */
export interface BlockTensors {
  /** The residual stream as it enters the block. */
  readonly residPre: string;
  /** The residual stream between attention and MLP. */
  readonly residMid: string;
  /** The residual stream as it leaves the block. */
  readonly residPost: string;
}

/** An addition of the stream: `output = skip + branch`. */
interface StreamAdd {
  readonly skip: string;
  readonly output: string;
  readonly attends: boolean;
}

// Operators that mix tokens by attention, whole or as the softmax inside it.
const attentionOps = new Set(["Softmax", "Attention", "MultiHeadAttention", "GroupQueryAttention"]);

/**
 * Names the residual stream's tensors, one entry a block.
 *
 * @throws {TypeError} If the graph holds no such chain: it is not a pre-norm transformer.
 */
export function findResidualStream(model: OnnxModel): BlockTensors[] {
  const madeBy = producers(model);
  const fromImage = dependentTensors(model);
  const adds: StreamAdd[] = [];
  for (const node of model.nodes) {
    if (node.opType !== "Add") continue;
    const [left, right] = node.inputs;
    if (!fromImage.has(left) || !fromImage.has(right)) continue;
    for (const [skip, branch] of [[left, right], [right, left]]) {
      const inside = nodesBetween(skip, branch);
      if (inside === undefined) continue;
      adds.push({ skip, output: node.outputs[0], attends: inside.some((inner) => attentionOps.has(inner.opType)) });
      break;
    }
  }

  // Blocks are pairs: an addition of attention, and the addition of an MLP that skips from it.
  const bySkip = new Map(adds.filter((add) => !add.attends).map((add) => [add.skip, add]));
  const blocks: BlockTensors[] = [];
  for (const attention of adds.filter((add) => add.attends)) {
    const mlp = bySkip.get(attention.output);
    if (mlp === undefined) continue;
    blocks.push({ residPre: attention.skip, residMid: attention.output, residPost: mlp.output });
  }
  if (blocks.length === 0) {
    throw new TypeError(
      "Cannot find the residual stream: the graph must hold transformer blocks (attention and MLP, each added to what " +
        `went in), none was found among ${model.nodes.length} nodes`,
    );
  }
  return blocks;

  /** Nodes on the way from `skip` to `branch`, or `undefined` if some of the image reaches `branch` around `skip`. */
  function nodesBetween(skip: string, branch: string): OnnxNode[] | undefined {
    const inside: OnnxNode[] = [];
    const seen = new Set<string>([skip]);
    const pending = [branch];
    while (pending.length > 0) {
      const tensor = pending.pop()!;
      if (seen.has(tensor) || !fromImage.has(tensor)) continue;
      seen.add(tensor);
      const index = madeBy.get(tensor);
      if (index === undefined) return undefined; // The image itself.
      inside.push(model.nodes[index]);
      pending.push(...model.nodes[index].inputs);
    }
    return inside;
  }
}

/** Tensors whose numbers depend on the image: shapes read off a tensor do not count. */
function dependentTensors(model: OnnxModel): Set<string> {
  const dependent = new Set(model.inputs.map((input) => input.name));
  // ONNX nodes are stored in the order they run.
  for (const node of model.nodes) {
    if (node.opType === "Shape" || node.opType === "Size") continue;
    if (node.inputs.some((input) => dependent.has(input))) node.outputs.forEach((output) => dependent.add(output));
  }
  return dependent;
}

/** How an image becomes tokens: the convolution that cuts it into patches. */
export interface PatchEmbedding {
  /** Edges of a patch in pixels. */
  readonly patchHeight: number;
  readonly patchWidth: number;
  readonly dModel: number;
}

/**
 * Finds the convolution that cuts the image into patches: its stride equals its kernel.
 *
 * @throws {TypeError} If there is none.
 */
export function findPatchEmbedding(model: OnnxModel): PatchEmbedding {
  for (const node of model.nodes) {
    if (node.opType !== "Conv") continue;
    const dims = model.initializers.get(node.inputs[1])?.dims;
    if (dims?.length !== 4 || dims[1] !== 3) continue;
    const [dModel, , patchHeight, patchWidth] = dims;
    const strides = nodeIntegers(node, "strides");
    if (strides?.[0] === patchHeight && strides[1] === patchWidth) return { patchHeight, patchWidth, dModel };
  }
  throw new TypeError(
    "Cannot find the patch embedding: the graph must hold a convolution over 3 color channels whose stride equals its " +
      "kernel, none was found",
  );
}
