/**
 * Memory of a trainer on a GPU: matrices that stay, and buffers of one batch that are written anew each time.
 *
 * @module
 */
import { padRows } from "../../compute/webgpu/batches.ts";
import { BufferUsage, type Dispatch, type GpuDevice } from "../../compute/webgpu/device.ts";
import { padToVec4 } from "../../compute/webgpu/kernel.ts";
import { Readback, ScratchBuffers } from "../../compute/webgpu/scratch.ts";

const STORAGE = BufferUsage.storage | BufferUsage.copySource | BufferUsage.copyDestination;

/** Numbers as they come back from the device. */
export interface Part {
  readonly buffer: GPUBuffer;
  /** How many numbers of 32 bits. */
  readonly length: number;
}

/** What a trainer may take of a device. */
export interface TrainMemoryLimits {
  /** Largest buffer, in bytes. @default the device's */
  maxBytes?: number;
  /** Bytes for the dense pre-activations of the tokens that are encoded at once. @default {268435456} */
  scratchBytes?: number;
}

/** Memory on one device. */
export class TrainMemory {
  /** The device. */
  readonly gpu: GpuDevice;
  /** Numbers of a matrix row. */
  readonly dModel: number;
  /** Length of such a row on the device, in vec4. */
  readonly pitch: number;
  /** Largest buffer, in bytes. */
  readonly maxBytes: number;
  /** Bytes for dense pre-activations. */
  readonly scratchBytes: number;
  readonly #matrices: GPUBuffer[] = [];
  readonly #scratch: ScratchBuffers;
  readonly #readback: Readback;

  constructor(gpu: GpuDevice, options: TrainMemoryLimits & { dModel: number }) {
    const { dModel, maxBytes = Infinity, scratchBytes = 256 * 2 ** 20 } = options;
    this.gpu = gpu;
    this.dModel = dModel;
    this.pitch = padToVec4(dModel) / 4;
    this.maxBytes = Math.min(maxBytes, gpu.maxBindingBytes);
    this.scratchBytes = scratchBytes;
    this.#scratch = new ScratchBuffers(gpu);
    this.#readback = new Readback(gpu);
  }

  /** Throws a RangeError with the remedy where no buffer of the device is large enough. */
  assertFits(what: string, { bytes, remedy }: { bytes: number; remedy: string }): void {
    if (bytes <= this.maxBytes) return;
    throw new RangeError(
      `Cannot train SAE on WebGPU: ${what} must fit a buffer of ${inMebibytes(this.maxBytes)}, it needs ` +
        `${inMebibytes(bytes)}; ${remedy}, or use backend cpu`,
    );
  }

  /**
   * A matrix that stays, shape `[nRows, dModel]`, of zeros or with numbers.
   *
   * @throws {RangeError} If no buffer of the device is large enough.
   */
  async matrix(label: string, contents: { nRows: number } | Float32Array): Promise<GPUBuffer> {
    const nRows = contents instanceof Float32Array ? contents.length / this.dModel : contents.nRows;
    const bytes = 16 * this.pitch * nRows;
    this.assertFits(label, { bytes, remedy: "choose a smaller dSae" });
    const buffer = await this.gpu.createBuffer(label, { bytes, usage: STORAGE });
    this.#matrices.push(buffer);
    if (contents instanceof Float32Array) this.gpu.write(buffer, padRows(contents, this.dModel));
    return buffer;
  }

  /**
   * Room for `length` numbers of 32 bits until it is asked for by that name again; what it holds is not defined.
   *
   * @throws {RangeError} If no buffer of the device is large enough.
   */
  async room(name: string, length: number): Promise<GPUBuffer> {
    const bytes = 4 * length;
    this.assertFits(`${name} of a batch`, { bytes, remedy: "choose a smaller batchSize" });
    // Powers of 2, so that a list whose length varies finds room most of the time.
    return await this.#scratch.storage(name, Math.min(2 ** Math.ceil(Math.log2(Math.max(bytes, 16))), this.maxBytes));
  }

  /** Copies numbers to the device, where they stay until that name is put again. */
  async put(name: string, numbers: Float32Array | Uint32Array): Promise<GPUBuffer> {
    const buffer = await this.room(name, numbers.length);
    this.gpu.write(buffer, numbers);
    return buffer;
  }

  /** The same with rows of `dModel` numbers. */
  putRows(name: string, rows: Float32Array): Promise<GPUBuffer> {
    return this.put(name, padRows(rows, this.dModel));
  }

  /** Runs kernels one after the other, but for those that have nothing to do. */
  run(label: string, dispatches: readonly Dispatch[]): Promise<void> {
    return this.gpu.run(label, dispatches.filter(({ workgroups: [x, y = 1] }) => x * y > 0));
  }

  /** Copies the starts of buffers to the host. */
  async read(parts: readonly Part[]): Promise<ArrayBuffer[]> {
    return await this.#readback.read(parts.map(({ buffer, length }) => ({ buffer, bytes: 4 * length })));
  }

  /** A matrix as the host has it. */
  async readMatrix(buffer: GPUBuffer, nRows: number): Promise<Float32Array> {
    const { dModel, pitch } = this;
    const [bytes] = await this.read([{ buffer, length: 4 * pitch * nRows }]);
    const padded = new Float32Array(bytes);
    if (4 * pitch === dModel) return padded;
    const matrix = new Float32Array(nRows * dModel);
    for (let row = 0; row < nRows; row++) {
      matrix.set(padded.subarray(4 * pitch * row, 4 * pitch * row + dModel), row * dModel);
    }
    return matrix;
  }

  /** Frees it all. */
  dispose(): void {
    for (const matrix of this.#matrices) matrix.destroy();
    this.#scratch.dispose();
    this.#readback.dispose();
  }
}

function inMebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
