/**
 * Active latents of a batch, latent by latent: what decoding and gradients walk along.
 *
 * @module
 */
import type { Entries } from "./select.ts";

/** Latent `i` owns entries `offsets[i]` up to `offsets[i + 1]`; within a latent, tokens ascend. */
export interface LatentEntries {
  /** Shape `[dSae + 1]`. */
  readonly offsets: Uint32Array;
  readonly tokens: Uint32Array;
  /** Pre-activation of each entry. */
  readonly pre: Float32Array;
  /** Latent activation of each entry; what it is depends on the activation. */
  readonly values: Float32Array;
}

/**
 * Sorts entries by latent; `values` begin as the pre-activations.
 *
 * @param latentOf Names of the latents, if the entries count some of them only.
 */
export function sortByLatent(entries: Entries, options: { dSae: number; latentOf?: Uint32Array }): LatentEntries {
  const { dSae, latentOf } = options;
  const { length, tokens, latents, values } = entries;
  const offsets = new Uint32Array(dSae + 1);
  for (let i = 0; i < length; i++) offsets[(latentOf ? latentOf[latents[i]] : latents[i]) + 1]++;
  for (let latent = 0; latent < dSae; latent++) offsets[latent + 1] += offsets[latent];
  const next = offsets.slice();
  const sorted = { tokens: new Uint32Array(length), pre: new Float32Array(length) };
  for (let i = 0; i < length; i++) {
    const place = next[latentOf ? latentOf[latents[i]] : latents[i]]++;
    sorted.tokens[place] = tokens[i];
    sorted.pre[place] = values[i];
  }
  return { offsets, ...sorted, values: sorted.pre.slice() };
}

/** Entries token by token: token `t` owns places `offsets[t]` up to `offsets[t + 1]`; within a token, latents ascend. */
export interface TokenOrder {
  /** Shape `[nTokens + 1]`. */
  readonly offsets: Uint32Array;
  /** Latent of each place. */
  readonly latents: Uint32Array;
  /** Which entry each place has. */
  readonly entries: Uint32Array;
}

/** The order of entries by token. */
export function orderByToken({ offsets, tokens }: LatentEntries, nTokens: number): TokenOrder {
  const order = {
    offsets: new Uint32Array(nTokens + 1),
    latents: new Uint32Array(tokens.length),
    entries: new Uint32Array(tokens.length),
  };
  for (const token of tokens) order.offsets[token + 1]++;
  for (let token = 0; token < nTokens; token++) order.offsets[token + 1] += order.offsets[token];
  const next = order.offsets.slice();
  for (let latent = 0; latent + 1 < offsets.length; latent++) {
    for (let i = offsets[latent]; i < offsets[latent + 1]; i++) {
      const place = next[tokens[i]]++;
      order.latents[place] = latent;
      order.entries[place] = i;
    }
  }
  return order;
}
