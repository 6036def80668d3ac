/**
 * The encoder as rows, one for each latent, and the pre-activations that count, computed from them one by one:
 * `(x − bDec) · w + b` in float32 with a sum of one fixed order. So a latent has the same bits whatever batch its token
 * comes in, however many threads there are, whatever the processor is, and whichever screen said to look at it.
 *
 * @module
 */
import { buildWasm } from "../../runtime/wasm.ts";
import type { TokenWeights } from "../contract.ts";
import { dots, ROW_ALIGNMENT, type RowKernels } from "./row_kernels.ts";

const PAGE_BYTES = 65_536;
const MAX_PAGES = 65_536;
// Latents that are turned from columns into rows at once: a line of the cache holds as many numbers.
const LINE_NUMBERS = 16;

/** Latents that may matter, token by token: those of token `t` are entries `offsets[t]` up to `offsets[t + 1]`. */
export interface TokenLatents {
  readonly offsets: Uint32Array;
  readonly latents: Uint32Array;
}

/** An encoder, laid out for one latent at a time. */
export class EncoderRows {
  readonly dModel: number;
  readonly dSae: number;
  /** Numbers from one row to the next; what is beyond `dModel` is zero. */
  readonly stride: number;
  readonly #weights: Pick<TokenWeights, "subtractBDec"> & { bEnc: Float32Array; bDec: Float32Array };
  readonly #memory: WebAssembly.Memory;
  readonly #kernels: Pick<RowKernels, "dots">;
  /** Address of what follows the encoder: activations, then entries. */
  readonly #scratch: number;
  readonly #starts: Uint32Array;

  /**
   * Copies the encoder.
   *
   * @throws {RangeError} If it takes more than 4 GiB.
   */
  constructor({ dModel, dSae, wEnc, bEnc, bDec, subtractBDec }: TokenWeights) {
    this.dModel = dModel;
    this.dSae = dSae;
    this.stride = Math.ceil(dModel / ROW_ALIGNMENT) * ROW_ALIGNMENT;
    this.#weights = { bEnc: bEnc.slice(), bDec: bDec.slice(), subtractBDec };
    this.#scratch = 4 * dSae * this.stride;
    this.#starts = new Uint32Array(dSae + 1);
    const nPages = Math.ceil(this.#scratch / PAGE_BYTES);
    if (nPages > MAX_PAGES) {
      throw new RangeError(
        `Cannot load SAE: its encoder must fit into 4 GiB, it takes ${(this.#scratch / 2 ** 30).toFixed(1)} GiB`,
      );
    }
    this.#memory = new WebAssembly.Memory({ initial: nPages, maximum: MAX_PAGES });
    compiled ??= new WebAssembly.Module(buildWasm([dots]));
    this.#kernels = new WebAssembly.Instance(compiled, { env: { memory: this.#memory } })
      .exports as unknown as RowKernels;
    this.#copyColumns(wEnc);
  }

  /** The rows, shape `[dSae, stride]`; good until the next call of {@linkcode place}. */
  get rows(): Float32Array<ArrayBuffer> {
    return new Float32Array(this.#memory.buffer, 0, this.dSae * this.stride);
  }

  /**
   * Takes activations of shape `[nTokens, dModel]` in, `bDec` subtracted where the SAE wants that.
   *
   * @returns Shape `[nTokens, stride]`; good until the next call.
   */
  place(x: Float32Array): Float32Array<ArrayBuffer> {
    const { dModel, stride } = this;
    const { bDec, subtractBDec } = this.#weights;
    const nTokens = x.length / dModel;
    this.#reserve(this.#scratch + 4 * nTokens * stride);
    const placed = new Float32Array(this.#memory.buffer, this.#scratch, nTokens * stride);
    for (let token = 0; token < nTokens; token++) {
      const [from, to] = [token * dModel, token * stride];
      if (subtractBDec) {
        for (let d = 0; d < dModel; d++) placed[to + d] = x[from + d] - bDec[d];
      } else {
        placed.set(x.subarray(from, from + dModel), to);
      }
      placed.fill(0, to + dModel, to + stride);
    }
    return placed;
  }

  /**
   * Pre-activations of some latents of the `nTokens` tokens that are placed, in the order of `found`. Works latent by
   * latent, so that a row is read once for all tokens.
   */
  preActivations({ offsets, latents }: TokenLatents): Float32Array {
    const { dSae, stride } = this;
    const { bEnc } = this.#weights;
    const nTokens = offsets.length - 1;
    const nEntries = latents.length;
    const tokensAt = this.#scratch + 4 * nTokens * stride;
    const dotsAt = tokensAt + 4 * nEntries;
    this.#reserve(dotsAt + 4 * nEntries);
    const tokens = new Uint32Array(this.#memory.buffer, tokensAt, nEntries);
    const products = new Float32Array(this.#memory.buffer, dotsAt, nEntries);

    const starts = this.#starts.fill(0);
    for (let i = 0; i < nEntries; i++) starts[latents[i] + 1]++;
    for (let latent = 0; latent < dSae; latent++) starts[latent + 1] += starts[latent];
    const places = new Uint32Array(nEntries);
    for (let token = 0; token < nTokens; token++) {
      for (let i = offsets[token]; i < offsets[token + 1]; i++) {
        const place = starts[latents[i]]++;
        places[i] = place;
        tokens[place] = token;
      }
    }
    // Each start has moved on to the next one's place.
    for (let latent = 0, start = 0; latent < dSae; latent++) {
      const n = starts[latent] - start;
      if (n > 0) {
        const row = 4 * latent * stride;
        this.#kernels.dots(this.#scratch, row, tokensAt + 4 * start, dotsAt + 4 * start, n, 4 * stride);
      }
      start = starts[latent];
    }
    const values = new Float32Array(nEntries);
    for (let i = 0; i < nEntries; i++) values[i] = products[places[i]] + bEnc[latents[i]];
    return values;
  }

  #copyColumns(wEnc: Float32Array): void {
    const { dModel, dSae, stride, rows } = this;
    for (let first = 0; first < dSae; first += LINE_NUMBERS) {
      const end = Math.min(first + LINE_NUMBERS, dSae);
      for (let d = 0; d < dModel; d++) {
        const line = d * dSae;
        for (let latent = first; latent < end; latent++) rows[latent * stride + d] = wEnc[line + latent];
      }
    }
  }

  #reserve(nBytes: number): void {
    const missing = Math.ceil(nBytes / PAGE_BYTES) - this.#memory.buffer.byteLength / PAGE_BYTES;
    if (missing > 0) this.#memory.grow(missing);
  }
}

let compiled: WebAssembly.Module | undefined;
