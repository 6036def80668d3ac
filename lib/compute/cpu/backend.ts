/**
 * The CPU back end, in two steps: a screen rules out the latents of a token that cannot matter, by bounds on a matrix
 * product of onnxruntime, and the others are computed one by one in float32. Nothing of size `nTokens · dSae` leaves
 * onnxruntime, and what comes out does not depend on how good the screen was.
 *
 * @module
 */
import {
  type Backend,
  countImages,
  countTokens,
  type LoadedSae,
  type SparseLatents,
  type TokenWeights,
} from "../contract.ts";
import { loadWithConventions } from "../conventions.ts";
import { decodeSparse, maximaOverImages } from "../sparse.ts";
import { openAdaptiveScreen } from "./adaptive_screen.ts";
import { EncoderMemory } from "./encoder_memory.ts";
import { EncoderRows } from "./encoder_rows.ts";
import { findAll } from "./entry_list.ts";
import { findUnsure, makeKeepRule } from "./keep.ts";
import type { ScreenPrecision } from "./screen.ts";
import { SparseRows } from "./sparse_rows.ts";

/** Options of {@linkcode createCpuBackend}. */
export interface CpuBackendOptions {
  /**
   * Threads that share a matrix product; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
  /**
   * In what precision latents are ruled out. Latents are the same, to the last bit, with both.
   *
   * @default whichever is expected to be faster for the SAE, the processor and the activations that come
   */
  screen?: ScreenPrecision;
}

// Tokens whose latents are computed at once: enough to read each row of the encoder for several of them.
const BLOCK_TOKENS = 2048;

// Bounds that are held at once: of as many tokens as it takes to read the weights rarely, and no more than is worth their
// memory, of which onnxruntime takes as much again.
const BOUNDS_BYTES = 8 * 2 ** 20;

// Tokens up to which looking at every latent is faster than laying out a screen.
const TOKENS_WITHOUT_SCREEN = 4;

/** Makes the CPU back end. */
export function createCpuBackend(options: CpuBackendOptions = {}): Promise<Backend> {
  const { threads = 0, screen } = options;
  return Promise.resolve({
    kind: "cpu",
    device: `onnxruntime, ${threads === 0 ? "all cores" : `${threads} threads`}`,
    load: (weights) => loadWithConventions(weights, (inner) => loadOnCpu(inner, { threads, precision: screen })),
    close: () => Promise.resolve(),
  });
}

function loadOnCpu(
  weights: TokenWeights,
  options: { threads: number; precision: ScreenPrecision | undefined },
): Promise<LoadedSae> {
  const { dModel, dSae, rule } = weights;
  const tokensPerRun = Math.min(BLOCK_TOKENS, Math.max(1, Math.floor(BOUNDS_BYTES / (4 * dSae))));
  const memory = new EncoderMemory({ dModel, dSae, tokensPerRun, tokensPerBlock: BLOCK_TOKENS });
  const encoder = new EncoderRows(weights, memory);
  const keep = makeKeepRule(rule);
  const screen = openAdaptiveScreen(memory, { ...options, weights, tokensPerRun });
  let nSeen = 0;
  let isDisposed = false;

  const encodeBlock = async (x: Float32Array, rows: SparseRows): Promise<void> => {
    const nTokens = x.length / dModel;
    encoder.place(x);
    nSeen += nTokens;
    const entries = nSeen <= TOKENS_WITHOUT_SCREEN ? findAll(memory, nTokens) : await screen.find(nTokens);
    while (true) {
      const values = encoder.preActivations(entries);
      const latents = memory.integers(memory.entries, entries.nEntries);
      const { starts, ends, thresholds, nEntries } = entries;
      const candidates = { starts, ends, thresholds, nEntries, latents, values };
      const unsure = findUnsure(rule, candidates);
      if (unsure.length === 0) return rows.add(keep, candidates);
      for (const token of unsure) entries.addAll(token);
    }
  };

  // One batch at a time: they share the encoder's memory.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(body: () => Promise<T>): Promise<T> => {
    const result = last.then(body);
    last = result.catch(() => {});
    return result;
  };

  const encode = (x: Float32Array): Promise<SparseLatents> =>
    inTurn(async () => {
      const nTokens = countTokens(x, weights);
      if (isDisposed) throw new Error("Cannot encode batch: the SAE must be loaded, it was disposed");
      const rows = new SparseRows(nTokens, dSae);
      for (let first = 0; first < nTokens; first += BLOCK_TOKENS) {
        await encodeBlock(x.subarray(first * dModel, (first + BLOCK_TOKENS) * dModel), rows);
      }
      return rows.finish();
    });
  return Promise.resolve({
    dModel,
    dSae,
    encode,
    decode: (latents) => Promise.resolve().then(() => decodeSparse(latents, weights)),
    async imageMaxima(x, { tokensPerImage }) {
      countImages(x, { dModel, tokensPerImage });
      return maximaOverImages(await encode(x), tokensPerImage);
    },
    dispose: () =>
      inTurn(async () => {
        if (isDisposed) return;
        isDisposed = true;
        await screen.close();
      }),
  });
}
