/**
 * Where the embedded model, images and SAEs are: a small CLIP that has only seen emoji, so that everything can be tried
 * with nothing downloaded. `data/README.md` says where each comes from.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

const dataPath = (name: string) => fileURLToPath(new URL(`../data/${name}`, import.meta.url));

/** Paths of what the kit brings along. */
export interface EmbeddedPaths {
  /** The ViT, for `openVit()`. */
  readonly vit: string;
  /** The images, for `openImages()`. */
  readonly images: string;
  /** The SAE of a layer in the middle, for `loadSae()`. */
  readonly sae: string;
  /** Layer that it belongs to. */
  readonly layer: number;
  /** The SAEs of all layers, from layer 0 on, all trained after one recipe. */
  readonly saes: readonly string[];
}

/** Paths of what the kit brings along. */
export function embeddedPaths(): EmbeddedPaths {
  const layer = 3;
  const saes = Array.from({ length: 6 }, (_, layer) => dataPath(`sae_layer_${layer}`));
  return {
    vit: dataPath("tiny_clip/vision_model.onnx"),
    images: dataPath("emoji.arrow"),
    sae: saes[layer],
    layer,
    saes,
  };
}
