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

/** Options of {@linkcode createCpuBackend}. */
export interface CpuBackendOptions {
  /**
   * Threads that share a matrix product; 0 for every core.
   *
   * @default {0}
   */
  threads?: number;
}

// Pre-activations that onnxruntime may hold at once.
const SCRATCH_BYTES = 64 * 2 ** 20;

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

async function loadOnCpu(weights: TokenWeights, threads: number): Promise<LoadedSae> {
  const { dModel, dSae } = weights;
  const session = await createSession(buildEncoder(weights), { threads });
  const tokensPerRun = Math.max(1, Math.floor(SCRATCH_BYTES / (4 * dSae)));
  const run = weights.rule.kind === "topK" ? runTopK : runFloor;
  let disposed = false;

  const encode = async (x: Float32Array): Promise<SparseLatents> => {
    const nTokens = countTokens(x, weights);
    if (disposed) throw new Error("Cannot encode batch: the SAE must be loaded, it was disposed");
    const parts: SparseLatents[] = [];
    for (let first = 0; first < nTokens; first += tokensPerRun) {
      parts.push(await run(session, x.subarray(first * dModel, (first + tokensPerRun) * dModel), weights));
    }
    return parts.length === 1 ? parts[0] : joinLatents(parts, nTokens, dSae);
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

async function runGraph(session: InferenceSession, x: Float32Array, dModel: number) {
  const { Tensor } = await loadOrt();
  return await session.run({ [graphNames.x]: new Tensor("float32", x, [x.length / dModel, dModel]) });
}

/** Entries come unordered within a token: sorts them by latent and leaves out what the rule drops. */
async function runTopK(session: InferenceSession, x: Float32Array, weights: TokenWeights): Promise<SparseLatents> {
  const { dModel, dSae, rule } = weights;
  const { k, relu } = rule as { k: number; relu: boolean };
  const results = await runGraph(session, x, dModel);
  const found = results[graphNames.values].data as Float32Array;
  const foundLatents = results[graphNames.latents].data as Int32Array;
  const nTokens = x.length / dModel;
  const offsets = new Uint32Array(nTokens + 1);
  const indices = new Uint32Array(nTokens * k);
  const values = new Float32Array(nTokens * k);
  let end = 0;
  for (let token = 0; token < nTokens; token++) {
    const start = end;
    for (let i = token * k; i < (token + 1) * k; i++) {
      const value = found[i];
      // Written so that NaN is dropped, too.
      if (!(value > 0 || (!relu && value < 0))) continue;
      const latent = foundLatents[i];
      // Insertion: k is small.
      let position = end++;
      for (; position > start && indices[position - 1] > latent; position--) {
        indices[position] = indices[position - 1];
        values[position] = values[position - 1];
      }
      indices[position] = latent;
      values[position] = value;
    }
    offsets[token + 1] = end;
  }
  return { nTokens, dSae, offsets, indices: indices.subarray(0, end), values: values.subarray(0, end) };
}

/** Entries come as the rule wants them: for ReLU and JumpReLU. */
async function runFloor(session: InferenceSession, x: Float32Array, weights: TokenWeights): Promise<SparseLatents> {
  const results = await runGraph(session, x, weights.dModel);
  const tokens = results[graphNames.tokens].data as Int32Array;
  const latents = results[graphNames.latents].data as Int32Array;
  const nTokens = x.length / weights.dModel;
  const offsets = new Uint32Array(nTokens + 1);
  for (let i = 0; i < tokens.length; i++) offsets[tokens[i] + 1]++;
  for (let token = 0; token < nTokens; token++) offsets[token + 1] += offsets[token];
  return {
    nTokens,
    dSae: weights.dSae,
    offsets,
    indices: new Uint32Array(latents.buffer, latents.byteOffset, latents.length),
    values: results[graphNames.values].data as Float32Array,
  };
}

/** Puts the latents of consecutive stretches of tokens one after the other. */
function joinLatents(parts: readonly SparseLatents[], nTokens: number, dSae: number): SparseLatents {
  const nEntries = parts.reduce((total, part) => total + part.values.length, 0);
  const offsets = new Uint32Array(nTokens + 1);
  const indices = new Uint32Array(nEntries);
  const values = new Float32Array(nEntries);
  let token = 0;
  let entry = 0;
  for (const part of parts) {
    indices.set(part.indices, entry);
    values.set(part.values, entry);
    for (let t = 1; t <= part.nTokens; t++) offsets[token + t] = entry + part.offsets[t];
    token += part.nTokens;
    entry += part.values.length;
  }
  return { nTokens, dSae, offsets, indices, values };
}
