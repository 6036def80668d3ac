/**
 * The table of families as `docs/vits.md` shows it, made from the data.
 *
 * @module
 */
import { CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD } from "../../lib/images/channels.ts";
import type { PixelTransform } from "../../lib/images/transform.ts";
import { vitFamilies } from "../../lib/vit/families.ts";

const statistics = [
  { name: "CLIP's", mean: CLIP_MEAN, std: CLIP_STD },
  { name: "ImageNet's", mean: IMAGENET_MEAN, std: IMAGENET_STD },
  { name: "−1…1", mean: HALF, std: HALF },
];

/** A transform in a few words. */
export function describeTransform({ resize, crop, mean, std }: PixelTransform): string {
  const normalized = statistics.find((one) => String([one.mean, one.std]) === String([mean, std]))!.name;
  const parts = [
    resize.mode === "shortestEdge" && `shortest side ${resize.sizePx}`,
    resize.mode === "squash" && `${resize.widthPx} × ${resize.heightPx}`,
    resize.mode === "patchGrid" && `${resize.nPatches} patches of ${resize.patchPx} in the image's own aspect`,
    resize.mode !== "none" && `${resize.kernel}${resize.arithmetic === "floats" ? " on floats" : ""}`,
    crop && `crop ${crop.widthPx}${crop.rounding === "even" ? " (half to even)" : ""}`,
    normalized,
  ];
  return parts.filter(Boolean).join(", ");
}

/** One row a family; cells without padding. */
export function familyRows(): string[][] {
  return vitFamilies.map((family) => [
    `\`${family.name}\``,
    family.examples.map((id) => `\`${id}\``).join(", ") || "`vit_b_16` and its like",
    describeTransform(family.transform),
    family.saevTransforms?.map(describeTransform).join("; ") ?? "—",
    family.specialTokens.length === 0
      ? "none"
      : family.specialTokens.length === 5
      ? "CLS, 4 registers"
      : family.specialTokens.join(", ").replace("cls", "CLS"),
    family.gelu,
    family.layerNormEpsilon.toExponential(),
    [family.modelTypes.length > 0 && "`config.json`", family.signs && "graph"].filter(Boolean).join(", ") || "—",
  ]);
}
