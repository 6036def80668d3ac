/**
 * An SAE on a WebGPU device. A batch goes through in chunks, so that the dense pre-activations of a chunk fit a scratch
 * buffer of fixed size; only the sparse answer comes back to the host.
 *
 * @module
 */
import {
  checkSparseLatents,
  countImages,
  countTokens,
  type ImageMaxima,
  type LoadedSae,
  type SparseLatents,
  type TokenWeights,
} from "../contract.ts";
import { chunks, chunkTokens, padRows, type WebGpuLimits } from "./batches.ts";
import type { Dispatch, GpuDevice } from "./device.ts";
import { encodeParams, encodeWorkgroups } from "./encode_kernel.ts";
import { imageMaxWorkgroups } from "./image_max_kernel.ts";
import { padToVec4 } from "./kernel.ts";
import { type DeviceWeights, freeWeights, uploadWeights } from "./panels.ts";
import { compilePrograms, type Programs } from "./programs.ts";
import { ScratchBuffers } from "./scratch.ts";

/** Compiles the kernels of an SAE and copies its weights to the device. */
export async function loadWebGpuSae(gpu: GpuDevice, weights: TokenWeights, limits: WebGpuLimits): Promise<WebGpuSae> {
  gpu.assertUsable("load SAE");
  const programs = await compilePrograms(gpu, weights);
  const onDevice = await uploadWeights(gpu, weights, { maxBytes: limits.maxBindingBytes });
  return new WebGpuSae(gpu, { weights, onDevice, programs, limits });
}

/** Made by {@linkcode loadWebGpuSae}. */
export class WebGpuSae implements LoadedSae {
  readonly dModel: number;
  readonly dSae: number;
  readonly #gpu: GpuDevice;
  readonly #weights: DeviceWeights;
  readonly #programs: Programs;
  readonly #scratch: ScratchBuffers;
  readonly #limits: WebGpuLimits;
  /** Tokens whose pre-activations fit the scratch buffer. */
  readonly #chunkTokens: number;
  /** The batch in flight. Batches share the scratch buffers, so they wait for each other. */
  #last: Promise<unknown> = Promise.resolve();
  #disposed = false;

  constructor(
    gpu: GpuDevice,
    parts: { weights: TokenWeights; onDevice: DeviceWeights; programs: Programs; limits: WebGpuLimits },
  ) {
    const { weights, onDevice, programs, limits } = parts;
    this.dModel = weights.dModel;
    this.dSae = weights.dSae;
    this.#gpu = gpu;
    this.#weights = onDevice;
    this.#programs = programs;
    this.#limits = limits;
    this.#scratch = new ScratchBuffers(gpu);
    this.#chunkTokens = chunkTokens(weights, limits);
  }

  /** Latents of a batch. See {@linkcode LoadedSae.encode}. */
  async encode(x: Float32Array): Promise<SparseLatents> {
    const nTokens = countTokens(x, this);
    return await this.#inTurn("encode batch", async () => {
      const offsets = new Uint32Array(nTokens + 1);
      const indices: Uint32Array[] = [];
      const values: Float32Array[] = [];
      for (const { begin, end } of chunks(nTokens, this.#chunkTokens)) {
        const chunk = await this.#encodeChunk(x.subarray(begin * this.dModel, end * this.dModel));
        for (let t = begin; t < end; t++) offsets[t + 1] = offsets[t] + chunk.counts[t - begin];
        indices.push(chunk.indices);
        values.push(chunk.values);
      }
      const joined = { indices: new Uint32Array(offsets[nTokens]), values: new Float32Array(offsets[nTokens]) };
      let entry = 0;
      for (const [i, part] of indices.entries()) {
        joined.indices.set(part, entry);
        joined.values.set(values[i], entry);
        entry += part.length;
      }
      return { nTokens, dSae: this.dSae, offsets, ...joined };
    });
  }

  /** Maxima over whole images. See {@linkcode LoadedSae.imageMaxima}. */
  async imageMaxima(x: Float32Array, options: { tokensPerImage: number }): Promise<ImageMaxima> {
    const { tokensPerImage } = options;
    const { dModel, dSae } = this;
    const nImages = countImages(x, { dModel, tokensPerImage });
    return await this.#inTurn("encode images", async () => {
      const values = new Float32Array(nImages * dSae);
      const tokens = new Int32Array(nImages * dSae);
      const imagesAtOnce = Math.max(1, Math.floor(this.#chunkTokens / tokensPerImage));
      for (const images of chunks(nImages, imagesAtOnce)) {
        const bytes = 4 * (images.end - images.begin) * dSae;
        const maxValues = await this.#scratch.storage("max_values", bytes);
        const maxTokens = await this.#scratch.storage("max_tokens", bytes);
        // More than one part only where a single image has more tokens than a chunk.
        for (const part of chunks(tokensPerImage, this.#chunkTokens)) {
          const from = images.begin * tokensPerImage + part.begin;
          const to = (images.end - 1) * tokensPerImage + part.end;
          const { dispatches, buffers } = await this.#preActivations(x.subarray(from * dModel, to * dModel));
          dispatches.push({
            program: this.#programs.imageMax,
            buffers: { ...buffers, max_values: maxValues, max_tokens: maxTokens },
            params: [part.end - part.begin, part.begin],
            workgroups: imageMaxWorkgroups({ nImages: images.end - images.begin, dSae }),
          });
          await this.#gpu.run("image maxima", dispatches);
        }
        const [chunkValues, chunkTokens] = await this.#read([
          { buffer: maxValues, bytes },
          { buffer: maxTokens, bytes },
        ]);
        values.set(new Float32Array(chunkValues), images.begin * dSae);
        tokens.set(new Int32Array(chunkTokens), images.begin * dSae);
      }
      return { nImages, dSae, values, tokens };
    });
  }

  /** Reconstructions. See {@linkcode LoadedSae.decode}. */
  async decode(latents: SparseLatents): Promise<Float32Array> {
    const { nTokens, offsets, indices, values } = checkSparseLatents(latents, this);
    return await this.#inTurn("decode latents", async () => {
      const out = new Float32Array(nTokens * this.dModel);
      const maxEntries = Math.floor(Math.min(this.#limits.scratchBytes, this.#limits.maxBindingBytes) / 4);
      for (const { begin, end } of chunks(nTokens, this.#chunkTokens, { offsets, maxEntries })) {
        const entries = [offsets[begin], offsets[end]] as const;
        const decoded = await this.#decodeChunk({
          offsets: offsets.slice(begin, end + 1).map((offset) => offset - entries[0]),
          indices: indices.subarray(...entries),
          values: values.subarray(...entries),
        });
        out.set(decoded, begin * this.dModel);
      }
      return out;
    });
  }

  /** Frees the weights on the device, once the batches before it are done. Further calls do nothing. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#last;
    this.#scratch.dispose();
    freeWeights(this.#weights);
  }

  /** What has to run before a kernel that reads pre-activations, and the buffers such a kernel reads. */
  async #preActivations(
    x: Float32Array,
  ): Promise<{ dispatches: Dispatch[]; buffers: Record<string, GPUBuffer>; nTokens: number }> {
    const { dModel, dSae } = this;
    const nTokens = x.length / dModel;
    const padded = padRows(x, dModel);
    const buffers: Record<string, GPUBuffer> = {
      x: await this.#scratch.storage("x", 4 * padded.length),
      pre: await this.#scratch.storage("pre", 4 * nTokens * padToVec4(dSae)),
      b_enc: this.#weights.bEnc,
      b_dec: this.#weights.bDec,
      ...(this.#weights.floors && { floors: this.#weights.floors }),
    };
    this.#gpu.write(buffers.x, padded);
    const dispatches: Dispatch[] = this.#weights.panels.map(({ begin, end, wEnc }) => ({
      program: this.#programs.encode,
      buffers: { ...buffers, w_enc: wEnc },
      params: encodeParams({ nTokens, dModel, dSae }, { begin, end }),
      workgroups: encodeWorkgroups({ nTokens, nLatents: end - begin }),
    }));
    if (this.#programs.select) {
      buffers.thresholds = await this.#scratch.storage("thresholds", 8 * nTokens);
      dispatches.push({ program: this.#programs.select, buffers, workgroups: [nTokens] });
    }
    return { dispatches, buffers, nTokens };
  }

  async #encodeChunk(x: Float32Array): Promise<{ counts: Uint32Array; indices: Uint32Array; values: Float32Array }> {
    const { dispatches, buffers, nTokens } = await this.#preActivations(x);
    buffers.counts = await this.#scratch.storage("counts", 4 * nTokens);
    dispatches.push({ program: this.#programs.count, buffers, workgroups: [nTokens] });
    await this.#gpu.run("encode", dispatches);
    const [countBytes] = await this.#read([{ buffer: buffers.counts, bytes: 4 * nTokens }]);

    const counts = new Uint32Array(countBytes);
    const offsets = new Uint32Array(nTokens);
    for (let t = 1; t < nTokens; t++) offsets[t] = offsets[t - 1] + counts[t - 1];
    const bytes = 4 * (offsets[nTokens - 1] + counts[nTokens - 1]);
    if (bytes === 0) return { counts, indices: new Uint32Array(0), values: new Float32Array(0) };
    buffers.offsets = await this.#scratch.storage("offsets", 4 * nTokens);
    buffers.indices = await this.#scratch.storage("indices", bytes);
    buffers.values = await this.#scratch.storage("values", bytes);
    this.#gpu.write(buffers.offsets, offsets);
    await this.#gpu.run("compact", [{ program: this.#programs.write, buffers, workgroups: [nTokens] }]);
    const [indices, values] = await this.#read([
      { buffer: buffers.indices, bytes },
      { buffer: buffers.values, bytes },
    ]);
    return { counts, indices: new Uint32Array(indices), values: new Float32Array(values) };
  }

  async #decodeChunk(latents: Pick<SparseLatents, "offsets" | "indices" | "values">): Promise<Float32Array> {
    const { offsets, indices, values } = latents;
    const nTokens = offsets.length - 1;
    const bytes = 4 * nTokens * this.dModel;
    const buffers: Record<string, GPUBuffer> = {
      offsets: await this.#scratch.storage("offsets", offsets.byteLength),
      indices: await this.#scratch.storage("indices", indices.byteLength),
      values: await this.#scratch.storage("values", values.byteLength),
      x_hat: await this.#scratch.storage("x_hat", bytes),
      b_dec: this.#weights.bDec,
    };
    this.#gpu.write(buffers.offsets, offsets);
    this.#gpu.write(buffers.indices, indices);
    this.#gpu.write(buffers.values, values);
    await this.#gpu.run(
      "decode",
      this.#weights.panels.map(({ begin, end, wDec }) => ({
        program: this.#programs.decode,
        buffers: { ...buffers, w_dec: wDec },
        params: [begin, end],
        workgroups: [nTokens],
      })),
    );
    const [decoded] = await this.#read([{ buffer: buffers.x_hat, bytes }]);
    return new Float32Array(decoded);
  }

  async #read(parts: { buffer: GPUBuffer; bytes: number }[]): Promise<ArrayBuffer[]> {
    const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    return await this.#gpu.read(parts, { staging: await this.#scratch.staging(total) });
  }

  /** Runs `body` when the batches before it are done, and only if the SAE and its device are still there. */
  #inTurn<T>(action: string, body: () => Promise<T>): Promise<T> {
    if (this.#disposed) {
      return Promise.reject(new Error(`Cannot ${action}: SAE must be loaded, current state is disposed`));
    }
    const turn = this.#last.then(() => {
      this.#gpu.assertUsable(action);
      return body();
    });
    this.#last = turn.catch(() => {}); // the failure belongs to its caller, not to the next in line
    return turn;
  }
}
