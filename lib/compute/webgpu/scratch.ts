/**
 * Buffers that are reused from batch to batch: each has a name, is made when first asked for, and is replaced by a
 * larger one when a batch needs more.
 *
 * @module
 */
import { BufferUsage, type GpuDevice } from "./device.ts";

const STORAGE = BufferUsage.storage | BufferUsage.copySource | BufferUsage.copyDestination;
const STAGING = BufferUsage.mapRead | BufferUsage.copyDestination;

/** Named, growing buffers of one owner, who must not use them from two batches at once. */
export class ScratchBuffers {
  readonly #gpu: GpuDevice;
  readonly #buffers = new Map<string, GPUBuffer>();

  constructor(gpu: GpuDevice) {
    this.#gpu = gpu;
  }

  /** A buffer kernels can read and write. What it holds is undefined. */
  storage(name: string, bytes: number): Promise<GPUBuffer> {
    return this.#get(name, { bytes, usage: STORAGE });
  }

  /** A buffer results pass through on their way to the host. */
  staging(bytes: number): Promise<GPUBuffer> {
    return this.#get("staging", { bytes, usage: STAGING });
  }

  /** Frees them all. */
  dispose(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy();
    this.#buffers.clear();
  }

  async #get(name: string, options: { bytes: number; usage: number }): Promise<GPUBuffer> {
    const current = this.#buffers.get(name);
    if (current && current.size >= options.bytes) return current;
    current?.destroy();
    this.#buffers.delete(name);
    const made = await this.#gpu.createBuffer(name, options);
    this.#buffers.set(name, made);
    return made;
  }
}
