/**
 * What one pass over the latents leaves behind: for each latent its top images and exact statistics. Read-only; made
 * by `summarize()`, saved and opened by `file.ts`.
 *
 * @module
 */
import type { SummaryAccumulator, SummarySource } from "./accumulate.ts";
import { binLower } from "./sketch.ts";

/** One of the images that light a latent up most. */
export interface TopImage {
  readonly imageIndex: number;
  /** Maximum of the latent over the image's tokens. */
  readonly value: number;
  /** Patch of that maximum, row-major in the patch grid; -1 for CLS. */
  readonly patchIndex: number;
}

/** One bin of a latent's histogram: activations in `[lower, upper)`. */
export interface HistogramBin {
  readonly lower: number;
  readonly upper: number;
  readonly count: number;
}

/** Statistics of one latent. A token is active where the latent is above zero. */
export interface LatentSummary {
  readonly latent: number;
  /** Tokens on which it is active. */
  readonly nActive: number;
  /** Images with at least one active token. */
  readonly nImagesActive: number;
  /** Share of tokens on which it is active. */
  readonly density: number;
  /** Mean over its active tokens; `NaN` if there are none. */
  readonly meanActive: number;
  /** Largest activation; 0 if never active. */
  readonly maxActivation: number;
  /** Active tokens per image, over the images on which it is active; `NaN` if there are none. */
  readonly activeTokensPerImage: number;
  /** Strongest images first, no image twice, ties by `imageIndex`. */
  readonly topImages: readonly TopImage[];
  /**
   * Quantile of its activations, `p` in [0, 1], over its active tokens (default) or over all tokens (the silent ones
   * count as 0). The value at rank `floor(p · (n − 1))` in ascending order, to within 1/128 of it; the maximum is
   * exact. `NaN` if there is no token.
   *
   * @throws {RangeError} If `p` is not between 0 and 1.
   */
  quantile(p: number, options?: { over?: "active" | "all" }): number;
  /** Counts of its active tokens in bins that grow by a constant share, ascending, only as far as it was active. */
  histogram(): HistogramBin[];
}

/** What one pass over the latents leaves behind. */
export interface Summary {
  readonly dSae: number;
  readonly nTokens: number;
  readonly nImages: number;
  /** How many top images each latent keeps at most. */
  readonly imagesPerLatent: number;
  /** Mean number of active latents per token. */
  readonly meanL0: number;
  /** Which tokens were counted. */
  readonly tokens: "patches" | "cls" | "all";
  /** What it was made from. */
  readonly source: SummarySource;
  /**
   * Statistics of one latent.
   *
   * @throws {RangeError} If there is no such latent.
   */
  latent(latentIndex: number): LatentSummary;
}

/** Reads what was accumulated as a summary. */
export function viewSummary(accumulated: SummaryAccumulator, source: SummarySource): Summary {
  const { dSae, nTokens, nImages, imagesPerLatent, nActive } = accumulated;
  return {
    dSae,
    nTokens,
    nImages,
    imagesPerLatent,
    meanL0: nActive.reduce((total, count) => total + count, 0) / nTokens,
    tokens: source.tokens,
    source,
    latent(latentIndex) {
      if (!Number.isInteger(latentIndex) || latentIndex < 0 || latentIndex >= dSae) {
        throw new RangeError(
          `Cannot look at latent ${latentIndex}: latent must be an integer between 0 and ${dSae - 1}`,
        );
      }
      return viewLatent(accumulated, latentIndex);
    },
  };
}

function viewLatent(accumulated: SummaryAccumulator, latent: number): LatentSummary {
  const { nTokens, imagesPerLatent, topValues, topImages, topPatches, topCount, sketch } = accumulated;
  const nActive = accumulated.nActive[latent];
  const nImagesActive = accumulated.nImagesActive[latent];
  const start = latent * imagesPerLatent;
  const maxActivation = topCount[latent] > 0 ? topValues[start] : 0;
  return {
    latent,
    nActive,
    nImagesActive,
    density: nActive / nTokens,
    meanActive: nActive > 0 ? accumulated.sum(latent) / nActive : NaN,
    maxActivation,
    activeTokensPerImage: nImagesActive > 0 ? nActive / nImagesActive : NaN,
    topImages: Array.from({ length: topCount[latent] }, (_, i) => ({
      imageIndex: topImages[start + i],
      value: topValues[start + i],
      patchIndex: topPatches[start + i],
    })),
    quantile(p, options = {}) {
      if (!(p >= 0 && p <= 1)) {
        throw new RangeError(`Cannot take quantile: p must be between 0 and 1, current value is ${p}`);
      }
      const { over = "active" } = options;
      const nSilent = over === "all" ? nTokens - nActive : 0;
      if (nSilent + nActive === 0) return NaN;
      const rank = Math.floor(p * (nSilent + nActive - 1)) - nSilent;
      if (rank < 0) return 0;
      return rank === nActive - 1 ? maxActivation : Math.min(sketch.atRank(latent, rank), maxActivation);
    },
    histogram: () =>
      Array.from(sketch.bins(latent), ({ bin, count }) => ({ lower: binLower(bin), upper: binLower(bin + 1), count })),
  };
}

/** Latents that were never active, once at least `minTokens` tokens were seen. */
export function deadLatents(summary: Summary, options: { minTokens: number }): number[] {
  const { minTokens } = options;
  if (summary.nTokens < minTokens) {
    throw new RangeError(
      `Cannot tell dead latents: the summary must cover at least ${minTokens} tokens, current number is ${summary.nTokens}`,
    );
  }
  return Array.from({ length: summary.dSae }, (_, latent) => latent)
    .filter((latent) => summary.latent(latent).nActive === 0);
}
