/**
 * The CPU back end: onnxruntime makes the matrix product and picks the kept latents in the same graph, so nothing of
 * size `nTokens · dSae` leaves it; the rest follows the few that are active.
 *
 * @module
 */
import type { InferenceSession } from "onnxruntime-node";
import { createSession, loadOrt } from "../../runtime/ort.ts";
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
import { buildEncoder, graphNames } from "./encode_graph.ts";
import { makeGroupRun } from "./group_run.ts";
import { SparseRows } from "./sparse_rows.ts";

/** Options of {@linkcode createCpuBackend}. */
export interface CpuBackendOptions {
  /**
   * Threads that share a matrix product; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
}

// Pre-activations that onnxruntime may hold at once: as many tokens as it takes to read the weights rarely, and no more
// than the last level of a cache.
const SCRATCH_BYTES = 24 * 2 ** 20;

// Latents a token that there is room for at first.
const FIRST_ROOM = 64;

/** Makes the CPU back end. */
export function createCpuBackend(options: CpuBackendOptions = {}): Promise<Backend> {
  const { threads = 0 } = options;
  return Promise.resolve({
    kind: "cpu",
    device: `onnxruntime, ${threads === 0 ? "all cores" : `${threads} threads`}`,
    load: (weights) => loadWithConventions(weights, (inner) => loadOnCpu(inner, threads)),
    close: () => Promise.resolve(),
  });
}

/** Encodes activations of shape `[nTokens, dModel]`, few enough for one run, into rows. */
type RunChunk = (x: Float32Array, rows: SparseRows) => Promise<void>;

async function loadOnCpu(weights: TokenWeights, threads: number): Promise<LoadedSae> {
  const { dModel, dSae } = weights;
  const encoder = buildEncoder(weights);
  const session = await createSession(encoder.model, { threads, weights: encoder.weights });
  const tokensPerRun = Math.max(1, Math.floor(SCRATCH_BYTES / (4 * dSae)));
  const run = weights.rule.kind === "topK" ? makeTopKRun(session, weights) : makeGroupRun(session, weights);
  let room = FIRST_ROOM;
  let disposed = false;

  const encode = async (x: Float32Array): Promise<SparseLatents> => {
    const nTokens = countTokens(x, weights);
    if (disposed) throw new Error("Cannot encode batch: the SAE must be loaded, it was disposed");
    const rows = new SparseRows(nTokens, { dSae, room });
    for (let first = 0; first < nTokens; first += tokensPerRun) {
      await run(x.subarray(first * dModel, (first + tokensPerRun) * dModel), rows);
    }
    const latents = rows.finish();
    // The next batch will be much like this one.
    if (nTokens > 0) room = Math.ceil(1.125 * latents.values.length / nTokens);
    return latents;
  };
  return {
    dModel,
    dSae,
    encode,
    decode: (latents) => Promise.resolve().then(() => decodeSparse(latents, weights)),
    async imageMaxima(x, { tokensPerImage }) {
      countImages(x, { dModel, tokensPerImage });
      return maximaOverImages(await encode(x), tokensPerImage);
    },
    async dispose() {
      if (disposed) return;
      disposed = true;
      await session.release();
    },
  };
}

/** Runs an encoder of TopK, and leaves out what the rule drops. */
function makeTopKRun(session: InferenceSession, weights: TokenWeights): RunChunk {
  const { dModel, rule } = weights;
  const { k, relu } = rule as { k: number; relu: boolean };
  return async (x, rows) => {
    const { Tensor } = await loadOrt();
    const results = await session.run({ [graphNames.x]: new Tensor("float32", x, [x.length / dModel, dModel]) });
    const values = results[graphNames.values].data as Float32Array;
    const latents = results[graphNames.latents].data as Int32Array;
    for (let start = 0; start < values.length; start += k) {
      for (let i = start; i < start + k; i++) {
        const value = values[i];
        // Written so that NaN is dropped, too.
        if (value > 0 || (!relu && value < 0)) rows.put(latents[i], value);
      }
      rows.endToken();
    }
  };
}
