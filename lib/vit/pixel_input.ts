/**
 * What a graph takes: which of its inputs are the pixels, in which size and precision, and that nothing else is needed.
 *
 * @module
 */
import type { PixelSize } from "../images/pixels.ts";
import { neededTensors } from "../onnx/cut.ts";
import { elementTypes, type OnnxModel, type OnnxValue } from "../onnx/model.ts";

/** The input for pixels. */
export interface PixelInput {
  readonly name: string;
  /** Images that the graph takes at once: the batch size it was exported for, or `Infinity`. */
  readonly maxBatch: number;
  /** Size of its images; `undefined` where it takes any. */
  readonly size: PixelSize | undefined;
  /** Whether it wants half precision. */
  readonly isHalf: boolean;
}

// 0 where the file does not tell.
const pixelTypes: readonly number[] = [0, elementTypes.float32, elementTypes.float16];

/**
 * Finds the input for pixels: floats of shape `[nImages, 3, height, width]`, where any may be open.
 *
 * @throws {TypeError} If there is none, or more than one.
 */
export function findPixelInput(model: OnnxModel): PixelInput {
  const floats = model.inputs.filter(({ elementType }) => pixelTypes.includes(elementType));
  const images = floats.filter(({ dims }) => dims.length === 4 && (dims[1] === 3 || !isSize(dims[1])));
  const named = images.filter(({ name }) => /pixel|image/i.test(name));
  // Old exports leave the shape out altogether.
  const shapeless = model.inputs.length === 1 ? floats.filter(({ dims }) => dims.length === 0) : [];
  const [found, ...others] = [images, named, shapeless].find((inputs) => inputs.length === 1) ?? [];
  if (found === undefined || others.length > 0) {
    throw new TypeError(
      "Cannot find pixels: the graph must take pixels [nImages, 3, height, width] as floats, current inputs are " +
        `${model.inputs.map(describeInput).join(", ")}${
          isPrePatched(model) ? "; cutting patches must be part of it" : ""
        }`,
    );
  }
  const [batch, , heightPx, widthPx] = found.dims;
  return {
    name: found.name,
    maxBatch: isSize(batch) ? batch : Infinity,
    size: isSize(heightPx) && isSize(widthPx) ? { heightPx, widthPx } : undefined,
    isHalf: found.elementType === elementTypes.float16,
  };
}

/** SigLIP 2 NaFlex and its like take rows of cut patches. */
function isPrePatched(model: OnnxModel): boolean {
  return model.inputs.some(({ name, dims }) => /pixel/i.test(name) && (dims.length === 2 || dims.length === 3));
}

function describeInput({ name, dims, elementType }: OnnxValue): string {
  const type = Object.entries(elementTypes).find(([, code]) => code === elementType)?.[0];
  return `${name} [${dims.join(", ")}]${type && elementType !== elementTypes.float32 ? ` of ${type}` : ""}`;
}

/**
 * Checks that some tensors can be made from the pixels alone.
 *
 * @throws {TypeError} If another input is needed, too.
 */
export function checkNeedsOnly(model: OnnxModel, input: string, tensors: readonly string[]): void {
  const needed = neededTensors(model, tensors).tensors;
  const others = model.inputs.filter(({ name }) => name !== input && needed.has(name));
  if (others.length > 0) {
    throw new TypeError(
      `Cannot cut the vision part: it must need ${input} alone, it also needs ${
        others.map(describeInput).join(", ")
      }; ` +
        "export the vision part by itself",
    );
  }
}

/** Whether a dimension is fixed. */
export function isSize(dim: number | string | undefined): dim is number {
  return typeof dim === "number" && dim > 0;
}
