/**
 * Turns the latents of a batch around: from the latents of each token to the tokens of each latent, as compressed sparse
 * columns. Only what is active, above zero, is taken along. It is a counting sort: count, lay out, put in place.
 *
 * @module
 */
import type { SparseLatents } from "../compute/contract.ts";

/** Where and how strongly each latent is active in the batch that was filled in last. */
export class ActiveColumns {
  /** Latent `i` owns entries `starts[i]` up to `starts[i + 1]`; shape `[dSae + 1]`. */
  readonly starts: Uint32Array;
  /** Token of each entry, ascending within a latent. Longer than needed: kept for the next batch. */
  tokens: Uint32Array = new Uint32Array(0);
  /** Activation of each entry; as long as `tokens`. */
  values: Float32Array = new Float32Array(0);
  /** The bits of `values`. */
  bits: Uint32Array = new Uint32Array(0);

  constructor(dSae: number) {
    this.starts = new Uint32Array(dSae + 1);
  }

  /** Takes in a batch, in place of the one before. Returns itself. */
  fill(latents: SparseLatents): this {
    const { nTokens, offsets, indices, values } = latents;
    const { starts } = this;
    // Counts, one place ahead of their latent; then where each latent begins, one place ahead, too.
    starts.fill(0);
    const nEntries = offsets[nTokens];
    for (let entry = 0; entry < nEntries; entry++) {
      if (values[entry] > 0) starts[indices[entry] + 1]++;
    }
    let total = 0;
    for (let i = 1; i < starts.length; i++) {
      const count = starts[i];
      starts[i] = total;
      total += count;
    }
    this.#reserve(total);
    const { tokens: columnTokens, values: columnValues } = this;
    for (let token = 0; token < nTokens; token++) {
      for (let entry = offsets[token]; entry < offsets[token + 1]; entry++) {
        const value = values[entry];
        if (!(value > 0)) continue;
        // Moves on with each entry, and so ends up where the next latent begins.
        const place = starts[indices[entry] + 1]++;
        columnTokens[place] = token;
        columnValues[place] = value;
      }
    }
    return this;
  }

  #reserve(nEntries: number): void {
    if (nEntries <= this.tokens.length) return;
    const length = Math.ceil(nEntries * 1.25);
    this.tokens = new Uint32Array(length);
    this.values = new Float32Array(length);
    this.bits = new Uint32Array(this.values.buffer);
  }
}
