/**
 * How good an SAE is on tokens that it was not trained on, from other images or a recording of them: every metric on all
 * of them at the end, and while it is trained the few that its curves show, on so many that it costs little.
 *
 * @module
 */
import type { SaeWeights } from "../compute/contract.ts";
import { createCpuBackend } from "../compute/cpu/backend.ts";
import type { HeldOutValues } from "../figures/training_point.ts";
import { evenBatches } from "../sae/activations.ts";
import { measureMetrics, type Metrics } from "../sae/metrics/metrics.ts";
import type { Sae } from "../sae/sae.ts";
import { type TokenKind, tokenRange } from "../shards/read.ts";
import { randomOrder, seededRandom } from "../train/random.ts";
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

// Tokens that are measured while training, and those of them that may be of images which were read together.
const SAMPLE_TOKENS = 8192;
const PIECE_TOKENS = 512;

/**
 * Reads what is measured while training: all tokens in their order, or 8,192 drawn from images here and there, the same
 * ones each time. No more images are read than it takes.
 *
 * @returns Shape `[nTokens, dModel]`.
 */
export async function readHeldOutSample(
  heldOut: TokenSource,
  { layer, tokens, signal }: Pick<MeasureHeldOutOptions, "layer" | "tokens" | "signal">,
): Promise<Float32Array> {
  const { info: { d_model: dModel }, nImages } = heldOut;
  const nAll = nImages * tokenRange(heldOut.info, tokens).count;
  const isWhole = nAll <= SAMPLE_TOKENS;
  const sample = new Float32Array(Math.min(nAll, SAMPLE_TOKENS) * dModel);
  const random = seededRandom(0);
  let filled = 0;
  for await (
    const piece of heldOut.readBatches({ layer, tokens, random: isWhole ? undefined : seededRandom(1), signal })
  ) {
    const nTokens = piece.length / dModel;
    // Of few and large pieces more are taken, or they would not do.
    const nTaken = Math.min(Math.max(PIECE_TOKENS, Math.ceil(SAMPLE_TOKENS * nTokens / nAll)), nTokens);
    const taken = isWhole ? Array(nTokens).keys() : randomOrder(nTokens, random).subarray(0, nTaken);
    for (const token of taken) {
      if (filled === sample.length) break;
      sample.set(piece.subarray(token * dModel, (token + 1) * dModel), filled);
      filled += dModel;
    }
    if (filled === sample.length) break;
  }
  return sample.subarray(0, filled);
}

/**
 * Measures an SAE in training on such tokens, on the CPU, in the units of the log: on activations as the recipe normalizes
 * them.
 */
export async function measureSample(
  weights: SaeWeights,
  sample: Float32Array,
  { threads = 0 }: Pick<MeasureHeldOutOptions, "threads">,
): Promise<HeldOutValues> {
  const { dModel } = weights;
  const activations = { nTokens: sample.length / dModel, dModel, pieces: () => inOnePiece(sample) };
  const backend = await createCpuBackend({ threads });
  try {
    const batches = evenBatches(activations, { batchSize: BATCH_TOKENS });
    const options = { backend, space: "normalized", coherenceLatents: 0, threads } as const;
    const { normalizedMse, l0NonZero, nDead } = await measureMetrics(weights, batches, options);
    return { normalizedMse, l0: l0NonZero, nDead };
  } finally {
    await backend.close();
  }
}

async function* inOnePiece(x: Float32Array): AsyncIterable<Float32Array> {
  yield await Promise.resolve(x);
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
