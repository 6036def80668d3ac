/**
 * Opens a vision transformer in ONNX: what it expects, how its image becomes tokens, and its residual stream.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { outputSize } from "../images/pixels.ts";
import { centerCropTransform, type PixelTransform, pixelTransformFromConfig } from "../images/transform.ts";
import { type OnnxModel, readOnnx } from "../onnx/model.ts";
import { openPart } from "./part.ts";
import { type BlockTensors, findPatchEmbedding, findResidualStream, type PatchEmbedding } from "./residual_stream.ts";

/** A vision transformer, ready to record from. */
export interface Vit {
  /** File it was opened from. */
  readonly path: string;
  /** Hex SHA-256 of that file. */
  readonly fingerprint: string;
  readonly nLayers: number;
  readonly dModel: number;
  /** Size of the pixels it takes. */
  readonly heightPx: number;
  readonly widthPx: number;
  /** Patches down and across. */
  readonly gridHeight: number;
  readonly gridWidth: number;
  readonly nPatches: number;
  /** CLS and registers: tokens before the first patch. */
  readonly nSpecialTokens: number;
  /** `nSpecialTokens + nPatches`. */
  readonly tokensPerImage: number;
  /** How images become its pixels. */
  readonly transform: PixelTransform;
  /**
   * Layers by their 0-based number; negative ones count from the last, -1.
   *
   * @throws {RangeError} If there is no such layer, or one is named twice, or none.
   */
  resolveLayers(layers: readonly number[]): number[];
  /**
   * Opens the part of the model that makes the residual stream after the given layers. Later blocks are left out, so
   * they cost nothing.
   */
  openLayers(layers: readonly number[]): Promise<VitLayers>;
}

/** The part of a ViT that makes the residual stream after some layers. */
export interface VitLayers {
  /** Layers, in the order asked for. */
  readonly layers: readonly number[];
  /**
   * Residual streams of a batch, one array a layer, each of shape `[nImages, tokensPerImage, dModel]`.
   *
   * @param pixels Shape `[nImages, 3, heightPx, widthPx]`.
   */
  run(pixels: Float32Array): Promise<Float32Array[]>;
  close(): Promise<void>;
}

/** Options of {@linkcode openVit}. */
export interface OpenVitOptions {
  /**
   * How images become pixels.
   *
   * @default `preprocessor_config.json` beside the model or one folder up, else CLIP's at the size the graph asks for
   */
  transform?: PixelTransform;
  /**
   * Threads of one model run; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
}

/**
 * Opens a ViT in ONNX.
 *
 * @throws {SyntaxError} If the file is not ONNX.
 * @throws {TypeError} If the model is not a vision transformer whose residual stream can be found.
 */
export async function openVit(path: string, options: OpenVitOptions = {}): Promise<Vit> {
  const { threads = 0 } = options;
  const bytes = await readModel(path);
  let model: OnnxModel;
  let blocks: BlockTensors[];
  let patch: PatchEmbedding;
  try {
    model = readOnnx(bytes);
    blocks = findResidualStream(model);
    patch = findPatchEmbedding(model);
  } catch (error) {
    const { message, constructor } = error as Error;
    const reason = message.replace(/^Cannot [^:]*: /, "");
    throw new (constructor as ErrorConstructor)(`Cannot open ViT ${path}: ${reason}`, { cause: error });
  }
  if ([...model.initializers.values()].some((initializer) => initializer.external)) {
    throw new TypeError(`Cannot open ViT ${path}: weights must be inside the file, this model keeps them in another`);
  }

  const [input, ...others] = model.inputs;
  if (others.length > 0 || ![0, 4].includes(input.dims.length)) {
    const inputs = model.inputs.map(({ name, dims }) => `${name} [${dims.join(", ")}]`).join(", ");
    throw new TypeError(
      `Cannot open ViT ${path}: its input must be pixels [nImages, 3, height, width] alone, current inputs are ` +
        `${inputs}; export the vision part by itself`,
    );
  }
  const [fixedBatch, , graphHeight, graphWidth] = input.dims;
  const configured = options.transform ?? await readTransform(path);
  const graphSize = isSize(graphHeight) && isSize(graphWidth)
    ? { heightPx: graphHeight, widthPx: graphWidth }
    : undefined;
  const transform = configured ?? clipTransform(graphSize);
  const { heightPx, widthPx } = graphSize ?? outputSize({ heightPx: 224, widthPx: 224 }, transform);
  const given = outputSize({ heightPx, widthPx }, transform);
  if (given.heightPx !== heightPx || given.widthPx !== widthPx) {
    throw new RangeError(
      `Cannot open ViT ${path}: preprocessing must give ${widthPx} × ${heightPx} pixels, it gives ${given.widthPx} × ` +
        `${given.heightPx}`,
    );
  }
  const gridHeight = Math.floor(heightPx / patch.patchHeight);
  const gridWidth = Math.floor(widthPx / patch.patchWidth);
  const nPatches = gridHeight * gridWidth;
  const maxBatch = isSize(fixedBatch) ? fixedBatch : Infinity;
  const open = (tensors: readonly string[]) =>
    openPart(model, { input: input.name, tensors, heightPx, widthPx, maxBatch, threads });

  // The graph up to the first block is small: black images through it tell the number of tokens.
  const start = await open([blocks[0].residPre]);
  const [{ dims }] = await start.run(new Float32Array(2 * 3 * heightPx * widthPx));
  await start.close();
  const tokensPerImage = dims[1];
  const nSpecialTokens = tokensPerImage - nPatches;
  if (dims.length !== 3 || dims[0] !== 2 || dims[2] !== patch.dModel || nSpecialTokens < 0) {
    throw new TypeError(
      `Cannot open ViT ${path}: its residual stream must have shape [nImages, nTokens, dModel], current shape for 2 ` +
        `images is [${dims.join(", ")}]`,
    );
  }

  const resolveLayers = (wanted: readonly number[]) => {
    const layers = wanted.map((layer) => resolveLayer(layer, blocks.length));
    if (layers.length === 0 || new Set(layers).size < layers.length) {
      throw new RangeError(
        `Cannot record layers [${wanted.join(", ")}]: there must be at least one, and each only once`,
      );
    }
    return layers;
  };
  return {
    path,
    fingerprint: createHash("sha256").update(bytes).digest("hex"),
    nLayers: blocks.length,
    dModel: patch.dModel,
    heightPx,
    widthPx,
    gridHeight,
    gridWidth,
    nPatches,
    nSpecialTokens,
    tokensPerImage,
    transform,
    resolveLayers,
    async openLayers(wanted) {
      const layers = resolveLayers(wanted);
      const part = await open(layers.map((layer) => blocks[layer].residPost));
      return {
        layers,
        run: async (pixels) => (await part.run(pixels)).map((output) => output.data),
        close: part.close,
      };
    },
  };
}

/** CLIP's transform for pixels of any aspect: the crop lies within the resized image. */
function clipTransform(crop = { heightPx: 224, widthPx: 224 }): PixelTransform {
  return { ...centerCropTransform(Math.max(crop.heightPx, crop.widthPx)), crop };
}

function isSize(dim: number | string | undefined): dim is number {
  return typeof dim === "number" && dim > 0;
}

function resolveLayer(layer: number, nLayers: number): number {
  if (!Number.isInteger(layer) || layer < -nLayers || layer >= nLayers) {
    throw new RangeError(
      `Cannot record layer ${layer}: layer must be an integer between 0 and ${
        nLayers - 1
      }, or between ${-nLayers} and ` +
        `-1 to count from the last`,
    );
  }
  return layer < 0 ? layer + nLayers : layer;
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

// Hub repositories keep the configuration one folder above `onnx/`.
async function readTransform(path: string): Promise<PixelTransform | undefined> {
  for (const folder of [dirname(path), dirname(dirname(path))]) {
    const file = join(folder, "preprocessor_config.json");
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch {
      continue;
    }
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (error) {
      throw new SyntaxError(`Cannot read ${file}: it must be JSON`, { cause: error });
    }
    return pixelTransformFromConfig(json);
  }
  return undefined;
}
