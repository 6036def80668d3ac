/**
 * Runs the part of a ViT that makes a few of its tensors, whatever batch size the graph was exported for.
 *
 * @module
 */
import { cutToOutputs, type OnnxModel } from "../onnx/model.ts";
import { createSession, loadOrt } from "../runtime/ort.ts";

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

/** What {@linkcode openPart} opens. */
export interface OpenPartOptions {
  /** Name of the graph's pixel input. */
  input: string;
  /** Names of the tensors wanted; all that they do not need is cut away. */
  tensors: readonly string[];
  heightPx: number;
  widthPx: number;
  /** Images that the graph takes at once: the batch size it was exported for, or `Infinity`. */
  maxBatch: number;
  /** Threads of one run; 0 for every core. */
  threads: number;
}

/** Opens the part of a model that makes the named tensors. */
export async function openPart(model: OnnxModel, options: OpenPartOptions): Promise<OpenPart> {
  const { input, tensors, heightPx, widthPx, maxBatch, threads } = options;
  const { Tensor } = await loadOrt();
  const session = await createSession(cutToOutputs(model, tensors), { threads });
  const imageLength = 3 * heightPx * widthPx;

  const runBatch = async (pixels: Float32Array): Promise<PartOutput[]> => {
    const nImages = pixels.length / imageLength;
    const feeds = { [input]: new Tensor("float32", pixels, [nImages, 3, heightPx, widthPx]) };
    const results = await session.run(feeds, tensors as string[]);
    return tensors.map((name) => ({ dims: results[name].dims, data: results[name].data as Float32Array }));
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
      if (maxBatch === Infinity) return await runBatch(pixels);
      const parts: PartOutput[][] = [];
      for (let first = 0; first < pixels.length; first += maxBatch * imageLength) {
        parts.push(await runPadded(pixels.subarray(first, first + maxBatch * imageLength)));
      }
      return tensors.map((_, i) => joinOutputs(parts.map((part) => part[i])));
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
