/**
 * How good a trained SAE is on tokens that it was not trained on: every metric, on a recording of other images.
 *
 * @module
 */
import { createCpuBackend } from "../compute/cpu/backend.ts";
import { openActivations } from "../sae/activations.ts";
import { measureMetrics, type Metrics } from "../sae/metrics/metrics.ts";
import type { Sae } from "../sae/sae.ts";
import type { Shards, TokenKind } from "../shards/read.ts";

/** Options of {@linkcode measureHeldOut}. */
export interface MeasureHeldOutOptions {
  /** A layer of the recording. */
  layer: number;
  /** Which tokens. */
  tokens: TokenKind;
  /** Tokens without activation after which a latent counts as dead. */
  deadWindowTokens: number;
  /**
   * Threads; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
  /** Stops between batches. */
  signal?: AbortSignal;
}

/** Measures an SAE on a recording, on the CPU, as `metrics` does on the command line. */
export async function measureHeldOut(sae: Sae, heldOut: Shards, options: MeasureHeldOutOptions): Promise<Metrics> {
  const { layer, tokens, deadWindowTokens, threads = 0, signal } = options;
  const activations = await openActivations(heldOut.directory, { layer, tokens });
  try {
    const backend = await createCpuBackend({ threads });
    try {
      const { tokensPerImage } = activations;
      const batches = activations.batches({ signal });
      return await measureMetrics(sae, batches, { backend, tokensPerImage, deadWindowTokens, threads, signal });
    } finally {
      await backend.close();
    }
  } finally {
    await activations.close();
  }
}

/**
 * Checks before hours of training that what is to be measured afterwards can be.
 *
 * @throws {RangeError} If the layer was not recorded, or another model or place in it was.
 */
export function checkHeldOut(heldOut: Shards, shards: Shards, { layer }: { layer: number }): void {
  const differing = [
    ["model", heldOut.metadata.model.sha256, shards.metadata.model.sha256],
    ["width", heldOut.metadata.d_model, shards.metadata.d_model],
    ["hook", heldOut.hook, shards.hook],
  ].find(([, found, wanted]) => found !== wanted);
  if (differing !== undefined) {
    const [what, found, wanted] = differing;
    throw new RangeError(
      `Cannot measure on ${heldOut.directory}: its ${what} must be ${wanted}, as in the recording that is trained on, ` +
        `current value is ${found}`,
    );
  }
  heldOut.resolveLayer(layer);
}
