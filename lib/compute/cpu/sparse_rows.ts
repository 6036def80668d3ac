/**
 * Gathers the latents of one token after the other, in whatever order they are found, into compressed sparse rows whose
 * latents ascend: each is put in its place of a dense row and marked in a bitmap, and one sweep over the bitmap takes
 * them out. That costs the same however many there are, where sorting them would not.
 *
 * @module
 */
import type { SparseLatents } from "../contract.ts";

/** Rows that are being gathered. */
export class SparseRows {
  readonly #dSae: number;
  readonly #offsets: Uint32Array;
  #indices: Uint32Array;
  #values: Float32Array;
  #nTokens = 0;
  #end = 0;
  /** The present token: values by latent, a bit for each latent that has one, and how many do. */
  readonly #row: Float32Array;
  readonly #marks: Uint32Array;
  #nInRow = 0;

  /**
   * Makes room for some tokens.
   *
   * @param options.room Latents a token that are expected; more are taken, too, at the cost of a copy.
   */
  constructor(nTokens: number, options: { dSae: number; room: number }) {
    const { dSae, room } = options;
    this.#dSae = dSae;
    this.#offsets = new Uint32Array(nTokens + 1);
    this.#indices = new Uint32Array(nTokens * room);
    this.#values = new Float32Array(nTokens * room);
    this.#row = new Float32Array(dSae);
    this.#marks = new Uint32Array(Math.ceil(dSae / 32));
  }

  /** Adds a latent to the present token, at most once each. */
  put(latent: number, value: number): void {
    this.#row[latent] = value;
    this.#marks[latent >>> 5] |= 1 << (latent & 31);
    this.#nInRow++;
  }

  /** Closes the present token. Returns how many latents it has. */
  endToken(): number {
    const nInRow = this.#nInRow;
    this.#reserve(this.#end + nInRow);
    const indices = this.#indices;
    const values = this.#values;
    const row = this.#row;
    const marks = this.#marks;
    const end = this.#end + nInRow;
    let entry = this.#end;
    for (let word = 0; entry < end; word++) {
      let bits = marks[word];
      if (bits === 0) continue;
      marks[word] = 0;
      for (; bits !== 0; bits &= bits - 1) {
        const latent = 32 * word + 31 - Math.clz32(bits & -bits);
        indices[entry] = latent;
        values[entry++] = row[latent];
      }
    }
    this.#end = end;
    this.#offsets[++this.#nTokens] = end;
    this.#nInRow = 0;
    return nInRow;
  }

  /** All rows; every token must have been closed. */
  finish(): SparseLatents {
    // Latents may be kept for long: room that was not needed is not.
    const isTight = this.#end > 0.75 * this.#values.length;
    return {
      nTokens: this.#nTokens,
      dSae: this.#dSae,
      offsets: this.#offsets,
      indices: isTight ? this.#indices.subarray(0, this.#end) : this.#indices.slice(0, this.#end),
      values: isTight ? this.#values.subarray(0, this.#end) : this.#values.slice(0, this.#end),
    };
  }

  #reserve(nEntries: number): void {
    if (nEntries <= this.#values.length) return;
    const length = Math.max(nEntries, 2 * this.#values.length);
    const indices = new Uint32Array(length);
    const values = new Float32Array(length);
    indices.set(this.#indices.subarray(0, this.#end));
    values.set(this.#values.subarray(0, this.#end));
    this.#indices = indices;
    this.#values = values;
  }
}
