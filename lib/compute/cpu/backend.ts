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
import { EncoderRows } from "./encoder_rows.ts";
import { makeKeepRule } from "./keep.ts";
import { findAll } from "./latent_gatherer.ts";
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

// Tokens whose candidates are computed at once: enough to read each row of the encoder for several of them.
const BLOCK_TOKENS = 2048;

// Tokens up to which looking at every latent is faster than laying out a screen.
const TOKENS_WITHOUT_SCREEN = 4;

// Latents a token that there is room for at first.
const FIRST_ROOM = 64;

// How many times as many are asked for of a token where it was not enough.
const MORE = 4;

// After that all latents of a token are looked at, as of one whose activations are not finite.
const MOST_EFFORT = MORE ** 3;

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
  const { dModel, dSae } = weights;
  const encoder = new EncoderRows(weights);
  const keep = makeKeepRule(weights.rule);
  const screen = openAdaptiveScreen(encoder, { ...options, weights });
  let nSeen = 0;
  let room = FIRST_ROOM;
  let isDisposed = false;

  /** Encodes a block into rows; `effort` is how many times as many latents as usual are looked at. */
  const encodeBlock = async (x: Float32Array, rows: SparseRows, effort: number): Promise<void> => {
    const nTokens = x.length / dModel;
    const placed = encoder.place(x);
    const looksAtAll = nSeen <= TOKENS_WITHOUT_SCREEN || effort > MOST_EFFORT;
    const found = looksAtAll ? findAll(nTokens, dSae) : await screen.find(placed, effort);
    const values = encoder.preActivations(found);
    const { isKept, needed, unsure } = keep(found, values);
    if (effort === 1 && !looksAtAll) await screen.learn(needed);
    const again = unsure.length === 0 ? undefined : await encodeAgain(x, unsure, effort);
    let nAgain = 0;
    for (let token = 0; token < nTokens; token++) {
      if (again !== undefined && unsure[nAgain] === token) {
        for (let i = again.offsets[nAgain]; i < again.offsets[nAgain + 1]; i++) {
          rows.put(again.indices[i], again.values[i]);
        }
        nAgain++;
      } else {
        for (let i = found.offsets[token]; i < found.offsets[token + 1]; i++) {
          if (isKept[i] === 1 && values[i] !== 0) rows.put(found.latents[i], values[i]);
        }
      }
      rows.endToken();
    }
  };

  const encodeAgain = async (x: Float32Array, tokens: readonly number[], effort: number): Promise<SparseLatents> => {
    const some = new Float32Array(tokens.length * dModel);
    tokens.forEach((token, i) => some.set(x.subarray(token * dModel, (token + 1) * dModel), i * dModel));
    const rows = new SparseRows(tokens.length, { dSae, room });
    await encodeBlock(some, rows, MORE * effort);
    return rows.finish();
  };

  // One batch at a time: they share the encoder's scratch memory.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(body: () => Promise<T>): Promise<T> => {
    const result = last.then(body);
    last = result.catch(() => {});
    return result;
  };

  const encode = async (x: Float32Array): Promise<SparseLatents> => {
    const nTokens = countTokens(x, weights);
    if (isDisposed) throw new Error("Cannot encode batch: the SAE must be loaded, it was disposed");
    nSeen += nTokens;
    const rows = new SparseRows(nTokens, { dSae, room });
    for (let first = 0; first < nTokens; first += BLOCK_TOKENS) {
      await encodeBlock(x.subarray(first * dModel, (first + BLOCK_TOKENS) * dModel), rows, 1);
    }
    const latents = rows.finish();
    // The next batch will be much like this one.
    if (nTokens > 0) room = Math.ceil(1.125 * latents.values.length / nTokens);
    return latents;
  };
  return Promise.resolve({
    dModel,
    dSae,
    encode: (x) => inTurn(() => encode(x)),
    decode: (latents) => Promise.resolve().then(() => decodeSparse(latents, weights)),
    async imageMaxima(x, { tokensPerImage }) {
      countImages(x, { dModel, tokensPerImage });
      return maximaOverImages(await inTurn(() => encode(x)), tokensPerImage);
    },
    async dispose() {
      if (isDisposed) return;
      isDisposed = true;
      await inTurn(() => screen.close());
    },
  });
}
