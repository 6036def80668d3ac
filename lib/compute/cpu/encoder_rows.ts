/**
 * The encoder as rows, one for each latent, and the pre-activations that count, computed from them one by one:
 * `(x − bDec) · w + b` in float32 with a sum of one fixed order. So a latent has the same bits whatever batch its token
 * comes in, however many threads there are, whatever the processor is, and whichever screen said to look at it.
 *
 * @module
 */
import type { TokenWeights } from "../contract.ts";
import type { EncoderMemory } from "./encoder_memory.ts";
import type { Entries } from "./entry_list.ts";

// Latents that are turned from columns into rows at once: each line of columns is in another page of memory, and
// finding pages takes the time.
const COLUMNS_AT_ONCE = 128;

// Rows of the encoder that are worked on at once: most of a core's second cache.
const TILE_BYTES = 640 * 2 ** 10;

/** An encoder, laid out for one latent at a time. */
export class EncoderRows {
  readonly #dModel: number;
  readonly #bEnc: Float32Array;
  readonly #bDec: Float32Array | undefined;
  readonly #memory: EncoderMemory;

  /** Copies an encoder into its memory. */
  constructor({ dModel, dSae, wEnc, bEnc, bDec, subtractBDec }: TokenWeights, memory: EncoderMemory) {
    this.#dModel = dModel;
    this.#bEnc = bEnc.slice();
    this.#bDec = subtractBDec ? bDec.slice() : undefined;
    this.#memory = memory;
    const { stride } = memory;
    const rows = memory.floats(memory.rows, memory.nColumns * stride);
    for (let first = 0; first < dSae; first += COLUMNS_AT_ONCE) {
      const end = Math.min(first + COLUMNS_AT_ONCE, dSae);
      for (let d = 0; d < dModel; d++) {
        const line = d * dSae;
        for (let latent = first; latent < end; latent++) rows[latent * stride + d] = wEnc[line + latent];
      }
    }
  }

  /** Takes a block of activations in, shape `[nTokens, dModel]`, `bDec` subtracted where the SAE wants that. */
  place(x: Float32Array): void {
    const { stride } = this.#memory;
    const dModel = this.#dModel;
    const bDec = this.#bDec;
    const nTokens = x.length / dModel;
    const placed = this.#memory.floats(this.#memory.x, nTokens * stride);
    for (let token = 0; token < nTokens; token++) {
      const [from, to] = [token * dModel, token * stride];
      if (bDec === undefined) {
        placed.set(x.subarray(from, from + dModel), to);
      } else {
        for (let d = 0; d < dModel; d++) placed[to + d] = x[from + d] - bDec[d];
      }
    }
  }

  /**
   * Pre-activations of entries, in their order; good until more are asked for. Works tile by tile: a tile of the
   * encoder's rows stays in a cache while all tokens of the block go by, each for its few latents among them.
   */
  preActivations({ starts, ends, nEntries }: Entries): Float32Array {
    const memory = this.#memory;
    const { stride, kernels, dSae } = memory;
    const rowBytes = 4 * stride;
    const dotsAt = memory.entries + 4 * nEntries;
    memory.reserve(dotsAt + 4 * nEntries);
    const latents = memory.integers(memory.entries, nEntries);
    const next = starts.slice();
    const rowsOfTile = Math.max(1, Math.floor(TILE_BYTES / rowBytes));
    for (let tileEnd = rowsOfTile; tileEnd < dSae + rowsOfTile; tileEnd += rowsOfTile) {
      for (let token = 0; token < starts.length; token++) {
        const first = next[token];
        const end = ends[token];
        let i = first;
        while (i < end && latents[i] < tileEnd) i++;
        if (i === first) continue;
        next[token] = i;
        const x = memory.x + token * rowBytes;
        kernels.dots(memory.rows, x, memory.entries + 4 * first, dotsAt + 4 * first, i - first, rowBytes);
      }
    }
    const values = memory.floats(dotsAt, nEntries);
    const bEnc = this.#bEnc;
    for (let i = 0; i < nEntries; i++) values[i] += bEnc[latents[i]];
    return values;
  }
}
