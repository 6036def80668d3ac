/**
 * SAEs of other papers that are on the Hub. Several more are not there, or not for vision transformers: `docs/hub.md`
 * names them.
 *
 * @module
 */
import { type PublicSae, unknownLicense } from "./public_sae.ts";

const vlmLayers = [11, 17, 22, 23] as const;
const expansions = [1, 2, 4, 8, 16, 64] as const;

function vlmSource(layer: number | string, variant: string): string {
  const run = `imagenet_train_activations_clip-vit-large-patch14-336_${layer}_post_mlp_residual_${variant}`;
  return `hf:mateuszpach/sae-for-vlm/${variant}/${run}/trainer_0/checkpoints/ae_100000.pt`;
}

const msae =
  "hf:WolodjaZ/MSAE/ViT-L_14/not_centered/6144_768_TopKReLU_64_RW_False_False_0.0_cc3m_ViT-L~14_train_image_" +
  "2905936_768.pth";

/** The collection. */
export const otherSaes: readonly PublicSae[] = [
  {
    id: "sae-for-vlm-clip-l14",
    title: "sae-for-vlm on CLIP ViT-L/14 at 336 pixels, four layers, six sizes",
    backbone: {
      name: "CLIP ViT-L/14 at 336 px (OpenAI)",
      original: "openai/clip-vit-large-patch14-336",
      onnx: "hf:Xenova/clip-vit-large-patch14-336/onnx/vision_model.onnx",
      nLayers: 24,
    },
    hook: "residPost",
    layers: vlmLayers,
    architecture: "BatchTopK, k = 20",
    dModel: 1024,
    dSae: 8192,
    normalization: "none left: folded into the weights",
    isNormalizationShipped: true,
    options: { format: "dictionary-learning" },
    pattern: vlmSource("{layer}", "batch_top_k_20_x{expansion}"),
    checkpoints: vlmLayers.flatMap((layer) =>
      expansions.map((expansion) => ({
        source: vlmSource(layer, `batch_top_k_20_x${expansion}`),
        layer,
        dSae: 1024 * expansion,
      }))
    ),
    license: unknownLicense,
    traps: [
      "At inference a latent is kept where it is above one learned threshold, not by rank: the number that is active " +
      "varies from token to token.",
      "Images are 336 pixels wide, so there are 577 tokens; the model for 224 pixels has other weights.",
    ],
    inferred: [
      "Names of the files, and that each layer has each size: from code of another project that loads some of them. " +
      "listHubFiles() names what there is; Matryoshka variants and SAEs on SigLIP are published too.",
      "That normalization is folded in: the trainer that it is saved by does so.",
      "Tokens: not stated.",
    ],
    references: ["https://arxiv.org/abs/2504.02821", "https://github.com/ExplainableML/sae-for-vlm"],
  },
  {
    id: "msae-clip-l14",
    title: "MSAE on the image embeddings of CLIP ViT-L/14, CC3M",
    backbone: {
      name: "CLIP ViT-L/14 (OpenAI)",
      original: "openai/clip-vit-large-patch14",
      onnx: "hf:Xenova/clip-vit-large-patch14/onnx/vision_model.onnx",
      nLayers: 24,
    },
    hook: "imageEmbedding",
    layers: [23],
    architecture: "TopK, Matryoshka",
    dModel: 768,
    dSae: 6144,
    normalization: "mean and scale, in the file",
    isNormalizationShipped: true,
    options: { format: "msae" },
    pattern: "hf:WolodjaZ/MSAE/{model}/{centering}/{file}.pth",
    checkpoints: [{ source: msae, layer: 23 }],
    license: unknownLicense,
    traps: [
      "It is for the embedding of a whole image, after CLIP's projection, not for tokens: there are no patches to light up.",
      "Its architecture and sizes are told by the file's name alone, which therefore has to stay as it is.",
    ],
    inferred: [
      "That OpenAI's weights are meant by ViT-L/14.",
      "More files, for ViT-B/16 and other trainings, are published under names that were not seen; listHubFiles() names " +
      "them.",
    ],
    references: ["https://arxiv.org/abs/2502.20578", "https://github.com/WolodjaZ/MSAE"],
  },
];
