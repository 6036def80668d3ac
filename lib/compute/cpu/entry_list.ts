/**
 * The list of latents that may matter, token by token, in the memory that kernels work in.
 *
 * @module
 */
import type { EncoderMemory } from "./encoder_memory.ts";

/**
 * Latents of some tokens that may matter, from the memory's address of entries on: those of token `t`, ascending, are
 * entries `starts[t]` up to `ends[t]`.
 */
export interface Entries {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** What pre-activations of latents that are not among them are below, shape `[nTokens]`. */
  readonly thresholds: Float32Array;
  readonly nEntries: number;
}

/** A list that is being made; it takes the place of the one before. */
export class EntryList implements Entries {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly thresholds: Float32Array;
  nEntries = 0;
  readonly #memory: EncoderMemory;

  constructor(memory: EncoderMemory, nTokens: number) {
    this.starts = new Uint32Array(nTokens);
    this.ends = new Uint32Array(nTokens);
    this.thresholds = new Float32Array(nTokens);
    this.#memory = memory;
  }

  /** Adds the latents of a token whose bounds, at an address, reach the threshold in the memory's first cell. */
  collect(token: number, bounds: number): void {
    const { entries, cells, nColumns, kernels } = this.#memory;
    const list = entries + 4 * this.nEntries;
    this.#memory.reserve(list + 4 * (nColumns + 1));
    kernels.collect(bounds, bounds + 4 * nColumns, cells, list, cells + 4);
    [this.thresholds[token]] = this.#memory.floats(cells, 1);
    const [end] = this.#memory.integers(cells + 4, 1);
    this.starts[token] = this.nEntries;
    this.nEntries = (end - entries) / 4;
    this.ends[token] = this.nEntries;
  }

  /** Adds every latent of a token, in place of what there is of it. */
  addAll(token: number): void {
    const { entries, dSae } = this.#memory;
    const list = entries + 4 * this.nEntries;
    this.#memory.reserve(list + 4 * dSae);
    const latents = this.#memory.integers(list, dSae);
    for (let latent = 0; latent < dSae; latent++) latents[latent] = latent;
    this.starts[token] = this.nEntries;
    this.nEntries += dSae;
    this.ends[token] = this.nEntries;
    this.thresholds[token] = -Infinity;
  }
}

/** Every latent of the first tokens, for want of a screen. */
export function findAll(memory: EncoderMemory, nTokens: number): EntryList {
  const list = new EntryList(memory, nTokens);
  for (let token = 0; token < nTokens; token++) list.addAll(token);
  return list;
}
