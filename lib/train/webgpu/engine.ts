/**
 * The engine on a GPU: parameters, gradients and what the optimizer remembers stay there. Three times a step the host
 * waits for numbers: for the entries, for their slopes, and for the norm of the gradients.
 *
 * Sums have a fixed order and there are no atomic additions of floats, so a run on one adapter gives the same bits each
 * time, also one that was stopped and has gone on.
 *
 * @module
 */
import type { Dispatch, GpuDevice } from "../../compute/webgpu/device.ts";
import type { Engine, EngineOptions } from "../engine.ts";
import { sortByLatent } from "../entries.ts";
import { vectorsOf } from "../parameters.ts";
import type { Entries } from "../select.ts";
import { openDeviceAdam } from "./adam.ts";
import { encodeOnDevice } from "./encode.ts";
import { DeviceGradients, type DevicePiece } from "./gradients.ts";
import { TrainMemory, type TrainMemoryLimits } from "./memory.ts";
import { openDeviceMuon } from "./muon.ts";
import { compileTrainPrograms } from "./programs.ts";
import { groupGrid, indicesWhere } from "./rows.ts";

// Of recipes whose batches can be split: a piece's pre-activations fit 64 MiB, and so does a list of all of them.
const NUMBERS_AT_ONCE = 2 ** 24;
/** Bias of what fills a list of latents up: below any number that is not made to be. */
const NEVER_ACTIVE = -3e38;

/** Where to train. */
export interface WebGpuEngineOptions extends TrainMemoryLimits {
  /** The device. It stays open when the engine is closed. */
  gpu: GpuDevice;
  /** Name of it, for people. */
  device: string;
}

/**
 * Opens an engine on a GPU.
 *
 * @throws {RangeError} If a matrix is larger than the device's largest buffer.
 * @throws {GpuFailure} If the device is gone or has too little memory.
 */
export async function openWebGpuEngine(options: EngineOptions, where: WebGpuEngineOptions): Promise<Engine> {
  const { dModel, dSae, parameters, subtractBDec, optimizer: settings, optimizerState, batch } = options;
  const { gpu, device, ...limits } = where;
  const memory = new TrainMemory(gpu, { ...limits, dModel });
  if (batch) {
    const bytes = 16 * memory.pitch * batch.nTokens * batch.nPrefixes;
    memory.assertFits("slopes of a batch", { bytes, remedy: "choose a smaller batchSize or fewer prefixes" });
  }
  const programs = await compileTrainPrograms(gpu);
  const vectors = vectorsOf(parameters);
  const matrices = {
    wEnc: await memory.matrix("wEnc", parameters.wEnc),
    wDec: await memory.matrix("wDec", parameters.wDec),
    gEnc: await memory.matrix("gradient of wEnc", { nRows: dSae }),
    gDec: await memory.matrix("gradient of wDec", { nRows: dSae }),
  };
  const gradients = new DeviceGradients({ memory, programs, matrices }, vectors);
  const moving = { memory, matrices, vectors, settings };
  const optimizer = settings.kind === "muon"
    ? await openDeviceMuon(moving, optimizerState)
    : await openDeviceAdam(moving, optimizerState?.adam);
  let piece: DevicePiece;

  return {
    kind: "webgpu",
    device,
    vectors,
    numbersAtOnce: NUMBERS_AT_ONCE,
    async normalizeDecoder(rows) {
      const moved = indicesWhere(dSae, (latent) => rows === "all" || optimizer.isAwake(latent));
      const list = await memory.put("rows to normalize", moved);
      await memory.run("normalize decoder", [{
        program: programs.normalize,
        buffers: { list, matrix: matrices.wDec },
        params: [moved.length, memory.pitch],
        workgroups: groupGrid(moved.length),
      }]);
    },
    begin: () => gradients.begin(),
    async encode(target, selection) {
      const { before, ...placed } = await place(target);
      piece = placed;
      const nTokens = target.length / dModel;
      const job = { memory, encoded: piece.encoded, nTokens, wEnc: matrices.wEnc, bias: vectors.bEnc, before };
      return sortByLatent(await encodeOnDevice(job, selection), { dSae });
    },
    async encodeSome(latents, { k, relu }) {
      // Kernels know the number of latents: rounded up to a power of 2, only a few numbers come up in a run.
      const width = Math.min(dSae, Math.max(64, 2 ** Math.ceil(Math.log2(latents.length))));
      const some = new Uint32Array(width);
      some.set(latents);
      const bias = Float32Array.from(some, (latent, i) => i < latents.length ? vectors.bEnc[latent] : NEVER_ACTIVE);
      const nTokens = piece.target.length / dModel;
      const job = { memory, encoded: piece.encoded, nTokens, wEnc: matrices.wEnc, bias, latents: some };
      const picked = await encodeOnDevice(job, { kind: "topK", k: Math.min(k, width), relu });
      picked.filter((_, entry) => picked.latents[entry] < latents.length);
      return sortByLatent(picked as Entries, { dSae, latentOf: latents });
    },
    addGradients: (terms) => gradients.add(piece, terms),
    finish: ({ removeParallel }) => gradients.finish({ removeParallel, subtractBDec }),
    update: (update) => optimizer.update(gradients, update),
    async parameters() {
      return {
        wEnc: await memory.readMatrix(matrices.wEnc, dSae),
        wDec: await memory.readMatrix(matrices.wDec, dSae),
        ...vectors,
      };
    },
    gradients: () => gradients.read(),
    optimizerState: () => optimizer.state(),
    close() {
      memory.dispose();
      return Promise.resolve();
    },
  };

  /** Brings a piece of a batch to the device; `before` it is encoded, `bDec` may have to be subtracted. */
  async function place(target: Float32Array): Promise<DevicePiece & { before: Dispatch[] }> {
    const onDevice = await memory.putRows("x", target);
    if (!subtractBDec) return { target, onDevice, encoded: onDevice, before: [] };
    const nTokens = target.length / dModel;
    const encoded = await memory.room("encoded", 4 * memory.pitch * nTokens);
    const subtract: Dispatch = {
      program: programs.subtract,
      buffers: { x: onDevice, b_dec: await memory.putRows("b_dec", vectors.bDec), out: encoded },
      params: [nTokens, memory.pitch],
      workgroups: groupGrid(nTokens),
    };
    return { target, onDevice, encoded, before: [subtract] };
  }
}
