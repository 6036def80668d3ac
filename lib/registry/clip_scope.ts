/**
 * CLIP-Scope: https://huggingface.co/lewington/CLIP-ViT-L-scope. Numbers are those of its card.
 *
 * @module
 */
import { type PublicSae, unknownLicense } from "./public_sae.ts";

const dModel = 1024;

/** Layer, squared error summed over dimensions, explained variance, share of dead latents. */
const table: readonly (readonly [layer: number, sumMse: number, explainedVariance: number, dead: number])[] = [
  [2, 267.95, 0.763, 0.000912],
  [5, 354.46, 0.665, 0],
  [8, 357.58, 0.642, 0],
  [11, 321.23, 0.674, 0],
  [14, 319.64, 0.689, 0],
  [17, 261.20, 0.731, 0],
  [20, 278.06, 0.706, 0.0000763],
  [22, 299.96, 0.684, 0],
];

/** The collection. */
export const clipScopeSaes: readonly PublicSae[] = [{
  id: "clip-scope-l14",
  title: "CLIP-Scope on CLIP ViT-L/14 of LAION-2B, eight layers",
  backbone: {
    name: "CLIP ViT-L/14 (LAION-2B)",
    original: "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    nLayers: 24,
  },
  hook: "residPost",
  tokens: "all",
  layers: table.map(([layer]) => layer),
  architecture: "TopK, k = 32",
  dModel,
  dSae: 65_536,
  normalization: "(x − mean) / (std + 1e-6) of each dimension over the batch",
  isNormalizationShipped: false,
  options: { format: "clip-scope" },
  pattern: "hf:lewington/CLIP-ViT-L-scope/{layer}_resid/{tokens}.pt",
  checkpoints: table.map(([layer, sumMse, explainedVariance, dead]) => ({
    source: `hf:lewington/CLIP-ViT-L-scope/${layer}_resid/1200013184.pt`,
    layer,
    // The card sums over dimensions.
    expected: { mse: sumMse / dModel },
    published: { sumMse, explainedVariance, dead },
  })),
  license: unknownLicense,
  traps: [
    "It was trained on activations that were standardized over each batch of 32,896 tokens. The card's example feeds them " +
    "as they are, which gives other latents; its MSE and explained variance are of standardized activations.",
    "Its TopK has no ReLU: where fewer than 32 pre-activations are positive, negative ones are kept.",
    "The decoder is stored transposed: a reader that ignores strides gets a wrong one without an error. loadSae() heeds " +
    "them.",
    "ONNX files of CLIP ViT-L/14 that are easy to find hold OpenAI's weights, not LAION's: export the tower of " +
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K.",
    "Its explained variance is centered on the mean over each token's own dimensions, not on the mean of the data.",
    "A file is 537 MB.",
  ],
  inferred: [
    "File names of layers other than 22: all were trained in batches of 32,896 tokens to 1.2 billion. Twelve files a " +
    "layer are published, one every 100 million tokens; listHubFiles() names them.",
  ],
  references: [
    "https://huggingface.co/lewington/CLIP-ViT-L-scope",
    "https://github.com/Lewington-pitsos/clipscope",
    "https://github.com/Lewington-pitsos/sache",
  ],
}];
