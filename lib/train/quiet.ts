/**
 * Which latents Adam still moves. One without a gradient goes on by its momentum until that has died away; from then on
 * it rests, and what it has missed is known when it comes back.
 *
 * @module
 */

// Momentum this small against what it was moves no float32 parameter.
const NEGLIGIBLE_MOMENTUM = 1e-25;
/** Quiet steps of a latent that never had a gradient. */
const ALWAYS_QUIET = 2 ** 31;

/** Steps since each latent had a gradient, of latents that never had one. */
export function alwaysQuiet(dSae: number): Uint32Array {
  return new Uint32Array(dSae).fill(ALWAYS_QUIET);
}

/** Counts how long latents have had no gradient. */
export class QuietLatents {
  /** Steps that each latent which comes back has missed, else 0; shape `[dSae]`. */
  readonly missed: Uint32Array;
  readonly #quietSteps: Uint32Array;
  readonly #restAfter: number;

  /** @param quietSteps Changed in place. */
  constructor(quietSteps: Uint32Array, options: { beta1: number }) {
    const { beta1 } = options;
    this.#quietSteps = quietSteps;
    this.missed = new Uint32Array(quietSteps.length);
    this.#restAfter = beta1 === 0 ? 1 : Math.ceil(Math.log(NEGLIGIBLE_MOMENTUM) / Math.log(beta1));
  }

  /** Whether a latent's rows are moved. */
  isAwake(latent: number): boolean {
    return this.#quietSteps[latent] < this.#restAfter;
  }

  /** Takes a step further. @param touched 1 for each latent that has a gradient, shape `[dSae]`. */
  advance(touched: Uint8Array): void {
    const [quietSteps, restAfter] = [this.#quietSteps, this.#restAfter];
    for (let latent = 0; latent < quietSteps.length; latent++) {
      const quiet = quietSteps[latent];
      const comesBack = touched[latent] === 1 && quiet >= restAfter && quiet < ALWAYS_QUIET;
      this.missed[latent] = comesBack ? quiet - restAfter + 1 : 0;
      if (touched[latent] === 1) quietSteps[latent] = 0;
      else if (quiet < ALWAYS_QUIET) quietSteps[latent]++;
    }
  }
}
