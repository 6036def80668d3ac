/**
 * Gathers what screens find, token by token, in flat arrays that grow.
 *
 * @module
 */
import type { TokenLatents } from "./encoder_rows.ts";
import { groupSize } from "./screen_graph.ts";

/** Latents that may matter, and what can be said of the rest. */
export interface FoundLatents extends TokenLatents {
  /** What each entry does not exceed. */
  readonly bounds: Float32Array;
  /** What no other latent of a token exceeds, shape `[nTokens]`; Infinity for a token that was not looked at. */
  readonly limits: Float32Array;
}

/** What a run of a screen found for one token. */
interface Row {
  readonly token: number;
  readonly nAsked: number;
}

/** Latents that are being gathered. */
export class LatentGatherer {
  readonly #onlyAbove: boolean;
  readonly #offsets: Uint32Array;
  readonly #limits: Float32Array;
  #latents: Uint32Array;
  #bounds: Float32Array;
  #nTokens = 0;
  #end = 0;

  /**
   * Makes room for some tokens.
   *
   * @param options.room Latents a token that are expected.
   * @param options.onlyAbove Whether latents whose bound is not above zero are left out.
   */
  constructor(nTokens: number, options: { room: number; onlyAbove: boolean }) {
    this.#onlyAbove = options.onlyAbove;
    this.#offsets = new Uint32Array(nTokens + 1);
    this.#limits = new Float32Array(nTokens);
    this.#latents = new Uint32Array(nTokens * options.room);
    this.#bounds = new Float32Array(nTokens * options.room);
  }

  /** Adds a latent to the present token. */
  add(latent: number, bound: number): void {
    this.#reserve(1);
    this.#latents[this.#end] = latent;
    this.#bounds[this.#end++] = bound;
  }

  /** Adds a row of `latents` and their `bounds`, both of shape `[nTokens, nAsked]`. */
  addLatents(latents: Int32Array, bounds: Float32Array, { token, nAsked }: Row): void {
    this.#reserve(nAsked);
    const floor = this.#onlyAbove ? 0 : -Infinity;
    const [toLatents, toBounds] = [this.#latents, this.#bounds];
    let end = this.#end;
    for (let i = token * nAsked; i < (token + 1) * nAsked; i++) {
      if (!(bounds[i] > floor)) continue;
      toLatents[end] = latents[i];
      toBounds[end++] = bounds[i];
    }
    this.#end = end;
  }

  /**
   * Adds a row of `groups`, shape `[nTokens, nAsked]`, whose latents have `bounds`, shape `[nTokens, groupSize, nAsked]`;
   * member `m` of group `g` is latent `g + m · dSae / groupSize`.
   */
  addGroups(groups: Int32Array, bounds: Float32Array, { token, nAsked, dSae }: Row & { dSae: number }): void {
    const size = groupSize(dSae);
    this.#reserve(size * nAsked);
    const floor = this.#onlyAbove ? 0 : -Infinity;
    const [toLatents, toBounds] = [this.#latents, this.#bounds];
    let end = this.#end;
    const firstGroup = token * nAsked;
    for (let member = 0; member < size; member++) {
      const firstLatent = member * (dSae / size);
      const row = (token * size + member) * nAsked;
      for (let i = 0; i < nAsked; i++) {
        const bound = bounds[row + i];
        if (!(bound > floor)) continue;
        toLatents[end] = firstLatent + groups[firstGroup + i];
        toBounds[end++] = bound;
      }
    }
    this.#end = end;
  }

  /** Closes the present token. */
  endToken(limit: number): void {
    this.#limits[this.#nTokens] = limit;
    this.#offsets[++this.#nTokens] = this.#end;
  }

  /** All that was gathered; every token must have been closed. */
  finish(): FoundLatents {
    return {
      offsets: this.#offsets,
      latents: this.#latents.subarray(0, this.#end),
      bounds: this.#bounds.subarray(0, this.#end),
      limits: this.#limits,
    };
  }

  #reserve(nMore: number): void {
    const needed = this.#end + nMore;
    if (needed <= this.#latents.length) return;
    const length = Math.max(needed, 2 * this.#latents.length);
    const [latents, bounds] = [new Uint32Array(length), new Float32Array(length)];
    latents.set(this.#latents.subarray(0, this.#end));
    bounds.set(this.#bounds.subarray(0, this.#end));
    this.#latents = latents;
    this.#bounds = bounds;
  }
}

/** Every latent of some tokens, for want of a screen. */
export function findAll(nTokens: number, dSae: number): FoundLatents {
  return {
    offsets: Uint32Array.from({ length: nTokens + 1 }, (_, token) => token * dSae),
    latents: Uint32Array.from({ length: nTokens * dSae }, (_, i) => i % dSae),
    bounds: new Float32Array(nTokens * dSae).fill(Infinity),
    limits: new Float32Array(nTokens).fill(-Infinity),
  };
}
