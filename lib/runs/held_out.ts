/**
 * How good a trained SAE is on tokens that it was not trained on: every metric, on other images or a recording of them.
 *
 * @module
 */
import { createCpuBackend } from "../compute/cpu/backend.ts";
import { evenBatches } from "../sae/activations.ts";
import { measureMetrics, type Metrics } from "../sae/metrics/metrics.ts";
import type { Sae } from "../sae/sae.ts";
import { type TokenKind, tokenRange } from "../shards/read.ts";
import type { TokenSource } from "../train/source.ts";

/** Options of {@linkcode measureHeldOut}. */
export interface MeasureHeldOutOptions {
  /** A layer of the source. */
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

// As many as `metrics` takes at once.
const BATCH_TOKENS = 4096;

/** Measures an SAE on tokens, on the CPU, as `metrics` does on the command line. */
export async function measureHeldOut(sae: Sae, heldOut: TokenSource, options: MeasureHeldOutOptions): Promise<Metrics> {
  const { layer, tokens, deadWindowTokens, threads = 0, signal } = options;
  const { count: tokensPerImage } = tokenRange(heldOut.info, tokens);
  const activations = {
    nTokens: heldOut.nImages * tokensPerImage,
    dModel: heldOut.info.d_model,
    pieces: () => heldOut.readBatches({ layer, tokens, signal }),
  };
  const backend = await createCpuBackend({ threads });
  try {
    const batches = evenBatches(activations, { batchSize: BATCH_TOKENS, signal });
    return await measureMetrics(sae, batches, { backend, tokensPerImage, deadWindowTokens, threads, signal });
  } finally {
    await backend.close();
  }
}

/**
 * Checks before hours of training that what is to be measured afterwards can be.
 *
 * @throws {RangeError} If there is no such layer or token, or they are of another model or another place in it.
 */
export function checkHeldOut(
  heldOut: TokenSource,
  source: TokenSource,
  { layer, tokens }: { layer: number; tokens: TokenKind },
): void {
  const differing = [
    ["model", heldOut.info.model.sha256, source.info.model.sha256],
    ["width", heldOut.info.d_model, source.info.d_model],
    ["hook", heldOut.hook, source.hook],
  ].find(([, found, wanted]) => found !== wanted);
  if (differing !== undefined) {
    const [what, found, wanted] = differing;
    throw new RangeError(
      `Cannot measure on ${heldOut.location}: its ${what} must be ${wanted}, as of the tokens that are trained on, ` +
        `current value is ${found}`,
    );
  }
  heldOut.resolveLayer(layer);
  tokenRange(heldOut.info, tokens);
}
