/**
 * Opens a vision transformer in ONNX: what it expects, how its image becomes tokens, and its residual stream.
 *
 * @module
 */
import { type HubOptions, isHubSource } from "../hub/hub.ts";
import { fetchModel } from "./hub_model.ts";
import type { PixelSize } from "../images/pixels.ts";
import type { PixelTransform } from "../images/transform.ts";
import { configuredSize, readModelConfig, readTransform } from "./config.ts";
import type { SpecialToken } from "./families.ts";
import type { GeluKind } from "./gelu.ts";
import { chooseGelu, readVitGraph } from "./graph.ts";
import { readGraphSigns } from "./graph_signs.ts";
import { checkHookPoint, type HookPoint } from "./hooks.ts";
import { openPart } from "./part.ts";
import { chooseSize, chooseTransform } from "./preprocessing.ts";
import { familyFromConfig, familyFromGraph, familyOf } from "./recognize_family.ts";
import type { BlockTensors } from "./residual_stream.ts";
import { chooseSpecialTokens, measureTokens } from "./tokens.ts";

/** A vision transformer, ready to record from. */
export interface Vit {
  /** File it was opened from. */
  readonly path: string;
  /** Hex SHA-256 of that file, and of the files that hold its weights, if they are not inside it. */
  readonly fingerprint: string;
  /** Name of its entry in {@linkcode vitFamilies}; `undefined` where it cannot be told. */
  readonly family: string | undefined;
  readonly nLayers: number;
  readonly dModel: number;
  /** Size of the pixels it takes. */
  readonly heightPx: number;
  readonly widthPx: number;
  /** Patches down and across. */
  readonly gridHeight: number;
  readonly gridWidth: number;
  readonly nPatches: number;
  /** Tokens before the first patch. */
  readonly nSpecialTokens: number;
  /** What these tokens are, in order. */
  readonly specialTokens: readonly SpecialToken[];
  /** `nSpecialTokens + nPatches`. */
  readonly tokensPerImage: number;
  /** Form of GELU in the file's MLPs; `undefined` where they use another function, or more than one. */
  readonly gelu: GeluKind | undefined;
  /** Form of GELU that it runs with in place of the file's; `undefined` where nothing was replaced. */
  readonly replacedGelu: GeluKind | undefined;
  /** How images become its pixels. */
  readonly transform: PixelTransform;
  /**
   * Layers by their 0-based number; negative ones count from the last, -1.
   *
   * @throws {RangeError} If there is no such layer, or one is named twice, or none.
   */
  resolveLayers(layers: readonly number[]): number[];
  /**
   * Opens the part of the model that makes the activations of the given layers. Later blocks are left out, so they cost
   * nothing.
   */
  openLayers(layers: readonly number[], options?: OpenLayersOptions): Promise<VitLayers>;
}

/** Options of {@linkcode Vit.openLayers}. */
export interface OpenLayersOptions {
  /**
   * Where in each block.
   *
   * @default {"residPost"}
   */
  hook?: HookPoint;
}

/** The part of a ViT that makes the activations of some layers. */
export interface VitLayers {
  /** Layers, in the order asked for. */
  readonly layers: readonly number[];
  readonly hook: HookPoint;
  /**
   * Activations of a batch, one array a layer, each of shape `[nImages, tokensPerImage, dModel]`.
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
   * @default `preprocessor_config.json` beside the model or one folder up, else its family's, else CLIP's
   */
  transform?: PixelTransform;
  /**
   * Size of the pixels, for a graph that takes any; preprocessing is fitted to it.
   *
   * @default what the graph asks for, else what preprocessing gives
   */
  imageSize?: PixelSize;
  /**
   * Name of its entry in {@linkcode vitFamilies}, where it cannot be told.
   *
   * @default as `config.json` beside it or one folder up says, else as its graph shows
   */
  family?: string;
  /**
   * Form of GELU to run the MLPs with.
   *
   * @default the file's own
   */
  gelu?: GeluKind;
  /**
   * What the tokens before the patches are, in order, where it cannot be told from their number.
   *
   * @default as in its family, else CLS and registers
   */
  specialTokens?: readonly SpecialToken[];
  /**
   * Threads of one model run; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
  /**
   * How a model of the Hub is fetched.
   *
   * @default the cache and the settings of `huggingface_hub`
   */
  hub?: HubOptions;
}

/**
 * Opens a ViT in ONNX.
 *
 * @param source Path of the file, or `hf:owner/repository/path` on the Hugging Face Hub.
 * @throws {SyntaxError} If the file is not ONNX.
 * @throws {TypeError} If the model is not a vision transformer whose residual stream can be found.
 * @throws {RangeError} If an option does not fit it.
 */
export async function openVit(source: string, options: OpenVitOptions = {}): Promise<Vit> {
  const { threads = 0, imageSize, transform: asked } = options;
  const path = isHubSource(source) ? await fetchModel(source, options.hub) : source;
  const graph = await readVitGraph(path);
  const { blocks, patch, input, fingerprint, weightsFolder } = graph;
  const { model, found, replaced } = await chooseGelu(graph, options.gelu, path);

  const config = await readModelConfig(path);
  const named = options.family ? familyOf(options.family) : config && familyFromConfig(config);
  const known = { imageSize, asked, configured: asked ? undefined : await readTransform(path), family: named };
  const size = chooseSize(path, graph, { known, configured: configuredSize(config) });
  const open = (tensors: readonly (readonly string[])[], tokensFirst: boolean) =>
    openPart(model, { input, tensors, tokensFirst, size, threads, weightsFolder });
  const { tokensPerImage, dModel, tokensFirst } = await measureTokens(graph, size, path, open);

  const gridHeight = Math.floor(size.heightPx / patch.patchHeight);
  const gridWidth = Math.floor(size.widthPx / patch.patchWidth);
  const nPatches = gridHeight * gridWidth;
  const nSpecialTokens = tokensPerImage - nPatches;
  if (nSpecialTokens < 0) {
    throw new TypeError(
      `Cannot open ViT ${path}: its residual stream must hold a token for each of ${gridHeight} × ${gridWidth} ` +
        `patches, current number of tokens is ${tokensPerImage}`,
    );
  }
  const signs = readGraphSigns(model, blocks, input.name);
  const family = named ?? familyFromGraph({ ...signs, gelu: found, patchPx: patch.patchWidth, nSpecialTokens });
  const transform = chooseTransform(path, size, { ...known, family });

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
    fingerprint,
    family: family?.name,
    nLayers: blocks.length,
    dModel,
    ...size,
    gridHeight,
    gridWidth,
    nPatches,
    nSpecialTokens,
    specialTokens: chooseSpecialTokens(path, { given: options.specialTokens, nSpecialTokens, family }),
    tokensPerImage,
    gelu: found,
    replacedGelu: replaced,
    transform,
    resolveLayers,
    async openLayers(wanted, { hook = "residPost" } = {}) {
      checkHookPoint(hook);
      const layers = resolveLayers(wanted);
      const part = await open(layers.map((layer) => hookTensors(blocks[layer], hook)), tokensFirst);
      return {
        layers,
        hook,
        run: async (pixels) => {
          const nImages = pixels.length / (3 * size.heightPx * size.widthPx);
          return (await part.run(pixels)).map(({ data, dims }, i) => {
            if (data.length === nImages * tokensPerImage * dModel) return data;
            throw new RangeError(
              `Cannot record layer ${
                layers[i]
              }: its shape must be [${nImages}, ${tokensPerImage}, ${dModel}], current ` +
                `value is [${dims.join(", ")}]`,
            );
          });
        },
        close: part.close,
      };
    },
  };
}

/** Tensors that add up to the activations at a hook point. */
function hookTensors(block: BlockTensors, hook: HookPoint): readonly string[] {
  const tensors = block[hook];
  return typeof tensors === "string" ? [tensors] : tensors;
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
