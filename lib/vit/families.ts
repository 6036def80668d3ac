/**
 * The families of vision transformers that SAEs are trained on, as data: what each does to an image before it looks,
 * which tokens it puts before the patches, and how its graph can be told from the others'. `docs/vits.md` shows the
 * table.
 *
 * Sources: the processors and configurations that the models have on the Hugging Face Hub, and saev's transforms.
 *
 * @module
 */
import { familyTransforms, squashTransform } from "../images/family_transforms.ts";
import { HALF } from "../images/channels.ts";
import { centerCropTransform, type PixelTransform } from "../images/transform.ts";
import type { GeluKind } from "./gelu.ts";

/** A token before the patches. */
export type SpecialToken = "cls" | "distillation" | "register";

/** What can be read off a graph and tells families apart. */
export interface GraphSigns {
  /** Size of a patch in pixels. */
  readonly patchPx: number;
  readonly nSpecialTokens: number;
  /** `undefined` for another function than GELU. */
  readonly gelu: GeluKind | undefined;
  /** Epsilon of its layer norms; `undefined` where it cannot be read. */
  readonly layerNormEpsilon: number | undefined;
  /** Whether the tokens are normalized before the first block. */
  readonly normBeforeBlocks: boolean;
  /** Whether a learnt vector scales what each branch adds. */
  readonly layerScale: boolean;
  /** Whether attention turns queries and keys by their position (RoPE). */
  readonly rotary: boolean;
}

/** A family of vision transformers. */
export interface VitFamily {
  readonly name: string;
  /** Models of this family on the Hugging Face Hub. */
  readonly examples: readonly string[];
  /** `model_type` in their `config.json`. */
  readonly modelTypes: readonly string[];
  /** Edge of the image of the first example, in pixels. */
  readonly sizePx: number;
  /** Edge of a patch of the first example, in pixels. */
  readonly patchPx: number;
  /** Tokens before the patches of the first example. */
  readonly specialTokens: readonly SpecialToken[];
  readonly gelu: GeluKind;
  readonly layerNormEpsilon: number;
  /** How images become pixels, as the models' own processor does it. */
  readonly transform: PixelTransform;
  /** How saev makes pixels for SAEs of this family, the older first; absent where it has no such family. */
  readonly saevTransforms?: readonly PixelTransform[];
  /** What its graphs have in common; absent where they cannot be told from another family's. */
  readonly signs?: Partial<Omit<GraphSigns, "patchPx" | "nSpecialTokens">> & {
    readonly patchPx?: readonly number[];
    readonly nSpecialTokens?: readonly number[];
  };
}

const none: readonly SpecialToken[] = [];
const cls: readonly SpecialToken[] = ["cls"];
const clsAndRegisters: readonly SpecialToken[] = ["cls", "register", "register", "register", "register"];

/** The families, the most used first. */
export const vitFamilies: readonly VitFamily[] = [
  {
    name: "clip",
    examples: ["openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14"],
    modelTypes: ["clip", "clip_vision_model"],
    sizePx: 224,
    patchPx: 16,
    specialTokens: cls,
    gelu: "quick",
    layerNormEpsilon: 1e-5,
    transform: familyTransforms.clip,
    saevTransforms: [familyTransforms.openClip],
    signs: { gelu: "quick", normBeforeBlocks: true, nSpecialTokens: [1] },
  },
  {
    name: "openClip",
    examples: ["laion/CLIP-ViT-B-16-laion2B-s34B-b88K"],
    modelTypes: ["clip", "clip_vision_model"],
    sizePx: 224,
    patchPx: 16,
    specialTokens: cls,
    gelu: "exact",
    layerNormEpsilon: 1e-5,
    transform: familyTransforms.openClip,
    saevTransforms: [familyTransforms.openClip],
    signs: { gelu: "exact", normBeforeBlocks: true, rotary: false, layerScale: false, nSpecialTokens: [1] },
  },
  {
    name: "siglip",
    examples: ["google/siglip-base-patch16-224"],
    modelTypes: ["siglip", "siglip_vision_model"],
    sizePx: 224,
    patchPx: 16,
    specialTokens: none,
    gelu: "tanh",
    layerNormEpsilon: 1e-6,
    transform: familyTransforms.siglip,
    saevTransforms: [familyTransforms.siglip],
    signs: { gelu: "tanh", normBeforeBlocks: false, nSpecialTokens: [0] },
  },
  {
    name: "siglip2",
    examples: ["google/siglip2-base-patch16-224"],
    modelTypes: ["siglip2", "siglip2_vision_model"],
    sizePx: 224,
    patchPx: 16,
    specialTokens: none,
    gelu: "tanh",
    layerNormEpsilon: 1e-6,
    transform: familyTransforms.siglip2,
    saevTransforms: [familyTransforms.siglip],
  },
  {
    name: "dinov2",
    examples: ["facebook/dinov2-base", "facebook/dinov2-with-registers-base"],
    modelTypes: ["dinov2", "dinov2_with_registers"],
    sizePx: 224,
    patchPx: 14,
    specialTokens: cls,
    gelu: "exact",
    layerNormEpsilon: 1e-6,
    transform: familyTransforms.dinov2,
    saevTransforms: [familyTransforms.dinov2Saev2024, familyTransforms.dinov2Saev2025],
    signs: { gelu: "exact", layerScale: true, rotary: false, normBeforeBlocks: false, patchPx: [14] },
  },
  {
    name: "dinov3",
    examples: ["facebook/dinov3-vitb16-pretrain-lvd1689m"],
    modelTypes: ["dinov3_vit"],
    sizePx: 224,
    patchPx: 16,
    specialTokens: clsAndRegisters,
    gelu: "exact",
    layerNormEpsilon: 1e-5,
    transform: familyTransforms.dinov3,
    saevTransforms: [familyTransforms.dinov3Flex],
    signs: { gelu: "exact", layerScale: true, rotary: true, normBeforeBlocks: false, nSpecialTokens: [5] },
  },
  {
    name: "vit",
    examples: ["google/vit-base-patch16-224"],
    modelTypes: ["vit"],
    sizePx: 224,
    patchPx: 16,
    specialTokens: cls,
    gelu: "exact",
    layerNormEpsilon: 1e-12,
    transform: familyTransforms.vit,
    signs: { gelu: "exact", layerNormEpsilon: 1e-12, nSpecialTokens: [1] },
  },
  {
    name: "deit",
    examples: ["facebook/deit-base-distilled-patch16-224"],
    modelTypes: ["deit"],
    sizePx: 224,
    patchPx: 16,
    specialTokens: ["cls", "distillation"],
    gelu: "exact",
    layerNormEpsilon: 1e-12,
    transform: familyTransforms.deit,
    signs: { gelu: "exact", normBeforeBlocks: false, layerScale: false, nSpecialTokens: [2] },
  },
  {
    name: "timm",
    examples: ["timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"],
    modelTypes: [],
    sizePx: 224,
    patchPx: 16,
    specialTokens: cls,
    gelu: "exact",
    layerNormEpsilon: 1e-6,
    transform: familyTransforms.timm,
  },
  {
    name: "torchvision",
    examples: [],
    modelTypes: [],
    sizePx: 224,
    patchPx: 16,
    specialTokens: cls,
    gelu: "exact",
    layerNormEpsilon: 1e-6,
    transform: familyTransforms.torchvision,
  },
  {
    name: "peCore",
    examples: ["timm/vit_pe_core_base_patch16_224.fb", "facebook/PE-Core-B16-224"],
    modelTypes: [],
    sizePx: 224,
    patchPx: 16,
    specialTokens: cls,
    gelu: "exact",
    layerNormEpsilon: 1e-5,
    transform: squashTransform(224, { kernel: "bilinear" }),
    saevTransforms: [centerCropTransform(224, { mean: HALF, std: HALF, rounding: "even" })],
    signs: { gelu: "exact", normBeforeBlocks: true, rotary: true, layerScale: false },
  },
];
