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
import { type Flow, traceFlow } from "../onnx/flow.ts";
import { modelFields, type OnnxModel } from "../onnx/model.ts";
import { joinPieces, readFields } from "../onnx/wire.ts";

/** Names of the tensors of one transformer block. */
export interface BlockTensors {
  /** The residual stream as it enters the block. */
  readonly residPre: string;
  /** The residual stream between attention and MLP. */
  readonly residMid: string;
  /** The residual stream as it leaves the block. */
  readonly residPost: string;
  /** Tensors that add up to what attention adds to the stream: one, and its bias where that is added last. */
  readonly attnOut: readonly string[];
  /** Tensors that add up to what the MLP adds to the stream. */
  readonly mlpOut: readonly string[];
}

/** An addition of the stream: `output = skip + branch`. */
interface StreamAdd {
  readonly skip: string;
  readonly output: string;
  readonly branch: readonly string[];
  readonly attends: boolean;
}

// Operators that mix tokens by attention, whole or as the softmax inside it.
const attentionOps = new Set([
  "Softmax",
  "QLinearSoftmax",
  "Attention",
  "QAttention",
  "MultiHeadAttention",
  "PackedAttention",
  "PackedMultiHeadAttention",
  "GroupQueryAttention",
]);

/**
 * Names the residual stream's tensors, one entry a block.
 *
 * @param input The graph's input for pixels.
 * @throws {TypeError} If the graph holds no such chain: it is not a pre-norm transformer.
 */
export function findResidualStream(model: OnnxModel, input: string): BlockTensors[] {
  const flow = traceFlow(model, input);
  const adds = findStreamAdds(model, flow);
  // Blocks are pairs: an addition of attention, and the addition of an MLP that skips from it.
  const bySkip = new Map(adds.filter((add) => !add.attends).map((add) => [add.skip, add]));
  const blocks: BlockTensors[] = [];
  for (const attention of adds.filter((add) => add.attends)) {
    const mlp = bySkip.get(attention.output);
    if (mlp === undefined) continue;
    const { skip: residPre, output: residMid, branch: attnOut } = attention;
    blocks.push({ residPre, residMid, residPost: mlp.output, attnOut, mlpOut: mlp.branch });
  }
  if (blocks.length > 0) return longestChain(blocks);
  const reason = unfitReason(adds, flow) ??
    (hasFunctions(model)
      ? "here they may be hidden in functions of the model: inline these first"
      : `none was found among ${model.nodes.length} nodes`);
  throw new TypeError(
    "Cannot find the residual stream: the graph must hold transformer blocks (attention and MLP, each added to what " +
      `went in), ${reason}`,
  );
}

function findStreamAdds(model: OnnxModel, flow: Flow): StreamAdd[] {
  const adds: StreamAdd[] = [];
  for (const node of model.nodes) {
    if (node.opType !== "Add") continue;
    const [left, right] = node.inputs;
    if (!flow.depends(left) || !flow.depends(right)) continue;
    for (const [one, branch] of [[left, right], [right, left]]) {
      const skip = flow.origin(one);
      const inside = flow.between(skip, branch);
      if (inside === undefined) continue;
      const { output, constants } = withConstants(node.outputs[0], flow);
      const attends = inside.some((inner) => attentionOps.has(inner.opType));
      adds.push({ skip, output, branch: [branch, ...constants], attends });
      break;
    }
  }
  return adds;
}

/** The tensor after additions of constants alone, such as a branch's bias that an optimizer moved behind the sum. */
function withConstants(tensor: string, flow: Flow): { output: string; constants: string[] } {
  const constants: string[] = [];
  let output = tensor;
  for (;;) {
    const [next, ...others] = flow.consumers(output);
    const constant = next?.inputs.find((name) => !flow.depends(name));
    if (others.length > 0 || next?.opType !== "Add" || constant === undefined) return { output, constants };
    constants.push(constant);
    output = next.outputs[0];
  }
}

/** The most blocks that follow one another: an encoder, where a decoder comes after it. */
function longestChain(blocks: readonly BlockTensors[]): BlockTensors[] {
  const chains: BlockTensors[][] = [];
  for (const block of blocks) {
    const chain = chains.find((one) => one[one.length - 1].residPost === block.residPre);
    if (chain === undefined) chains.push([block]);
    else chain.push(block);
  }
  return chains.reduce((longest, chain) => chain.length > longest.length ? chain : longest);
}

/** Whether operators of the graph are defined in the file, out of others. */
function hasFunctions(model: OnnxModel): boolean {
  return [...readFields(joinPieces([...model.header]))].some(({ field }) => field === modelFields.functions);
}

/** Why the blocks are of another kind, if it can be told. */
function unfitReason(adds: readonly StreamAdd[], flow: Flow): string | undefined {
  const attention = adds.find((add) => add.attends);
  if (attention === undefined) return undefined;
  // Both branches read the same stream, so the second sum's branch goes around the first sum.
  const isParallel = flow.consumers(attention.output).some((node) =>
    node.opType === "Add" && node.inputs.every((name) => flow.depends(name)) &&
    node.inputs.some((name) => name !== attention.output && flow.between(attention.skip, name) !== undefined)
  );
  if (isParallel) return "here attention and MLP run side by side on the same input (parallel blocks)";
  const isPostNorm = adds.some((add) => !add.attends && flow.between(attention.output, add.skip) !== undefined);
  return isPostNorm ? "here a norm stands between them, in the stream itself (post-norm blocks)" : undefined;
}
