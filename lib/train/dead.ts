/**
 * Which latents have not fired for long, and what makes them fire again.
 *
 * @module
 */
import type { LatentEntries } from "./entries.ts";
import type { BiasRise, DeadRule } from "./recipe.ts";

/**
 * Marks the latents that fire among entries.
 *
 * @param fired Changed in place: 1 for each that does, shape `[dSae]`.
 */
export function markFired(fired: Uint8Array, entries: LatentEntries, { above }: DeadRule): void {
  const { offsets, values } = entries;
  const isAlive = (value: number) => above === undefined ? value !== 0 : value > above;
  for (let latent = 0; latent < fired.length; latent++) {
    for (let i = offsets[latent]; i < offsets[latent + 1] && fired[latent] === 0; i++) {
      if (isAlive(values[i])) fired[latent] = 1;
    }
  }
}

/**
 * Counts the tokens since each latent fired, one batch further.
 *
 * @param idleTokens Changed in place, shape `[dSae]`.
 */
export function countIdleTokens(
  idleTokens: Float64Array,
  fired: Uint8Array,
  options: { nTokens: number; rule: DeadRule },
): void {
  const { nTokens, rule: { countsFiringBatch = false } } = options;
  for (let latent = 0; latent < idleTokens.length; latent++) {
    if (fired[latent] === 0) idleTokens[latent] += nTokens;
    else idleTokens[latent] = countsFiringBatch ? nTokens : 0;
  }
}

/** Latents that are dead, ascending. */
export function deadLatents(idleTokens: Float64Array, rule: Pick<DeadRule, "afterTokens">): Uint32Array {
  const dead: number[] = [];
  for (let latent = 0; latent < idleTokens.length; latent++) {
    if (idleTokens[latent] >= rule.afterTokens) dead.push(latent);
  }
  return Uint32Array.from(dead);
}

/**
 * Raises the encoder's biases of the latents that have not fired for long.
 *
 * @param bEnc Changed in place, shape `[dSae]`.
 */
export function raiseIdleBiases(
  bEnc: Float32Array,
  idleTokens: Float64Array,
  options: { biasRise: BiasRise; learningRate: number },
): void {
  const { biasRise, learningRate } = options;
  for (const latent of deadLatents(idleTokens, biasRise)) bEnc[latent] += biasRise.learningRates * learningRate;
}
