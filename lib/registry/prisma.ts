/**
 * SAEs published with ViT-Prisma: https://github.com/Prisma-Multimodal/ViT-Prisma. Numbers are those of its README, which
 * lists more: variants on CLS or on spatial patches alone, TopK, and transcoders, which are no autoencoders.
 *
 * @module
 */
import {
  layerRange,
  type PublicBackbone,
  type PublicCheckpoint,
  type PublicSae,
  unknownLicense,
} from "./public_sae.ts";

const references = ["https://arxiv.org/abs/2504.19475", "https://github.com/Prisma-Multimodal/ViT-Prisma"];

const clip: PublicBackbone = {
  name: "CLIP ViT-B/32 (DataComp XL)",
  original: "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
  nLayers: 12,
};

type Row = readonly [layer: number, l1: string, explainedPercent: number, l0: number, clsL0: number];

const residTable: readonly Row[] = [
  [0, "1e-05", 98.6, 1110.9, 40.46],
  [1, "1e-05", 98.3, 1508.4, 27.39],
  [2, "5e-05", 90.6, 717.84, 10.11],
  [3, "1e-05", 98.1, 2053.9, 77.90],
  [4, "1e-05", 98.0, 2068.3, 156.7],
  [5, "1e-05", 98.1, 1953.8, 228.5],
  [6, "1e-05", 98.2, 1717.5, 321.3],
  [7, "1e-05", 98.2, 1688.4, 494.3],
  [8, "1e-05", 98.2, 1570.8, 791.3],
  [9, "1e-05", 98.2, 1533.5, 1053.0],
  [10, "1e-05", 98.4, 1292.6, 1010.0],
  [11, "1e-05", 98.4, 1405.0, 1189.0],
];

const mlpTable: readonly Row[] = [
  [0, "1e-05", 98.7, 604.44, 36.92],
  [1, "1e-05", 98.4, 1476.8, 97.82],
  [2, "1e-05", 98.0, 1799.7, 376.0],
  [3, "1e-05", 98.1, 1893.4, 648.2],
  [4, "1e-05", 98.1, 1901.2, 1115.0],
  [5, "1e-05", 98.2, 1761.5, 1259.0],
  [6, "1e-05", 98.3, 1598.0, 1337.0],
  [7, "1e-05", 98.2, 1535.3, 1300.0],
  [8, "1e-05", 97.8, 1074.5, 1167.0],
  [9, "1e-05", 97.6, 856.68, 1076.0],
  [10, "1e-05", 98.1, 788.49, 965.5],
  [11, "5e-05", 89.7, 748.14, 745.5],
];

/** Layer, L0 and explained variance as the repository's name has them, and as the README has them. */
const dinoTable: readonly (readonly [layer: number, name: string, l0: number, percent: number, clsL0: number])[] = [
  [0, "507-98", 507, 98, 347],
  [1, "549-95", 549, 95, 959],
  [2, "661-95", 812, 95, 696],
  [3, "989-95", 989, 95, 616],
  [4, "876-99", 876, 99, 845],
  [5, "1001-98", 1001, 98, 889],
  [6, "962-99", 962, 99, 950],
  [7, "1086-98", 1086, 98, 1041],
  [8, "530-90", 530, 90, 529],
  [9, "1105-99", 1105, 99, 1090],
  [10, "835-99", 835, 99, 839],
  [11, "1085-99", 1085, 99, 1084],
];

function clipPattern(hook: string, options: { layer: number | string; l1: string }): string {
  const { layer, l1 } = options;
  return `hf:Prisma-Multimodal/sparse-autoencoder-clip-b-32-sae-vanilla-x64-layer-${layer}-${hook}-l1-${l1}`;
}

function clipCheckpoints(hook: string, table: readonly Row[]): PublicCheckpoint[] {
  return table.map(([layer, l1, explainedVariancePercent, l0, clsL0]) => ({
    source: clipPattern(hook, { layer, l1 }),
    layer,
    expected: { l0 },
    published: { explainedVariancePercent, clsL0 },
  }));
}

/** What all of them share. */
const shared: Pick<
  PublicSae,
  | "tokens"
  | "layers"
  | "architecture"
  | "dModel"
  | "dSae"
  | "normalization"
  | "isNormalizationShipped"
  | "options"
  | "license"
  | "references"
> = {
  tokens: "all",
  layers: layerRange(0, 11),
  architecture: "ReLU, L1",
  dModel: 768,
  dSae: 49_152,
  normalization: "as config.json says: layer norm of each token by default",
  isNormalizationShipped: true,
  options: { format: "vit-prisma" },
  license: unknownLicense,
  references,
};

const sharedTraps = [
  "Activations are normalized as config.json says, most often to layer norm, and the reconstruction is brought back: " +
  "the configuration has to be read with the weights.",
  "The decoder bias is subtracted from the input.",
  "The file is weights.pt or n_images_2600058.pt; naming the repository, as here, finds whichever there is. Older ones " +
  "hold a pickled class, which is not executed.",
  "Published L0 counts every token, CLS too; that of CLS alone is far from it.",
];

const sharedInferences = [
  "That the explained variance is comparable to any other: its definition is not stated beside the numbers.",
  'Tokens: "all patches" has numbers for CLS, so CLS is counted among them.',
];

const otherWeights =
  "ONNX files of CLIP ViT-B/32 that are easy to find hold OpenAI's weights, not DataComp's: export the " +
  "tower of laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K.";

/** The collection. */
export const prismaSaes: readonly PublicSae[] = [
  {
    ...shared,
    id: "prisma-clip-b32-resid",
    title: "ViT-Prisma on CLIP ViT-B/32 of DataComp, residual stream, every layer",
    backbone: clip,
    hook: "residPost",
    pattern: clipPattern("hook_resid_post", { layer: "{layer}", l1: "{l1}" }),
    checkpoints: clipCheckpoints("hook_resid_post", residTable),
    traps: [...sharedTraps, otherWeights],
    inferred: sharedInferences,
  },
  {
    ...shared,
    id: "prisma-clip-b32-mlp",
    title: "ViT-Prisma on CLIP ViT-B/32 of DataComp, output of the MLP, every layer",
    backbone: clip,
    hook: "mlpOut",
    pattern: clipPattern("hook_mlp_out", { layer: "{layer}", l1: "{l1}" }),
    checkpoints: clipCheckpoints("hook_mlp_out", mlpTable),
    traps: [...sharedTraps, otherWeights],
    inferred: sharedInferences,
  },
  {
    ...shared,
    id: "prisma-dino-b16",
    title: "ViT-Prisma on DINO ViT-B/16, residual stream, every layer",
    backbone: {
      name: "DINO ViT-B/16",
      original: "facebook/dino-vitb16",
      onnx: "hf:Xenova/dino-vitb16/onnx/model.onnx",
      nLayers: 12,
    },
    hook: "residPost",
    pattern: "hf:Prisma-Multimodal/DINO-vanilla-x64-all_patches_{layer}-resid_post-{l0}-{percent}",
    checkpoints: dinoTable.map(([layer, name, l0, explainedVariancePercent, clsL0]) => ({
      source: `hf:Prisma-Multimodal/DINO-vanilla-x64-all_patches_${layer}-resid_post-${name}`,
      layer,
      expected: { l0 },
      published: { explainedVariancePercent, clsL0 },
    })),
    traps: [...sharedTraps, "The name of the one for layer 2 says L0 661, its table says 812."],
    inferred: [...sharedInferences, "Patch size 16: the README says DINO, base."],
  },
];
