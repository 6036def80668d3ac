/**
 * The device under the WebGPU back end: opening it, compiling kernels, running them in order and reading results back.
 * Nothing here knows what an SAE is. Every failure becomes an error at the call that caused it, see `watch.ts`.
 *
 * @module
 */
import { compileKernel } from "./compile.ts";
import type { Kernel } from "./kernel.ts";
import { GpuFailure, GpuWatch } from "./watch.ts";

/** Buffer flags, whose values the WebGPU specification fixes; Node has no `GPUBufferUsage` global. */
export const BufferUsage = {
  mapRead: 0x01,
  copySource: 0x04,
  copyDestination: 0x08,
  uniform: 0x40,
  storage: 0x80,
} as const;

const MAP_MODE_READ = 1;

/** Size of every uniform buffer. */
const PARAMS_BYTES = 32;

/** What an adapter may have beyond what WebGPU promises, by the name of its feature. */
const optionalFeatures = { float16: "shader-f16", subgroups: "subgroups" } as const;

/** Which optional features a device has: numbers of 16 bits in kernels, and sums within a subgroup of invocations. */
export type GpuFeatures = { readonly [Name in keyof typeof optionalFeatures]: boolean };

/** A kernel compiled for the device. */
export interface Program {
  readonly kernel: Kernel;
  readonly pipeline: GPUComputePipeline;
}

/** One kernel of a submission. */
export interface Dispatch {
  program: Program;
  /** A buffer for each of the kernel's bindings but `params`. */
  buffers: Record<string, GPUBuffer>;
  /** Up to eight u32 for the kernel's `params`, if it binds them. */
  params?: number[];
  workgroups: [x: number, y?: number];
}

/** A WebGPU device that reports errors by throwing. */
export class GpuDevice {
  readonly #device: GPUDevice;
  readonly #watch: GpuWatch;
  readonly #programs = new Map<string, Promise<Program>>();
  /** What kernels may be made for. */
  readonly features: GpuFeatures;

  private constructor(device: GPUDevice) {
    this.#device = device;
    this.#watch = new GpuWatch(device);
    this.features = {
      float16: device.features.has(optionalFeatures.float16),
      subgroups: device.features.has(optionalFeatures.subgroups),
    };
  }

  /**
   * Opens the device of an adapter with the largest buffers and all optional features the adapter has. An adapter can be
   * opened only once.
   */
  static async open(adapter: GPUAdapter): Promise<GpuDevice> {
    const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
    const device = await adapter.requestDevice({
      label: "sparsight",
      requiredLimits: { maxStorageBufferBindingSize, maxBufferSize },
      requiredFeatures: Object.values(optionalFeatures).filter((name) => adapter.features.has(name)),
    });
    return new GpuDevice(device);
  }

  /** Largest buffer, in bytes, that a kernel can see whole. */
  get maxBindingBytes(): number {
    return Math.min(this.#device.limits.maxStorageBufferBindingSize, this.#device.limits.maxBufferSize);
  }

  /** Throws if the device is lost or closed. `action` is what cannot be done then: `"encode batch"`. */
  assertUsable(action: string): void {
    this.#watch.assertUsable(action);
  }

  /** Frees the device and everything on it. */
  close(): void {
    this.#watch.close();
    this.#device.destroy();
  }

  /** Compiles a kernel, or takes it from what was compiled before. */
  compile(kernel: Kernel): Promise<Program> {
    const known = this.#programs.get(kernel.code);
    if (known) return known;
    const program = compileKernel(this.#device, { kernel, watch: this.#watch })
      .then((pipeline) => ({ kernel, pipeline }));
    this.#programs.set(kernel.code, program);
    // A failure is reported to whoever asked, and not kept.
    program.catch(() => this.#programs.delete(kernel.code));
    return program;
  }

  /** Makes a buffer of at least `bytes` bytes. */
  createBuffer(label: string, options: { bytes: number; usage: number }): Promise<GPUBuffer> {
    const size = Math.max(16, Math.ceil(options.bytes / 4) * 4);
    return this.#watch.checked(
      `make buffer "${label}" of ${size} bytes`,
      () => this.#device.createBuffer({ label, size, usage: options.usage }),
    );
  }

  /** Makes a buffer of at least `bytes` bytes and lets `fill` write into the very memory that is sent to the device. */
  uploadBytes(label: string, options: { bytes: number; fill: (destination: ArrayBuffer) => void }): Promise<GPUBuffer> {
    const size = Math.max(16, Math.ceil(options.bytes / 4) * 4);
    const action = `make buffer "${label}" of ${size} bytes`;
    return this.#watch.checked(action, () => {
      let buffer: GPUBuffer;
      try {
        buffer = this.#device.createBuffer({ label, size, usage: BufferUsage.storage, mappedAtCreation: true });
      } catch (cause) {
        // What the specification has for host memory that is not to be had, the other half of such a buffer.
        if (!(cause instanceof RangeError)) throw cause;
        throw new GpuFailure("memory", `Cannot ${action}: it must fit in memory (${cause.message})`);
      }
      options.fill(buffer.getMappedRange());
      buffer.unmap();
      return buffer;
    });
  }

  /** Copies `data` to the start of a buffer, before whatever is run next. */
  write(buffer: GPUBuffer, data: Float32Array | Uint32Array): void {
    if (data.length === 0) return; // Deno 2.9 panics on an empty source
    const { buffer: source, byteOffset, byteLength } = data;
    this.#device.queue.writeBuffer(buffer, 0, source as ArrayBuffer, byteOffset, byteLength);
  }

  /**
   * Runs kernels one after the other; each sees what the ones before it wrote. They are handed to the device before the
   * promise is returned, and it resolves when the device has accepted them, not when they are done.
   */
  async run(label: string, dispatches: Dispatch[]): Promise<void> {
    await this.#watch.checked(`run ${label}`, () => {
      const uniforms: GPUBuffer[] = [];
      const encoder = this.#device.createCommandEncoder({ label });
      const pass = encoder.beginComputePass({ label });
      for (const { program, buffers, params, workgroups } of dispatches) {
        const { kernel, pipeline } = program;
        const bound = { ...buffers };
        if (params) uniforms.push(bound.params = this.#uniform(kernel.label, params));
        pass.setPipeline(pipeline);
        pass.setBindGroup(
          0,
          this.#device.createBindGroup({
            label: kernel.label,
            layout: pipeline.getBindGroupLayout(0),
            entries: kernel.bindings.map((name, binding) => ({ binding, resource: { buffer: bound[name] } })),
          }),
        );
        pass.dispatchWorkgroups(...workgroups);
      }
      pass.end();
      this.#device.queue.submit([encoder.finish()]);
      // Freed once the submitted work is done with them.
      for (const uniform of uniforms) uniform.destroy();
    });
  }

  /**
   * Copies the start of each buffer back, through `staging`, which must be large enough for all of them. The copy is
   * handed to the device before the promise is returned: from then on kernels may overwrite the buffers.
   */
  async read(
    parts: { buffer: GPUBuffer; bytes: number }[],
    options: { staging: GPUBuffer },
  ): Promise<ArrayBuffer[]> {
    const { staging } = options;
    const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    if (total === 0) return parts.map(() => new ArrayBuffer(0));
    await this.#watch.checked("read results", () => {
      const encoder = this.#device.createCommandEncoder({ label: "read results" });
      let offset = 0;
      for (const { buffer, bytes } of parts) {
        if (bytes > 0) encoder.copyBufferToBuffer(buffer, 0, staging, offset, bytes);
        offset += bytes;
      }
      this.#device.queue.submit([encoder.finish()]);
    });
    await this.#watch.answered("read results", staging.mapAsync(MAP_MODE_READ, 0, total));
    const range = staging.getMappedRange(0, total);
    let offset = 0;
    const copies = parts.map(({ bytes }) => range.slice(offset, offset += bytes));
    staging.unmap();
    return copies;
  }

  #uniform(label: string, params: number[]): GPUBuffer {
    const usage = BufferUsage.uniform;
    const buffer = this.#device.createBuffer({
      label: `${label} params`,
      size: PARAMS_BYTES,
      usage,
      mappedAtCreation: true,
    });
    new Uint32Array(buffer.getMappedRange()).set(params);
    buffer.unmap();
    return buffer;
  }
}
