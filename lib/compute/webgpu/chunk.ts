/**
 * What the device does with one chunk of a batch: which kernels run on which buffers, and what is read back. Nothing
 * dense is: counts and the active latents of a token, maxima of an image, reconstructions.
 *
 * A chunk works in the scratch buffers it is given. It calls `free` as soon as its last copy is handed to the device:
 * the device works in order, so the next chunk may write over them although the results are still on their way.
 *
 * @module
 */
import type { ImageMaxima, SparseLatents } from "../contract.ts";
import { chunks, padRows } from "./batches.ts";
import type { Dispatch, GpuDevice } from "./device.ts";
import { encodeParams, type EncodeTile, encodeWorkgroups } from "./encode_kernel.ts";
import { imageMaxWorkgroups } from "./image_max_kernel.ts";
import { padToVec4 } from "./kernel.ts";
import type { DeviceWeights } from "./panels.ts";
import type { Programs } from "./programs.ts";
import type { Readback, ScratchBuffers } from "./scratch.ts";

/** An SAE as it lies on the device. */
export interface SaeOnDevice {
  gpu: GpuDevice;
  dModel: number;
  dSae: number;
  weights: DeviceWeights;
  programs: Programs;
  tile: EncodeTile;
  readback: Readback;
}

/** Where a chunk works, until it calls `free`. */
export interface Workplace {
  scratch: ScratchBuffers;
  free: () => void;
}

/** Latents of a chunk: `counts` of each token, then all of them in a row. */
export interface ChunkLatents {
  counts: Uint32Array;
  indices: Uint32Array;
  values: Float32Array;
}

/** Latents of activations `x`, shape `[nTokens, dModel]`. */
export async function encodeChunk(sae: SaeOnDevice, place: Workplace, x: Float32Array): Promise<ChunkLatents> {
  const { gpu, programs, readback } = sae;
  const { scratch, free } = place;
  const { dispatches, buffers, nTokens } = await preActivations(sae, scratch, x);
  buffers.counts = await scratch.storage("counts", 4 * nTokens);
  dispatches.push({ program: programs.count, buffers, workgroups: [nTokens] });
  await gpu.run("encode", dispatches);
  const [countBytes] = await readback.read([{ buffer: buffers.counts, bytes: 4 * nTokens }]);

  const counts = new Uint32Array(countBytes);
  const offsets = new Uint32Array(nTokens);
  for (let t = 1; t < nTokens; t++) offsets[t] = offsets[t - 1] + counts[t - 1];
  const bytes = 4 * (offsets[nTokens - 1] + counts[nTokens - 1]);
  if (bytes === 0) return { counts, indices: new Uint32Array(0), values: new Float32Array(0) };
  buffers.offsets = await scratch.storage("offsets", 4 * nTokens);
  buffers.indices = await scratch.storage("indices", bytes);
  buffers.values = await scratch.storage("values", bytes);
  gpu.write(buffers.offsets, offsets);
  await gpu.run("compact", [{ program: programs.write, buffers, workgroups: [nTokens] }]);
  const [indices, values] = await readback.read([
    { buffer: buffers.indices, bytes },
    { buffer: buffers.values, bytes },
  ], free);
  return { counts, indices: new Uint32Array(indices), values: new Float32Array(values) };
}

/** Maxima over whole images, of which at most `partTokens` tokens go through at once. */
export async function imageMaximaChunk(
  sae: SaeOnDevice,
  place: Workplace,
  options: { x: Float32Array; nImages: number; partTokens: number },
): Promise<Pick<ImageMaxima, "values" | "tokens">> {
  const { gpu, dModel, dSae, programs, readback } = sae;
  const { scratch, free } = place;
  const { x, nImages, partTokens } = options;
  const tokensPerImage = x.length / dModel / nImages;
  const bytes = 4 * nImages * dSae;
  const maxValues = await scratch.storage("max_values", bytes);
  const maxTokens = await scratch.storage("max_tokens", bytes);
  // Images come in parts only where a single one has more tokens than go through at once.
  for (const part of chunks(tokensPerImage, nImages === 1 ? partTokens : tokensPerImage)) {
    const to = (nImages - 1) * tokensPerImage + part.end;
    const { dispatches, buffers } = await preActivations(sae, scratch, x.subarray(part.begin * dModel, to * dModel));
    dispatches.push({
      program: programs.imageMax,
      buffers: { ...buffers, max_values: maxValues, max_tokens: maxTokens },
      params: [part.end - part.begin, part.begin],
      workgroups: imageMaxWorkgroups({ nImages, dSae }),
    });
    await gpu.run("image maxima", dispatches);
  }
  const [values, tokens] = await readback.read([
    { buffer: maxValues, bytes },
    { buffer: maxTokens, bytes },
  ], free);
  return { values: new Float32Array(values), tokens: new Int32Array(tokens) };
}

/** Reconstructions, shape `[nTokens, dModel]`; `offsets` has to begin at 0. */
export async function decodeChunk(
  sae: SaeOnDevice,
  place: Workplace,
  latents: Pick<SparseLatents, "offsets" | "indices" | "values">,
): Promise<Float32Array> {
  const { gpu, dModel, weights, programs, readback } = sae;
  const { scratch, free } = place;
  const { offsets, indices, values } = latents;
  const nTokens = offsets.length - 1;
  const bytes = 4 * nTokens * dModel;
  const buffers: Record<string, GPUBuffer> = {
    offsets: await scratch.storage("offsets", offsets.byteLength),
    indices: await scratch.storage("indices", indices.byteLength),
    values: await scratch.storage("values", values.byteLength),
    x_hat: await scratch.storage("x_hat", bytes),
    b_dec: weights.bDec,
  };
  gpu.write(buffers.offsets, offsets);
  gpu.write(buffers.indices, indices);
  gpu.write(buffers.values, values);
  await gpu.run(
    "decode",
    weights.panels.map(({ begin, end, wDec }) => ({
      program: programs.decode,
      buffers: { ...buffers, w_dec: wDec },
      params: [begin, end],
      workgroups: [nTokens],
    })),
  );
  const [decoded] = await readback.read([{ buffer: buffers.x_hat, bytes }], free);
  return new Float32Array(decoded);
}

/** What has to run before a kernel that reads pre-activations, and the buffers such a kernel reads. */
async function preActivations(
  sae: SaeOnDevice,
  scratch: ScratchBuffers,
  x: Float32Array,
): Promise<{ dispatches: Dispatch[]; buffers: Record<string, GPUBuffer>; nTokens: number }> {
  const { gpu, dModel, dSae, weights, programs, tile } = sae;
  const nTokens = x.length / dModel;
  const padded = padRows(x, dModel);
  const buffers: Record<string, GPUBuffer> = {
    x: await scratch.storage("x", 4 * padded.length),
    pre: await scratch.storage("pre", 4 * nTokens * padToVec4(dSae)),
    b_enc: weights.bEnc,
    b_dec: weights.bDec,
    ...(weights.floors && { floors: weights.floors }),
  };
  if (programs.select) buffers.thresholds = await scratch.storage("thresholds", 8 * nTokens);
  gpu.write(buffers.x, padded);
  const dispatches: Dispatch[] = weights.panels.map(({ begin, end, wEnc }) => ({
    program: programs.encode,
    buffers: { ...buffers, w_enc: wEnc },
    params: encodeParams({ nTokens, dModel, dSae }, { begin, end }),
    workgroups: encodeWorkgroups({ nTokens, nLatents: end - begin }, tile),
  }));
  if (programs.select) dispatches.push({ program: programs.select, buffers, workgroups: [nTokens] });
  return { dispatches, buffers, nTokens };
}
