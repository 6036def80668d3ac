/**
 * Where the embedded model, images and SAE are: a small CLIP that has only seen emoji, so that everything can be tried
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
  /** The SAE, for `loadSae()`. */
  readonly sae: string;
  /** Layer that the SAE belongs to. */
  readonly layer: number;
}

/** Paths of what the kit brings along. */
export function embeddedPaths(): EmbeddedPaths {
  return {
    vit: dataPath("tiny_clip/vision_model.onnx"),
    images: dataPath("emoji.arrow"),
    sae: dataPath("sae_layer_3"),
    layer: 3,
  };
}
