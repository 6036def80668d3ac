/**
 * Runs the part of a ViT that makes a few of its tensors, whatever batch size, precision and order of dimensions the
 * graph was exported with: pixels and activations are float32, and the first dimension counts images.
 *
 * @module
 */
import type { PixelSize } from "../images/pixels.ts";
import { makeInput, makeNode } from "../onnx/build.ts";
import { cutToOutputs } from "../onnx/cut.ts";
import { elementTypes, type OnnxModel, type OnnxNode } from "../onnx/model.ts";
import { createSession } from "../runtime/ort.ts";
import { loadOrt } from "../runtime/ort.ts";
import { addUp } from "./fused_ops.ts";
import type { PixelInput } from "./pixel_input.ts";

/** A tensor of numbers that came out of a model. */
export interface PartOutput {
  /** Shape; the first dimension is the number of images. */
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/** A part of a model, open. */
export interface OpenPart {
  /** Runs pixels of shape `[nImages, 3, heightPx, widthPx]` through it; one output a tensor. */
  run(pixels: Float32Array): Promise<PartOutput[]>;
  close(): Promise<void>;
}

/** What {@linkcode cutPart} cuts. */
export interface CutPartOptions {
  input: PixelInput;
  /** What is wanted, each the sum of some tensors of one shape. All that they do not need is cut away. */
  tensors: readonly (readonly string[])[];
  /** Whether the graph has tokens first and images second. */
  tokensFirst: boolean;
}

/** What {@linkcode openPart} opens. */
export interface OpenPartOptions extends CutPartOptions {
  size: PixelSize;
  /** Threads of one run; 0 for every core. */
  threads: number;
  /** Folder of the files that hold weights, if the model's are not inside it. */
  weightsFolder: string | undefined;
}

/** A model cut to a part. */
export interface CutPart {
  readonly bytes: Uint8Array;
  /** Name of the float32 input. */
  readonly input: string;
  /** Names of the float32 outputs. */
  readonly outputs: readonly string[];
}

/** Cuts a model to what makes the given tensors, in float32 and with images first. */
export function cutPart(model: OnnxModel, { input, tensors, tokensFirst }: CutPartOptions): CutPart {
  const isHalf = input.isHalf ||
    [...model.initializers.values()].some(({ elementType }) => elementType === elementTypes.float16);
  const before: OnnxNode[] = [];
  const after: OnnxNode[] = [];
  const inputs = [...model.inputs];
  let inputName = input.name;
  if (input.isHalf) {
    inputName = `${input.name}/float32`;
    const { dims } = model.inputs.find(({ name }) => name === input.name)!;
    const at = inputs.findIndex(({ name }) => name === input.name);
    inputs[at] = makeInput({ name: inputName, dims: dims.map((dim, i) => dim === "?" ? `dimension_${i}` : dim) });
    before.push(castNode(inputName, input.name, elementTypes.float16));
  }
  const outputs = tensors.map((terms, i) => {
    let name = terms[0];
    if (terms.length > 1) {
      name = `activations_${i}/sum`;
      after.push(...addUp(terms, name));
    }
    if (tokensFirst) {
      const turned = `activations_${i}/images_first`;
      after.push(makeNode({ op: "Transpose", inputs: [name], outputs: [turned], attributes: { perm: [1, 0, 2] } }));
      name = turned;
    }
    if (isHalf) {
      after.push(castNode(name, `activations_${i}/float32`, elementTypes.float32));
      name = `activations_${i}/float32`;
    }
    return name;
  });
  const edited = { ...model, inputs, nodes: [...before, ...model.nodes, ...after] };
  return { bytes: cutToOutputs(edited, outputs), input: inputName, outputs };
}

function castNode(from: string, name: string, to: number): OnnxNode {
  return makeNode({ op: "Cast", inputs: [from], outputs: [name], attributes: { to } });
}

/** Opens the part of a model that makes the given tensors. */
export async function openPart(model: OnnxModel, options: OpenPartOptions): Promise<OpenPart> {
  const { size: { heightPx, widthPx }, threads, weightsFolder } = options;
  const { maxBatch } = options.input;
  const { Tensor } = await loadOrt();
  const { bytes, input, outputs } = cutPart(model, options);
  const session = await createSession(bytes, { threads, weightsFolder });
  const imageLength = 3 * heightPx * widthPx;

  const runBatch = async (pixels: Float32Array): Promise<PartOutput[]> => {
    const nImages = pixels.length / imageLength;
    const feeds = { [input]: new Tensor("float32", pixels, [nImages, 3, heightPx, widthPx]) };
    // Failures are thrown: onnxruntime need not print them, too.
    const results = await session.run(feeds, outputs as string[], { logSeverityLevel: 4 });
    return outputs.map((name) => ({ dims: results[name].dims, data: results[name].data as Float32Array }));
  };
  /** Pads to the size that the graph asks for, and cuts the padding off again. */
  const runPadded = async (pixels: Float32Array): Promise<PartOutput[]> => {
    const nImages = pixels.length / imageLength;
    const padded = new Float32Array(maxBatch * imageLength);
    padded.set(pixels);
    return (await runBatch(padded)).map(({ dims, data }) => ({
      dims: [nImages, ...dims.slice(1)],
      data: data.subarray(0, (data.length / maxBatch) * nImages),
    }));
  };
  return {
    async run(pixels) {
      if (pixels.length === 0 || pixels.length % imageLength !== 0) {
        throw new RangeError(
          `Cannot run ViT: pixels must have shape [nImages, 3, ${heightPx}, ${widthPx}], current length is ${pixels.length}`,
        );
      }
      // A whole batch keeps its shape as it is.
      if (maxBatch === Infinity || pixels.length === maxBatch * imageLength) return await runBatch(pixels);
      const parts: PartOutput[][] = [];
      for (let first = 0; first < pixels.length; first += maxBatch * imageLength) {
        parts.push(await runPadded(pixels.subarray(first, first + maxBatch * imageLength)));
      }
      return outputs.map((_, i) => joinOutputs(parts.map((part) => part[i])));
    },
    close: () => session.release(),
  };
}

function joinOutputs(parts: readonly PartOutput[]): PartOutput {
  const data = new Float32Array(parts.reduce((total, part) => total + part.data.length, 0));
  let position = 0;
  for (const part of parts) {
    data.set(part.data, position);
    position += part.data.length;
  }
  const nImages = parts.reduce((total, part) => total + part.dims[0], 0);
  return { dims: [nImages, ...parts[0].dims.slice(1)], data };
}
