/**
 * One pass over latents with memory that does not grow: exact counts and sums, a quantile sketch and the top images
 * of every latent. Every part is an associative, commutative merge, down to the last bit: images may come in any
 * order and in any number of partial summaries.
 *
 * @module
 */
import type { SparseLatents } from "../compute/contract.ts";
import { ActiveColumns } from "./columns.ts";
import { Sketch } from "./sketch.ts";

/** What a summary was made from; summaries of different things do not merge. */
export interface SummarySource {
  readonly model: { readonly path: string; readonly sha256: string };
  readonly layer: number;
  readonly tokens: "patches" | "cls" | "all";
  readonly sae: { readonly path: string; readonly sha256: string };
  readonly dataset: { readonly kind: string; readonly location: string; readonly fingerprint: string };
  readonly gridHeight: number;
  readonly gridWidth: number;
}

/** Which images a batch of latents belongs to. */
export interface BatchImages {
  /** Index of each image in its source. */
  readonly imageIndices: Uint32Array;
  readonly tokensPerImage: number;
  /** Index of the first token as a patch: 0 where only patches were read, −1 where CLS comes first. */
  readonly firstPatch: number;
}

// Sums are kept in units of 2^-46, split into multiples of 2^-8 and the rest, so that adding is exact and in any
// order gives the same bits. Exact to 2^-47 a number, for sums below 2^45.
const HIGH_UNIT = 2 ** 8;
const LOW_UNIT = 2 ** 38;

/** Running statistics of every latent. */
export class SummaryAccumulator {
  readonly dSae: number;
  readonly imagesPerLatent: number;
  nTokens = 0;
  nImages = 0;
  /** Tokens on which each latent is active (above zero), shape `[dSae]`. */
  readonly nActive: Float64Array;
  /** Images on which each latent is active, shape `[dSae]`. */
  readonly nImagesActive: Uint32Array;
  /** Sum of each latent: multiples of 2^-8, and of 2^-46; shape `[dSae]`. */
  readonly sumHigh: Float64Array;
  readonly sumLow: Float64Array;
  /** Top images of each latent, best first, shape `[dSae, imagesPerLatent]`; `topCount` of them are filled. */
  readonly topValues: Float32Array;
  readonly topImages: Uint32Array;
  readonly topPatches: Int32Array;
  readonly topCount: Uint16Array;
  readonly sketch: Sketch;
  /** Value of the last top image of each latent, 0 while there is room: what a further one has to reach. */
  readonly #floor: Float32Array;
  readonly #columns: ActiveColumns;

  constructor(dSae: number, options: { imagesPerLatent: number }) {
    const { imagesPerLatent } = options;
    if (!Number.isInteger(imagesPerLatent) || imagesPerLatent < 1 || imagesPerLatent > 65_535) {
      throw new RangeError(
        `Cannot summarize: imagesPerLatent must be an integer between 1 and 65535, current value is ${imagesPerLatent}`,
      );
    }
    this.dSae = dSae;
    this.imagesPerLatent = imagesPerLatent;
    this.nActive = new Float64Array(dSae);
    this.nImagesActive = new Uint32Array(dSae);
    this.sumHigh = new Float64Array(dSae);
    this.sumLow = new Float64Array(dSae);
    this.topValues = new Float32Array(dSae * imagesPerLatent);
    this.topImages = new Uint32Array(dSae * imagesPerLatent);
    this.topPatches = new Int32Array(dSae * imagesPerLatent);
    this.topCount = new Uint16Array(dSae);
    this.sketch = new Sketch(dSae);
    this.#floor = new Float32Array(dSae);
    this.#columns = new ActiveColumns(dSae);
  }

  /** Sum of a latent over its active tokens. */
  sum(latent: number): number {
    return this.sumHigh[latent] / HIGH_UNIT + this.sumLow[latent] / (HIGH_UNIT * LOW_UNIT);
  }

  /** Takes in a batch of whole images. */
  add(latents: SparseLatents, images: BatchImages): void {
    const { imageIndices, tokensPerImage, firstPatch } = images;
    if (latents.nTokens !== imageIndices.length * tokensPerImage) {
      throw new RangeError(
        `Cannot summarize batch: latents must have ${imageIndices.length} × ${tokensPerImage} tokens, current number ` +
          `is ${latents.nTokens}`,
      );
    }
    // Latent by latent, since what is kept of one lies together in memory and what is kept of all does not fit a cache.
    const { starts, tokens, values } = this.#columns.fill(latents);
    this.sketch.addColumns(this.#columns);
    const floor = this.#floor;
    for (let latent = 0; latent < this.dSae; latent++) {
      const start = starts[latent];
      const end = starts[latent + 1];
      if (start === end) continue;
      this.nActive[latent] += end - start;
      let high = this.sumHigh[latent];
      let low = this.sumLow[latent];
      for (let first = start; first < end;) {
        const image = Math.floor(tokens[first] / tokensPerImage);
        const endOfImage = (image + 1) * tokensPerImage;
        let best = 0;
        let token = 0;
        let entry = first;
        for (; entry < end && tokens[entry] < endOfImage; entry++) {
          const value = values[entry];
          const scaled = value * HIGH_UNIT;
          const whole = Math.floor(scaled);
          high += whole;
          low += Math.round((scaled - whole) * LOW_UNIT);
          if (low >= LOW_UNIT) {
            low -= LOW_UNIT;
            high++;
          }
          if (value <= best) continue;
          best = value;
          token = tokens[entry];
        }
        first = entry;
        this.nImagesActive[latent]++;
        // Most images are not among the top ones of most latents.
        if (best < floor[latent]) continue;
        const patch = Math.max(-1, firstPatch + token - image * tokensPerImage);
        this.#offer(latent, best, imageIndices[image], patch);
      }
      this.sumHigh[latent] = high;
      this.sumLow[latent] = low;
    }
    this.nTokens += latents.nTokens;
    this.nImages += imageIndices.length;
  }

  /**
   * Takes in another summary, over other images.
   *
   * @throws {RangeError} If it is of another size.
   * @throws {Error} If both hold the same image among the top ones of a latent. Others are not remembered, so parts
   * that overlap elsewhere only are not noticed.
   */
  merge(other: SummaryAccumulator): void {
    if (other.dSae !== this.dSae || other.imagesPerLatent !== this.imagesPerLatent) {
      throw new RangeError(
        `Cannot merge summaries: both must have ${this.dSae} latents and ${this.imagesPerLatent} images a latent, ` +
          `current ones are ${other.dSae} and ${other.imagesPerLatent}`,
      );
    }
    this.#checkDisjoint(other);
    this.nTokens += other.nTokens;
    this.nImages += other.nImages;
    this.sketch.merge(other.sketch);
    for (let latent = 0; latent < this.dSae; latent++) {
      this.nActive[latent] += other.nActive[latent];
      this.nImagesActive[latent] += other.nImagesActive[latent];
      this.sumHigh[latent] += other.sumHigh[latent];
      this.sumLow[latent] += other.sumLow[latent];
      this.#carry(latent);
      const start = latent * this.imagesPerLatent;
      for (let i = start; i < start + other.topCount[latent]; i++) {
        this.#offer(latent, other.topValues[i], other.topImages[i], other.topPatches[i]);
      }
    }
  }

  #carry(latent: number): void {
    if (this.sumLow[latent] < LOW_UNIT) return;
    this.sumLow[latent] -= LOW_UNIT;
    this.sumHigh[latent]++;
  }

  /** Keeps an image among the top ones of a latent if it belongs there: by value, then by index. */
  #offer(latent: number, value: number, imageIndex: number, patchIndex: number): void {
    const { imagesPerLatent, topValues, topImages, topPatches, topCount } = this;
    const start = latent * imagesPerLatent;
    const isFull = topCount[latent] === imagesPerLatent;
    if (!isFull) topCount[latent]++;
    const last = start + topCount[latent] - 1;
    let position = last;
    if (isFull && !precedes(value, imageIndex, topValues[last], topImages[last])) return;
    for (
      ;
      position > start && precedes(value, imageIndex, topValues[position - 1], topImages[position - 1]);
      position--
    ) {
      topValues[position] = topValues[position - 1];
      topImages[position] = topImages[position - 1];
      topPatches[position] = topPatches[position - 1];
    }
    topValues[position] = value;
    topImages[position] = imageIndex;
    topPatches[position] = patchIndex;
    if (topCount[latent] === imagesPerLatent) this.#floor[latent] = topValues[last];
  }

  #checkDisjoint(other: SummaryAccumulator): void {
    for (let latent = 0; latent < this.dSae; latent++) {
      const start = latent * this.imagesPerLatent;
      const own = this.topImages.subarray(start, start + this.topCount[latent]);
      const shared = other.topImages.subarray(start, start + other.topCount[latent]).find((i) => own.includes(i));
      if (shared !== undefined) {
        throw new Error(`Cannot merge summaries: they must cover different images, both hold image ${shared}`);
      }
    }
  }
}

/** Whether an image comes before another among the top ones: by value, then by index. */
function precedes(value: number, imageIndex: number, otherValue: number, otherIndex: number): boolean {
  return value > otherValue || (value === otherValue && imageIndex < otherIndex);
}
