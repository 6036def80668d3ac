/** A small summary for the figure tests: log-normal activations from a seeded generator, kept and sorted in memory. */
import type { HistogramBin, LatentSummary, Summary, TopImage } from "../../lib/summary/summary.ts";

/** Numbers in (0, 1) that are the same in every run (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
}

/** A latent whose active tokens have the given values; images in the order given, each with one of the values. */
export function latentOf(
  latent: number,
  values: readonly number[],
  { nTokens, topImages = [] }: { nTokens: number; topImages?: TopImage[] },
): LatentSummary {
  const sorted = [...values].sort((a, b) => a - b);
  const nActive = sorted.length;
  return {
    latent,
    nActive,
    nImagesActive: topImages.length,
    density: nActive / nTokens,
    meanActive: nActive === 0 ? NaN : sorted.reduce((sum, v) => sum + v, 0) / nActive,
    maxActivation: sorted[nActive - 1] ?? 0,
    activeTokensPerImage: topImages.length === 0 ? NaN : nActive / topImages.length,
    topImages,
    quantile(p, { over = "active" } = {}) {
      const n = over === "active" ? nActive : nTokens;
      if (n === 0) return NaN;
      return sorted[Math.ceil(p * (n - 1)) - (n - nActive)] ?? 0;
    },
    histogram(): HistogramBin[] {
      const bins = new Map<number, number>();
      for (const v of sorted) {
        const at = Math.floor(32 * Math.log2(v));
        bins.set(at, (bins.get(at) ?? 0) + 1);
      }
      return [...bins].map(([at, count]) => ({ lower: 2 ** (at / 32), upper: 2 ** ((at + 1) / 32), count }));
    },
  };
}

/** A summary with every seventh latent dead. */
export function randomSummary(
  { dSae = 60, nImages = 40, nPatches = 64, imagesPerLatent = 12, gridWidth = 8, seed = 1 } = {},
): Summary {
  const nTokens = nImages * nPatches;
  const make = (latent: number): LatentSummary => {
    const random = seeded(seed * 1000003 + latent);
    const normal = () => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
    if (latent % 7 === 3) return latentOf(latent, [], { nTokens });
    const center = 0.6 * normal();
    const nActive = Math.max(3, Math.min(nTokens, Math.round(nTokens * 10 ** (-1.6 + 0.7 * normal()))));
    const values = Array.from({ length: nActive }, () => Math.exp(center + 0.8 * normal())).sort((a, b) => b - a);
    const images = new Map<number, TopImage>();
    for (const value of values.slice(0, 4 * imagesPerLatent)) {
      const imageIndex = Math.floor(random() * nImages);
      const patchIndex = Math.floor(random() * nPatches);
      if (!images.has(imageIndex)) images.set(imageIndex, { imageIndex, value, patchIndex });
    }
    return latentOf(latent, values, { nTokens, topImages: [...images.values()].slice(0, imagesPerLatent) });
  };
  const source = {
    model: { path: "model.onnx", sha256: "0" },
    layer: 4,
    tokens: "patches",
    sae: { path: "sae", sha256: "0" },
    dataset: { kind: "folder", location: "images", fingerprint: "0" },
    gridHeight: nPatches / gridWidth,
    gridWidth,
  } as const;
  return { dSae, nTokens, nImages, imagesPerLatent, meanL0: 12.3, tokens: "patches", source, latent: make };
}

/** Activation on every patch: a bump around the peak of the image, some patches silent, some negative. */
export function bump(peak: TopImage, gridWidth: number, gridHeight: number): Float32Array {
  const heat = new Float32Array(gridWidth * gridHeight);
  const [px, py] = [peak.patchIndex % gridWidth, Math.floor(peak.patchIndex / gridWidth)];
  for (let i = 0; i < heat.length; i++) {
    const distance = Math.hypot(i % gridWidth - px, Math.floor(i / gridWidth) - py);
    heat[i] = peak.value * (Math.exp(-distance * distance / 4) - 0.05) / 0.95;
  }
  return heat;
}
