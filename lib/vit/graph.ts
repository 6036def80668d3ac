/**
 * Reads a ViT's graph: where pixels go in, where the blocks are, which GELU they use. Nothing is run but that GELU.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { elementTypes, type OnnxModel, readOnnx } from "../onnx/model.ts";
import { findWeightFiles, followWeightLinks, hashModel } from "../onnx/weight_files.ts";
import { takeApart } from "./fused_ops.ts";
import { classifyActivations, findMlpActivations, type GeluKind, geluKinds, replaceGelu } from "./gelu.ts";
import { findPatchSize, type PatchSize } from "./patch_embedding.ts";
import { checkNeedsOnly, findPixelInput, type PixelInput } from "./pixel_input.ts";
import { type BlockTensors, findResidualStream } from "./residual_stream.ts";

/** What a file holds, before anything is run. */
export interface VitGraph {
  readonly model: OnnxModel;
  readonly input: PixelInput;
  readonly blocks: readonly BlockTensors[];
  readonly patch: PatchSize;
  /** Folder of the files that hold weights, if they are not inside the model. */
  readonly weightsFolder: string | undefined;
  readonly fingerprint: string;
}

/**
 * Reads the graph of a file.
 *
 * @throws {SyntaxError} If the file is not ONNX.
 * @throws {TypeError} If the model is not a vision transformer whose residual stream can be found.
 */
export async function readVitGraph(path: string): Promise<VitGraph> {
  const bytes = await readModel(path);
  const folder = dirname(path);
  try {
    const stored = readOnnx(bytes);
    const input = findPixelInput(stored);
    if (storedTypes(stored).has(elementTypes.bfloat16)) {
      throw new TypeError(
        "Cannot run it: its numbers must be float32, float16 or quantized, current type is bfloat16; export it in " +
          "float16 or float32",
      );
    }
    const model = takeApart(stored, input.name);
    const blocks = findResidualStream(model, input.name);
    const patch = findPatchSize(model, input.name);
    checkNeedsOnly(model, input.name, [blocks[blocks.length - 1].residPost]);
    const weightFiles = await findWeightFiles(stored, folder);
    const fingerprint = await hashModel(bytes, weightFiles);
    if (weightFiles.length === 0) return { model, input, blocks, patch, fingerprint, weightsFolder: undefined };
    const placed = await followWeightLinks({ model, folder });
    return { input, blocks, patch, fingerprint, model: placed.model, weightsFolder: placed.folder };
  } catch (error) {
    throw openError(path, error);
  }
}

function storedTypes(model: OnnxModel): Set<number> {
  return new Set([...model.inputs, ...model.initializers.values()].map(({ elementType }) => elementType));
}

/** The same error, saying which file it is about. */
function openError(path: string, error: unknown): Error {
  const { message, constructor } = error as Error;
  const reason = message.replace(/^Cannot [^:]*: /, "");
  return new (constructor as ErrorConstructor)(`Cannot open ViT ${path}: ${reason}`, { cause: error });
}

/** A graph's form of GELU. */
export interface ChosenGelu {
  /** The model, with the form asked for. */
  readonly model: OnnxModel;
  /** Form in the file; `undefined` where its MLPs use another function, or more than one. */
  readonly found: GeluKind | undefined;
  /** Form that was put in its place, if it is another. */
  readonly replaced: GeluKind | undefined;
}

/**
 * Tells which form of GELU a graph uses, and gives it another if one is asked for.
 *
 * @throws {TypeError} If another is asked for and some MLP uses no GELU.
 */
export async function chooseGelu(
  { model, blocks, input, weightsFolder }: VitGraph,
  wanted: GeluKind | undefined,
  path: string,
): Promise<ChosenGelu> {
  if (wanted !== undefined && !geluKinds.includes(wanted)) {
    throw new RangeError(
      `Cannot open ViT ${path}: gelu must be one of ${geluKinds.join(", ")}, current value is ${wanted}`,
    );
  }
  const activations = findMlpActivations(model, blocks, input.name).filter((one) => one !== undefined);
  const kinds = new Set(await classifyActivations(model, activations, { weightsFolder }));
  const isWhole = activations.length === blocks.length && !kinds.has(undefined);
  const found = isWhole && kinds.size === 1 ? [...kinds][0] : undefined;
  if (wanted === undefined || wanted === found) return { model, found, replaced: undefined };
  if (!isWhole) {
    throw new TypeError(
      `Cannot open ViT ${path}: every MLP must use GELU to give it the ${wanted} form, here some use another function`,
    );
  }
  return { model: replaceGelu(model, activations, wanted), found, replaced: wanted };
}

async function readModel(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new Error(`Cannot open ViT ${path}: the file must be readable (${(error as { code?: string }).code})`, {
      cause: error,
    });
  }
}
