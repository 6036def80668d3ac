/**
 * SAEs published with saev: https://github.com/Imageomics/saev, https://huggingface.co/osunlp. Numbers of the first three
 * are from its logbook; those of DINOv3 are in a manifest beside the weights.
 *
 * @module
 */
import { layerRange, type PublicBackbone, type PublicSae } from "./public_sae.ts";

const firstPaper = "https://arxiv.org/abs/2502.06755";
const secondPaper = "https://arxiv.org/abs/2511.17735";
const code = "https://github.com/Imageomics/saev";

/** What the three SAEs of February 2025 share. */
const first: Pick<
  PublicSae,
  "hook" | "tokens" | "layers" | "architecture" | "dModel" | "dSae" | "normalization" | "isNormalizationShipped"
> = {
  hook: "residPost",
  tokens: "patches",
  layers: [10],
  architecture: "ReLU, L1",
  dModel: 768,
  dSae: 24_576,
  normalization: "(clamp(x, ±1e5) − mean) / scalar",
  isNormalizationShipped: false,
};

const firstOptions = { format: "saev", subtractBDec: true } as const;

const firstTraps = [
  "It was trained with b_dec subtracted from the input. saev itself stopped doing so in July 2025, so its current " +
  "inference example computes other latents.",
];

const missingStatistics = "It was trained on activations minus their mean, divided by one scalar. Neither is in the " +
  "file: measure both on activations of the training data (measureStatistics) and give them as normalization.";

const sharedInferences = [
  "That the file has no schema in its header: from its date.",
];

/** What the SAEs of DINOv3 share. */
const dinov3: Pick<
  PublicSae,
  "hook" | "tokens" | "dSae" | "normalization" | "isNormalizationShipped" | "options" | "license"
> = {
  hook: "residPost",
  tokens: "patches",
  dSae: 16_384,
  normalization: "none",
  isNormalizationShipped: true,
  options: { format: "saev" },
  license: "MIT",
};

const dinov3Traps = [
  "Its tokens are CLS, four registers, then patches; only patches were trained on.",
  "saev resizes images to a whole number of 16-pixel patches near their own aspect (Lanczos), and does not crop.",
  "The ONNX export has its large weights in a second file beside the graph; fetch both.",
  "The license of the DINOv3 weights themselves restricts their use, and the originals are gated.",
];

const transposed =
  "The encoder may be stored transposed, and share its memory with the decoder: a reader that ignores " +
  "strides gets wrong weights without an error. loadSae() heeds them.";

function dinov3Backbone(size: "S" | "B" | "L"): PublicBackbone {
  const name = `dinov3-vit${size.toLowerCase()}16-pretrain-lvd1689m`;
  return {
    name: `DINOv3 ViT-${size}/16`,
    original: `facebook/${name}`,
    onnx: `hf:onnx-community/${name}-ONNX/onnx/model.onnx`,
    nLayers: size === "L" ? 24 : 12,
  };
}

function dinov3Files(repository: string): Pick<PublicSae, "pattern" | "manifest" | "checkpoints"> {
  return {
    pattern: `hf:osunlp/${repository}/layer_{layer}/{run}/sae.pt`,
    manifest: `hf:osunlp/${repository}/manifest.jsonl`,
    checkpoints: [],
  };
}

const dinov3Inferred = [
  "That the files are there as the script that uploads them names them: up to six a layer, listed in the manifest.",
];

/** The collection. */
export const saevSaes: readonly PublicSae[] = [
  {
    ...first,
    id: "saev-clip-b16",
    title: "saev on CLIP ViT-B/16, ImageNet-1K",
    backbone: {
      name: "CLIP ViT-B/16 (OpenAI)",
      original: "openai/clip-vit-base-patch16",
      onnx: "hf:Xenova/clip-vit-base-patch16/onnx/vision_model.onnx",
      nLayers: 12,
    },
    options: firstOptions,
    pattern: "hf:osunlp/SAE_CLIP_24K_ViT-B-16_IN1K/sae.pt",
    checkpoints: [{
      source: "hf:osunlp/SAE_CLIP_24K_ViT-B-16_IN1K/sae.pt",
      layer: 10,
      expected: { l0: 412.7, mse: 0.0761 },
      published: { dead: 0, dense: 11_858 },
    }],
    license: "MIT",
    traps: [
      ...firstTraps,
      missingStatistics,
      "saev's own example normalizes nothing for CLIP; the published L0 and MSE tell which is right for your activations.",
      "saev most likely ran CLIP with exact GELU, where OpenAI and the ONNX export have QuickGELU (x · sigmoid(1.702 x)): " +
      "activations differ from the first block on.",
    ],
    inferred: [
      ...sharedInferences,
      "That activations were normalized: from the sweep that its size and penalty are in.",
      "Exact GELU: from the version of open_clip that saev pins.",
    ],
    references: [firstPaper, code],
  },
  {
    ...first,
    id: "saev-bioclip-b16",
    title: "saev on BioCLIP ViT-B/16, iNaturalist 2021",
    backbone: { name: "BioCLIP ViT-B/16", original: "imageomics/bioclip", nLayers: 12 },
    options: firstOptions,
    pattern: "hf:osunlp/SAE_BioCLIP_24K_ViT-B-16_iNat21/sae.pt",
    checkpoints: [{ source: "hf:osunlp/SAE_BioCLIP_24K_ViT-B-16_iNat21/sae.pt", layer: 10 }],
    license: "MIT",
    traps: [...firstTraps, missingStatistics, "saev's own example normalizes nothing for BioCLIP."],
    inferred: [
      ...sharedInferences,
      "Layer 10: as for the SAE on CLIP.",
      "That activations were normalized: as for the SAE on CLIP.",
    ],
    references: [firstPaper, code],
  },
  {
    ...first,
    id: "saev-dinov2-b14",
    title: "saev on DINOv2 ViT-B/14 with registers, ImageNet-1K",
    backbone: {
      name: "DINOv2 ViT-B/14, registers",
      original: "facebook/dinov2-with-registers-base",
      onnx: "hf:onnx-community/dinov2-with-registers-base/onnx/model.onnx",
      nLayers: 12,
    },
    options: firstOptions,
    pattern: "hf:osunlp/SAE_DINOv2_24K_ViT-B-14_IN1K/sae.pt",
    checkpoints: [{
      source: "hf:osunlp/SAE_DINOv2_24K_ViT-B-14_IN1K/sae.pt",
      layer: 10,
      expected: { l0: 728.7, mse: 0.0697 },
      published: { dead: 1, dense: 19_735 },
    }],
    license: "MIT",
    traps: [
      ...firstTraps,
      "Its mean (768 numbers) and scalar (2.0181241) are not in the file, but in saev's examples/inference.py. That " +
      "example clamps activations at −1e-5 where training clamped at −1e5: it zeroes all that is negative.",
      "Its tokens are CLS, four registers, then 256 patches; only patches were trained on.",
      "saev resized the short side to 256 pixels (bilinear), then cropped 224; later versions squash to 256 × 256.",
    ],
    inferred: [...sharedInferences, "Layer 10: as for the SAE on CLIP."],
    references: [firstPaper, code],
  },
  {
    ...dinov3,
    ...dinov3Files("SAE_DINOv3_ViT-S-16_IN1K"),
    id: "saev-dinov3-s16",
    title: "saev on DINOv3 ViT-S/16, ImageNet-1K, six sparsities a layer",
    backbone: dinov3Backbone("S"),
    layers: layerRange(6, 11),
    architecture: "ReLU, Matryoshka",
    dModel: 384,
    traps: dinov3Traps,
    inferred: dinov3Inferred,
    references: [secondPaper, code],
  },
  {
    ...dinov3,
    ...dinov3Files("SAE_DINOv3_ViT-B-16_IN1K"),
    id: "saev-dinov3-b16",
    title: "saev on DINOv3 ViT-B/16, ImageNet-1K, six sparsities a layer",
    backbone: dinov3Backbone("B"),
    layers: layerRange(6, 11),
    architecture: "ReLU, Matryoshka",
    dModel: 768,
    traps: dinov3Traps,
    inferred: dinov3Inferred,
    references: [secondPaper, code],
  },
  {
    ...dinov3,
    ...dinov3Files("SAE_DINOv3_ViT-L-16_IN1K"),
    id: "saev-dinov3-l16",
    title: "saev on DINOv3 ViT-L/16, ImageNet-1K, six sparsities a layer",
    backbone: dinov3Backbone("L"),
    layers: [13, 15, 17, 19, 21, 23],
    architecture: "ReLU, Matryoshka",
    dModel: 1024,
    traps: dinov3Traps,
    inferred: dinov3Inferred,
    references: [secondPaper, code],
  },
  {
    ...dinov3,
    ...dinov3Files("SAE_DINOv3_TopK_ViT-L-16_IN1K"),
    id: "saev-dinov3-l16-topk",
    title: "saev on DINOv3 ViT-L/16, ImageNet-1K, TopK with k of 16, 64 and 256",
    backbone: dinov3Backbone("L"),
    layers: [13, 15, 17, 19, 21, 23],
    architecture: "TopK, Matryoshka, AuxK",
    dModel: 1024,
    traps: [
      "Its TopK has no ReLU: where fewer than k pre-activations are positive, negative ones are kept.",
      transposed,
      ...dinov3Traps,
    ],
    inferred: [...dinov3Inferred, "That its header has schema 5: from its date."],
    references: [secondPaper, code],
  },
];
