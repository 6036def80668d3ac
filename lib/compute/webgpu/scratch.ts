/**
 * Buffers that are reused from batch to batch. Those that kernels work on belong to one chunk at a time; those that
 * results pass through on their way to the host are apart, so that a chunk whose results are on their way leaves its
 * scratch to the next one.
 *
 * @module
 */
import { BufferUsage, type GpuDevice } from "./device.ts";
import { Pool } from "./pool.ts";

const STORAGE = BufferUsage.storage | BufferUsage.copySource | BufferUsage.copyDestination;
const STAGING = BufferUsage.mapRead | BufferUsage.copyDestination;

/** Results under way at once: of two chunks on the device, and of one that the host is copying. */
const N_STAGING = 3;

/** Named, growing buffers of one owner, who must not use them from two chunks at once. */
export class ScratchBuffers {
  readonly #gpu: GpuDevice;
  readonly #buffers = new Map<string, GPUBuffer>();

  constructor(gpu: GpuDevice) {
    this.#gpu = gpu;
  }

  /**
   * A buffer kernels can read and write, replaced by a larger one where it is too small. What it holds is undefined.
   *
   * @throws {GpuFailure} If it does not fit in the device's memory.
   */
  storage(name: string, bytes: number): Promise<GPUBuffer> {
    return this.#get(name, { bytes, usage: STORAGE });
  }

  /** A buffer results can be copied to and mapped from. */
  staging(bytes: number): Promise<GPUBuffer> {
    return this.#get("staging", { bytes, usage: STAGING });
  }

  /** Frees them all; they may be asked for again. */
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

/** The way of results to the host. */
export class Readback {
  readonly #gpu: GpuDevice;
  readonly #staging: Pool<ScratchBuffers>;

  constructor(gpu: GpuDevice) {
    this.#gpu = gpu;
    this.#staging = new Pool(Array.from({ length: N_STAGING }, () => new ScratchBuffers(gpu)));
  }

  /**
   * Copies the start of each buffer to the host. `onSubmitted` is called as soon as the buffers may be overwritten, long
   * before the bytes are there.
   */
  read(parts: { buffer: GPUBuffer; bytes: number }[], onSubmitted: () => void = () => {}): Promise<ArrayBuffer[]> {
    const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    return this.#staging.use(async (scratch) => {
      try {
        const arriving = this.#gpu.read(parts, { staging: await scratch.staging(total) });
        onSubmitted();
        return await arriving;
      } catch (cause) {
        scratch.dispose(); // it may still be mapped, or be what was too large
        throw cause;
      }
    });
  }

  /** Frees the staging buffers. */
  dispose(): void {
    for (const scratch of this.#staging.items) scratch.dispose();
  }
}
