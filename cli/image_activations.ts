/**
 * Activations that a ViT gives for images while they are asked for, with nothing on disk.
 *
 * @module
 */
import type { ImageSource } from "../lib/images/source.ts";
import { type Activations, evenBatches } from "../lib/sae/activations.ts";
import { checkSaeFits, type Sae } from "../lib/sae/sae.ts";
import { type TokenKind, tokenRange } from "../lib/shards/read.ts";
import { imageTokens } from "../lib/train/source.ts";
import type { HookPoint } from "../lib/vit/hooks.ts";
import type { Vit } from "../lib/vit/vit.ts";

/** Images, and what of the model's activations on them; what is not said is taken from the SAE. */
export interface ImageActivationsOptions {
  readonly vit: Vit;
  readonly images: ImageSource;
  readonly hook?: HookPoint;
  readonly layer?: number;
  readonly tokens?: TokenKind;
}

/**
 * Opens the activations for an SAE. The model stays open.
 *
 * @throws {RangeError} If nobody says the layer, or the SAE does not fit the model.
 */
export function openImageActivations(sae: Sae, options: ImageActivationsOptions): Activations {
  const { vit, images } = options;
  const { hook, layer, tokens = "patches" } = { ...sae.provenance, ...withoutUndefined(options) };
  if (layer === undefined) {
    throw new RangeError(`Cannot evaluate on ${images.location}: layer must be given, the SAE does not tell its own`);
  }
  checkSaeFits(sae, vit.dModel, { what: vit.path });
  const source = imageTokens(vit, images, { hook });
  const chosen = source.resolveLayer(layer);
  const { count: tokensPerImage } = tokenRange(source.info, tokens);
  const sizes = { nTokens: source.nImages * tokensPerImage, dModel: vit.dModel };
  return {
    ...sizes,
    source: images.location,
    tokensPerImage,
    batches: ({ batchSize = 4096, signal } = {}) => {
      const pieces = () => source.readBatches({ layer: chosen, tokens, signal });
      return evenBatches({ ...sizes, pieces }, { batchSize, signal });
    },
    close: () => Promise.resolve(),
  };
}

function withoutUndefined({ hook, layer, tokens }: ImageActivationsOptions): Partial<ImageActivationsOptions> {
  return Object.fromEntries(Object.entries({ hook, layer, tokens }).filter(([, value]) => value !== undefined));
}
