/**
 * An SAE on a WebGPU device. A batch goes through in chunks, so that the dense pre-activations of a chunk fit a scratch
 * buffer of fixed size. Two chunks are under way at once, of one batch or of several: while the results of one travel
 * to the host, the device computes the next and the host uploads the one after.
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
import { chunks, chunkTokens, type WebGpuLimits } from "./batches.ts";
import {
  type ChunkLatents,
  decodeChunk,
  encodeChunk,
  imageMaximaChunk,
  type SaeOnDevice,
  type Workplace,
} from "./chunk.ts";
import type { GpuDevice } from "./device.ts";
import { inHalves, type Range } from "./halving.ts";
import { freeWeights, uploadWeights } from "./panels.ts";
import { Pool, settleAll } from "./pool.ts";
import { compilePrograms, type KernelOptions } from "./programs.ts";
import { Readback, ScratchBuffers } from "./scratch.ts";
import { mayFitInParts } from "./watch.ts";

/** Chunks under way on the device at once. */
const N_LANES = 2;

/**
 * Compiles the kernels of an SAE and copies its weights to the device.
 *
 * @throws {GpuFailure} If the device is gone or has too little memory.
 */
export async function loadWebGpuSae(
  gpu: GpuDevice,
  weights: TokenWeights,
  options: { limits: WebGpuLimits; kernels: KernelOptions },
): Promise<WebGpuSae> {
  const { limits, kernels } = options;
  gpu.assertUsable("load SAE");
  const programs = await compilePrograms(gpu, weights, kernels);
  const { precision, tile } = kernels;
  const onDevice = await uploadWeights(gpu, weights, { maxBytes: limits.maxBindingBytes, precision });
  const { dModel, dSae } = weights;
  return new WebGpuSae({ gpu, dModel, dSae, weights: onDevice, programs, tile, readback: new Readback(gpu) }, limits);
}

/** Made by {@linkcode loadWebGpuSae}. */
export class WebGpuSae implements LoadedSae {
  readonly dModel: number;
  readonly dSae: number;
  readonly #sae: SaeOnDevice;
  readonly #lanes: Pool<ScratchBuffers>;
  /** Most latents of a chunk that is decoded. */
  readonly #maxEntries: number;
  /** Tokens whose pre-activations fit the scratch buffer of a lane; becomes less where memory turns out to be short. */
  #chunkTokens: number;
  /** Batches that have not ended. */
  readonly #underWay = new Set<Promise<unknown>>();
  #disposed = false;

  constructor(sae: SaeOnDevice, limits: WebGpuLimits) {
    const { gpu, dModel, dSae } = sae;
    const perLane = { ...limits, scratchBytes: limits.scratchBytes / N_LANES };
    this.dModel = dModel;
    this.dSae = dSae;
    this.#sae = sae;
    this.#lanes = new Pool(Array.from({ length: N_LANES }, () => new ScratchBuffers(gpu)));
    this.#maxEntries = Math.floor(Math.min(perLane.scratchBytes, limits.maxBindingBytes) / 4);
    this.#chunkTokens = chunkTokens(sae, perLane);
  }

  /** Latents of a batch. See {@linkcode LoadedSae.encode}. */
  async encode(x: Float32Array): Promise<SparseLatents> {
    const nTokens = countTokens(x, this);
    const parts = await this.#whileLoaded(
      "encode batch",
      () =>
        this.#inChunks(
          chunks(nTokens, this.#chunkTokens),
          ({ begin, end }) =>
            this.#onLane((place) => encodeChunk(this.#sae, place, x.subarray(begin * this.dModel, end * this.dModel))),
        ),
    );
    return joinLatents(parts, { nTokens, dSae: this.dSae });
  }

  /** Maxima over whole images. See {@linkcode LoadedSae.imageMaxima}. */
  async imageMaxima(x: Float32Array, options: { tokensPerImage: number }): Promise<ImageMaxima> {
    const { tokensPerImage } = options;
    const { dModel, dSae } = this;
    const nImages = countImages(x, { dModel, tokensPerImage });
    const values = new Float32Array(nImages * dSae);
    const tokens = new Int32Array(nImages * dSae);
    await this.#whileLoaded("encode images", () => {
      const imagesAtOnce = Math.max(1, Math.floor(this.#chunkTokens / tokensPerImage));
      return this.#inChunks(chunks(nImages, imagesAtOnce), async ({ begin, end }) => {
        const images = x.subarray(begin * tokensPerImage * dModel, end * tokensPerImage * dModel);
        const maxima = await this.#maximaOf(images, end - begin);
        values.set(maxima.values, begin * dSae);
        tokens.set(maxima.tokens, begin * dSae);
      }, tokensPerImage);
    });
    return { nImages, dSae, values, tokens };
  }

  /** Reconstructions. See {@linkcode LoadedSae.decode}. */
  async decode(latents: SparseLatents): Promise<Float32Array> {
    const { nTokens, offsets, indices, values } = checkSparseLatents(latents, this);
    const out = new Float32Array(nTokens * this.dModel);
    await this.#whileLoaded("decode latents", () => {
      const sparse = { offsets, maxEntries: this.#maxEntries };
      return this.#inChunks(chunks(nTokens, this.#chunkTokens, sparse), async ({ begin, end }) => {
        const entries = [offsets[begin], offsets[end]] as const;
        const decoded = await this.#onLane((place) =>
          decodeChunk(this.#sae, place, {
            offsets: offsets.slice(begin, end + 1).map((offset) => offset - entries[0]),
            indices: indices.subarray(...entries),
            values: values.subarray(...entries),
          })
        );
        out.set(decoded, begin * this.dModel);
      });
    });
    return out;
  }

  /** Frees the weights on the device, once the batches before it are done. Further calls do nothing. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled(this.#underWay);
    for (const scratch of this.#lanes.items) scratch.dispose();
    this.#sae.readback.dispose();
    freeWeights(this.#sae.weights);
  }

  /** Maxima of some images; of a single one in ever smaller parts, until they fit in the device's memory. */
  async #maximaOf(x: Float32Array, nImages: number): Promise<Pick<ImageMaxima, "values" | "tokens">> {
    const tokensPerImage = x.length / this.dModel / nImages;
    const most = nImages === 1 ? Math.min(this.#chunkTokens, tokensPerImage) : 1;
    for (let partTokens = most;; partTokens = Math.ceil(partTokens / 2)) {
      const place = (workplace: Workplace) => imageMaximaChunk(this.#sae, workplace, { x, nImages, partTokens });
      if (partTokens === 1) return await this.#onLane(place);
      try {
        return await this.#onLane(place);
      } catch (cause) {
        if (!mayFitInParts(cause)) throw cause;
        this.#chunkTokens = Math.min(this.#chunkTokens, Math.ceil(partTokens / 2));
      }
    }
  }

  /** Runs `work` on each chunk, two at once, or on its parts where memory is short. */
  async #inChunks<T>(cut: Iterable<Range>, work: (chunk: Range) => Promise<T>, tokensEach = 1): Promise<T[]> {
    const memory = {
      fits: (size: number) => size * tokensEach <= this.#chunkTokens,
      onTooMuch: (size: number) => {
        this.#chunkTokens = Math.min(this.#chunkTokens, Math.ceil((size * tokensEach) / 2));
      },
    };
    return (await settleAll([...cut].map((chunk) => inHalves(chunk, work, memory)))).flat();
  }

  /** Runs `body` in scratch buffers of its own. */
  #onLane<T>(body: (place: Workplace) => Promise<T>): Promise<T> {
    return this.#lanes.use(async (scratch, giveBack) => {
      let mine = true;
      const free = () => {
        mine = false;
        giveBack();
      };
      try {
        return await body({ scratch, free });
      } catch (cause) {
        if (mine) scratch.dispose(); // most likely there was no room for all of it
        throw cause;
      }
    });
  }

  /** Runs `body` if the SAE and its device are still there, and has `dispose` wait for it. */
  async #whileLoaded<T>(action: string, body: () => Promise<T>): Promise<T> {
    if (this.#disposed) throw new Error(`Cannot ${action}: SAE must be loaded, current state is disposed`);
    this.#sae.gpu.assertUsable(action);
    const underWay = body();
    this.#underWay.add(underWay);
    try {
      return await underWay;
    } finally {
      this.#underWay.delete(underWay);
    }
  }
}

function joinLatents(parts: ChunkLatents[], shape: { nTokens: number; dSae: number }): SparseLatents {
  const { nTokens, dSae } = shape;
  const offsets = new Uint32Array(nTokens + 1);
  let token = 0;
  for (const { counts } of parts) {
    for (const count of counts) offsets[token + 1] = offsets[token++] + count;
  }
  const indices = new Uint32Array(offsets[nTokens]);
  const values = new Float32Array(offsets[nTokens]);
  let entry = 0;
  for (const part of parts) {
    indices.set(part.indices, entry);
    values.set(part.values, entry);
    entry += part.indices.length;
  }
  return { nTokens, dSae, offsets, indices, values };
}
