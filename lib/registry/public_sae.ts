/**
 * What is worth knowing about an SAE that others published before its numbers can be trusted: where it belongs, how it
 * was trained, what its files leave out, and what its authors measured.
 *
 * @module
 */
import type { DictionaryOptions } from "../checkpoints/dictionary.ts";
import type { HookPoint } from "../vit/hooks.ts";

/** The vision transformer whose activations an SAE was trained on. */
export interface PublicBackbone {
  /** Name for people. */
  readonly name: string;
  /** The original weights on the Hub, without `hf:`; they are for other software. */
  readonly original: string;
  /** The same model in ONNX, as a source for `fetchHubFile()`; `undefined` where none is known: it has to be exported. */
  readonly onnx?: string;
  readonly nLayers: number;
}

/** Numbers that an SAE should reach again, for `diagnoseSae()`. */
export interface PublishedNumbers {
  /** Mean number of active latents a token. */
  readonly l0?: number;
  /** Mean squared error over tokens and dimensions, in the space that the SAE was trained in. */
  readonly mse?: number;
}

/** One file, or folder, of weights. */
export interface PublicCheckpoint {
  /** For `loadSae()`: a file on the Hub, or a folder of it with its configuration. */
  readonly source: string;
  /** 0-based block. */
  readonly layer: number;
  /** Latents, where they are not those of the whole collection. */
  readonly dSae?: number;
  /** What its authors measured, where it is comparable. */
  readonly expected?: PublishedNumbers;
  /** Hex SHA-256 of the file, where its authors published it. */
  readonly sha256?: string;
  /** Everything else that its authors measured, with their names. */
  readonly published?: Readonly<Record<string, number>>;
}

/** SAEs of one model and one way of training, on one or several layers. */
export interface PublicSae {
  /** Short name, for `findPublicSae()`. */
  readonly id: string;
  readonly title: string;
  readonly backbone: PublicBackbone;
  /** Where in a block; `imageEmbedding` is what the whole tower gives out. */
  readonly hook: HookPoint | "imageEmbedding";
  /** Tokens that it was trained on; `undefined` where that is not stated. */
  readonly tokens?: "patches" | "cls" | "all";
  /** 0-based blocks that there are SAEs for. */
  readonly layers: readonly number[];
  /** Activation rule and kind of training. */
  readonly architecture: string;
  readonly dModel: number;
  /** Latents; of most, where they differ. */
  readonly dSae: number;
  /** How activations were normalized, in a few words. */
  readonly normalization: string;
  /** Whether the files hold all that it takes to normalize activations so. */
  readonly isNormalizationShipped: boolean;
  /** Options for `loadSae()`. */
  readonly options: Pick<DictionaryOptions, "format" | "k" | "subtractBDec">;
  /** Names of its files, with what varies in braces. */
  readonly pattern: string;
  /** Files that are known by name; more may be published. */
  readonly checkpoints: readonly PublicCheckpoint[];
  /** A file that lists the rest, one JSON object a line, as saev writes it. */
  readonly manifest?: string;
  /** License of the weights, or how to find it. */
  readonly license: string;
  /** What goes wrong silently. */
  readonly traps: readonly string[];
  /** What of the above its authors do not state. */
  readonly inferred: readonly string[];
  /** Papers and code. */
  readonly references: readonly string[];
}

/** License of weights whose card was not seen. */
export const unknownLicense = "unknown, see the model card";

/** The blocks from one to another. */
export function layerRange(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
