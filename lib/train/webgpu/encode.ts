/**
 * From a batch of activations on the device to the entries that count, on the host. Dense pre-activations are made a
 * few tokens at a time, and never leave the device.
 *
 * A pre-activation that is exactly zero is no entry here; the latent it would give is zero, too.
 *
 * @module
 */
import type { TokenRule } from "../../compute/contract.ts";
import { chunks, chunkTokens } from "../../compute/webgpu/batches.ts";
import { countKernel, writeKernel } from "../../compute/webgpu/compact_kernels.ts";
import type { Dispatch } from "../../compute/webgpu/device.ts";
import { padToVec4 } from "../../compute/webgpu/kernel.ts";
import { selectKernel } from "../../compute/webgpu/select_kernel.ts";
import { EntryList, type SelectionRule } from "../select.ts";
import { binsKernel, floorOfLargest, N_BINS } from "./bins_kernel.ts";
import type { TrainMemory } from "./memory.ts";
import { productKernel, productParams, productWorkgroups } from "./product_kernel.ts";

/** What is encoded with what. */
export interface EncodeJob {
  readonly memory: TrainMemory;
  /** What the encoder sees, shape `[nTokens, dModel]`. */
  readonly encoded: GPUBuffer;
  readonly nTokens: number;
  /** Shape `[dSae, dModel]`. */
  readonly wEnc: GPUBuffer;
  /** Of each latent that is encoded. */
  readonly bias: Float32Array;
  /**
   * Which latents those are.
   *
   * @default all of them, in order
   */
  readonly latents?: Uint32Array;
  /**
   * What has to run first.
   *
   * @default nothing
   */
  readonly before?: readonly Dispatch[];
}

/** Entries of a batch, token by token; they count latents as `bias` does. */
export async function encodeOnDevice(job: EncodeJob, selection: SelectionRule): Promise<EntryList> {
  const { memory, encoded, nTokens, wEnc, bias, latents, before = [] } = job;
  const { gpu, dModel, maxBytes, scratchBytes } = memory;
  const width = bias.length;
  const size = { n: width, k: dModel };
  const limits = { scratchBytes, maxBindingBytes: maxBytes };
  const product = await gpu.compile(
    productKernel({ a: "rows", b: "rows", bias: true, indexed: latents !== undefined }),
  );
  const pick = await openPicker(memory, selection, width);
  const padded = new Float32Array(padToVec4(width));
  padded.set(bias);
  const buffers = {
    ...{ a: encoded, b: wEnc, bias: await memory.put("bias", padded) },
    ...(latents && { indices: await memory.put("latents to encode", latents) }),
  };
  const list = new EntryList();
  for (const { begin, end } of chunks(nTokens, chunkTokens({ dModel, dSae: width }, limits))) {
    const m = end - begin;
    const pre = await memory.room("pre-activations", m * padToVec4(width));
    const makePre: Dispatch = {
      program: product,
      buffers: { ...buffers, out: pre },
      params: productParams({ ...size, m, firstRow: begin }),
      workgroups: productWorkgroups({ m, n: width }),
    };
    const { offsets, counts, indices, values } = await pick({
      ...{ pre, nTokens: m },
      before: begin === 0 ? [...before, makePre] : [makePre],
    });
    for (let token = 0; token < m; token++) {
      const start = offsets[token];
      for (let i = start; i < start + counts[token]; i++) list.push(begin + token, indices[i], values[i]);
    }
  }
  if (selection.kind === "topOfBatch") list.keepLargest(selection.nKept);
  return list;
}

/** What was picked of some tokens: of each, `counts` from `offsets` on. */
interface Picked {
  readonly offsets: Uint32Array;
  readonly counts: Uint32Array;
  readonly indices: Uint32Array;
  readonly values: Float32Array;
}

/** Pre-activations of some tokens, and what has to run before they are there. */
interface Chunk {
  readonly pre: GPUBuffer;
  readonly nTokens: number;
  readonly before: readonly Dispatch[];
}

type Picker = (chunk: Chunk) => Promise<Picked>;

async function openPicker(memory: TrainMemory, selection: SelectionRule, width: number): Promise<Picker> {
  if (selection.kind === "topK") return await openTopK(memory, { ...selection, width });
  const above = await openAbove(memory, width);
  if (selection.kind === "above") {
    const floors = await memory.put("floors", selection.floors);
    return (chunk) => above(chunk, floors);
  }
  return await openTopOfBatch(memory, { ...selection, width, above });
}

/** The `k` largest of each token: at most so many, so room can be made before they are counted. */
async function openTopK(
  memory: TrainMemory,
  options: { k: number; relu: boolean; width: number },
): Promise<Picker> {
  const { k, relu, width } = options;
  const { gpu } = memory;
  const rule: TokenRule = { kind: "topK", k, relu };
  const programs = await Promise.all([
    gpu.compile(selectKernel({ dSae: width, k })),
    gpu.compile(countKernel({ dSae: width, rule })),
    gpu.compile(writeKernel({ dSae: width, rule })),
  ]);
  return async ({ pre, nTokens, before }) => {
    const offsets = Uint32Array.from({ length: nTokens }, (_, token) => token * k);
    const buffers = {
      pre,
      thresholds: await memory.room("thresholds", 2 * nTokens),
      counts: await memory.room("counts", nTokens),
      offsets: await memory.put("offsets", offsets),
      indices: await memory.room("indices", k * nTokens),
      values: await memory.room("values", k * nTokens),
    };
    const steps = programs.map((program): Dispatch => ({ program, buffers, workgroups: [nTokens] }));
    await memory.run("encode", [...before, ...steps]);
    const [counts, indices, values] = await memory.read([
      { buffer: buffers.counts, length: nTokens },
      { buffer: buffers.indices, length: k * nTokens },
      { buffer: buffers.values, length: k * nTokens },
    ]);
    return {
      ...{ offsets, counts: new Uint32Array(counts) },
      ...{ indices: new Uint32Array(indices), values: new Float32Array(values) },
    };
  };
}

/** Those above the floors of their latents, however many. */
async function openAbove(
  memory: TrainMemory,
  width: number,
): Promise<(chunk: Chunk, floors: GPUBuffer) => Promise<Picked>> {
  const { gpu } = memory;
  // Only the kind of the rule is in the text of the kernels.
  const shape = { dSae: width, rule: { kind: "jumpRelu", threshold: new Float32Array() } } as const;
  const [count, write] = await Promise.all([gpu.compile(countKernel(shape)), gpu.compile(writeKernel(shape))]);
  return async ({ pre, nTokens, before }, floors) => {
    const given = { pre, floors, counts: await memory.room("counts", nTokens) };
    await memory.run("encode", [...before, { program: count, buffers: given, workgroups: [nTokens] }]);
    const [counted] = await memory.read([{ buffer: given.counts, length: nTokens }]);
    const counts = new Uint32Array(counted);
    const offsets = new Uint32Array(nTokens);
    for (let token = 1; token < nTokens; token++) offsets[token] = offsets[token - 1] + counts[token - 1];
    const length = offsets[nTokens - 1] + counts[nTokens - 1];
    const buffers = {
      ...given,
      offsets: await memory.put("offsets", offsets),
      indices: await memory.room("indices", length),
      values: await memory.room("values", length),
    };
    await memory.run("compact", [{ program: write, buffers, workgroups: [nTokens] }]);
    const [indices, values] = await memory.read([
      { buffer: buffers.indices, length },
      { buffer: buffers.values, length },
    ]);
    return { offsets, counts, indices: new Uint32Array(indices), values: new Float32Array(values) };
  };
}

/** What may be among the largest of the batch: those above a floor that enough of the tokens so far are above. */
async function openTopOfBatch(
  memory: TrainMemory,
  options: { nKept: number; relu: boolean; width: number; above: Awaited<ReturnType<typeof openAbove>> },
): Promise<Picker> {
  const { nKept, relu, width, above } = options;
  const { gpu } = memory;
  const program = await gpu.compile(binsKernel({ dSae: width }));
  const bins = await memory.put("bins", new Uint32Array(N_BINS));
  return async ({ pre, nTokens, before }) => {
    await memory.run("encode", [...before, { program, buffers: { pre, bins }, workgroups: [nTokens] }]);
    const [counted] = await memory.read([{ buffer: bins, length: N_BINS }]);
    const floor = floorOfLargest(new Uint32Array(counted), nKept);
    const made = { pre, nTokens, before: [] };
    if (floor === undefined && !relu) {
      // Too few are positive: every one may be among them.
      const all = await openTopK(memory, { k: width, relu, width });
      return await all(made);
    }
    return await above(made, await memory.put("floors", new Float32Array(width).fill(floor ?? 0)));
  };
}
