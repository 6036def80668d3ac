/**
 * Compressed sparse rows that grow block by block, of the latents that a rule keeps.
 *
 * @module
 */
import { freeArrays } from "../../runtime/free.ts";
import type { SparseLatents } from "../contract.ts";
import type { Entries } from "./entry_list.ts";
import type { Candidates, KeepRule } from "./keep.ts";

/** Rows that are being gathered. */
export class SparseRows {
  readonly #dSae: number;
  readonly #offsets: Uint32Array;
  #indices = new Uint32Array(0);
  #values = new Float32Array(0);
  #isKept = new Uint8Array(0);
  #nTokens = 0;

  /** For so many tokens in all. */
  constructor(nTokens: number, dSae: number) {
    this.#dSae = dSae;
    this.#offsets = new Uint32Array(nTokens + 1);
  }

  /** Adds what a rule keeps of the next tokens. */
  add(keep: KeepRule, candidates: Candidates & Entries): void {
    const { starts, ends, nEntries, latents, values } = candidates;
    const offsets = this.#offsets;
    const first = offsets[this.#nTokens];
    if (this.#isKept.length < nEntries) this.#isKept = new Uint8Array(nEntries);
    const isKept = this.#isKept;
    let nKept = first;
    for (let token = 0; token < starts.length; token++) {
      nKept += keep(candidates, isKept, { start: starts[token], end: ends[token] });
      offsets[++this.#nTokens] = nKept;
    }
    this.#reserve(nKept);
    const [toIndices, toValues] = [this.#indices, this.#values];
    let at = first;
    for (let token = 0; token < starts.length; token++) {
      for (let i = starts[token]; i < ends[token]; i++) {
        if (isKept[i] === 0) continue;
        toIndices[at] = latents[i];
        toValues[at++] = values[i];
      }
    }
  }

  /** All rows; every token must have been added. */
  finish(): SparseLatents {
    const nEntries = this.#offsets[this.#nTokens];
    freeArrays(this.#isKept);
    // Latents may be kept for long: room that was not needed is not.
    const isTight = nEntries > 0.75 * this.#values.length;
    return {
      nTokens: this.#nTokens,
      dSae: this.#dSae,
      offsets: this.#offsets,
      indices: isTight ? this.#indices.subarray(0, nEntries) : this.#indices.slice(0, nEntries),
      values: isTight ? this.#values.subarray(0, nEntries) : this.#values.slice(0, nEntries),
    };
  }

  /** Makes room; what there is for the tokens so far says how much all of them will take. */
  #reserve(nEntries: number): void {
    if (nEntries <= this.#values.length) return;
    const nAll = this.#offsets.length - 1;
    const length = this.#nTokens === nAll ? nEntries : Math.ceil(1.125 * nEntries * nAll / this.#nTokens);
    const [indices, values] = [new Uint32Array(length), new Float32Array(length)];
    indices.set(this.#indices);
    values.set(this.#values);
    this.#indices = indices;
    this.#values = values;
  }
}
