/**
 * The device under the WebGPU back end: opening it, compiling kernels, running them in order and reading results back.
 * Nothing here knows what an SAE is. Every failure becomes an ordinary error at the call that caused it; without that a
 * WebGPU mistake is a line on a console, and numbers that are all zero.
 *
 * @module
 */
import type { Kernel } from "./kernel.ts";

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
  readonly #programs = new Map<string, Promise<Program>>();
  #unusable: string | undefined;

  private constructor(device: GPUDevice) {
    this.#device = device;
    device.lost.then(({ reason, message }) => {
      this.#unusable ??= `lost (${message || reason})`;
    });
  }

  /** Opens the device of an adapter with the largest buffers the adapter has. An adapter can be opened only once. */
  static async open(adapter: GPUAdapter): Promise<GpuDevice> {
    const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
    const device = await adapter.requestDevice({
      label: "sparsight",
      requiredLimits: { maxStorageBufferBindingSize, maxBufferSize },
    });
    return new GpuDevice(device);
  }

  /** Largest buffer, in bytes, that a kernel can see whole. */
  get maxBindingBytes(): number {
    return Math.min(this.#device.limits.maxStorageBufferBindingSize, this.#device.limits.maxBufferSize);
  }

  /** Throws if the device is lost or closed. `action` is what cannot be done then: `"encode batch"`. */
  assertUsable(action: string): void {
    if (this.#unusable) {
      throw new Error(`Cannot ${action}: WebGPU device must be open, current state is ${this.#unusable}`);
    }
  }

  /** Frees the device and everything on it. */
  close(): void {
    this.#unusable ??= "closed";
    this.#device.destroy();
  }

  /** Compiles a kernel, or takes it from what was compiled before. */
  compile(kernel: Kernel): Promise<Program> {
    const known = this.#programs.get(kernel.code);
    if (known) return known;
    const program = this.#compile(kernel);
    this.#programs.set(kernel.code, program);
    // A failure is reported to whoever asked, and not kept.
    program.catch(() => this.#programs.delete(kernel.code));
    return program;
  }

  async #compile(kernel: Kernel): Promise<Program> {
    const { label, code } = kernel;
    this.#device.pushErrorScope("validation");
    const module = this.#device.createShaderModule({ label, code });
    const scope = this.#device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    const failure = await scope;
    const errors = messages.filter(({ type }) => type === "error");
    if (failure || errors.length > 0) {
      const lines = errors.map(({ lineNum, linePos, message }) => `${lineNum}:${linePos} ${message}`);
      throw new SyntaxError(
        `Cannot compile kernel "${label}": WGSL must be valid, current messages are\n` +
          `${lines.join("\n") || failure?.message}\n\n${numberLines(code)}`,
      );
    }
    const pipeline = await this.#checked(
      `compile kernel "${label}"`,
      () => this.#device.createComputePipeline({ label, layout: "auto", compute: { module, entryPoint: "main" } }),
    );
    return { kernel, pipeline };
  }

  /** Makes a buffer of at least `bytes` bytes. */
  createBuffer(label: string, options: { bytes: number; usage: number }): Promise<GPUBuffer> {
    const size = Math.max(16, Math.ceil(options.bytes / 4) * 4);
    return this.#checked(
      `make buffer "${label}" of ${size} bytes`,
      () => this.#device.createBuffer({ label, size, usage: options.usage }),
    );
  }

  /** Makes a buffer of `length` f32 and lets `fill` write them straight into the memory that is sent to the device. */
  uploadFloats(
    label: string,
    options: { length: number; fill: (destination: Float32Array) => void },
  ): Promise<GPUBuffer> {
    const size = Math.max(16, options.length * 4);
    return this.#checked(`make buffer "${label}" of ${size} bytes`, () => {
      const buffer = this.#device.createBuffer({ label, size, usage: BufferUsage.storage, mappedAtCreation: true });
      options.fill(new Float32Array(buffer.getMappedRange(), 0, options.length));
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

  /** Runs kernels one after the other; each sees what the ones before it wrote. */
  async run(label: string, dispatches: Dispatch[]): Promise<void> {
    const uniforms: GPUBuffer[] = [];
    await this.#checked(`run ${label}`, () => {
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

  /** Copies the start of each buffer back, through `staging`, which must be large enough for all of them. */
  async read(
    parts: { buffer: GPUBuffer; bytes: number }[],
    options: { staging: GPUBuffer },
  ): Promise<ArrayBuffer[]> {
    const { staging } = options;
    const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    if (total === 0) return parts.map(() => new ArrayBuffer(0));
    await this.#checked("read results", () => {
      const encoder = this.#device.createCommandEncoder({ label: "read results" });
      let offset = 0;
      for (const { buffer, bytes } of parts) {
        if (bytes > 0) encoder.copyBufferToBuffer(buffer, 0, staging, offset, bytes);
        offset += bytes;
      }
      this.#device.queue.submit([encoder.finish()]);
    });
    try {
      await staging.mapAsync(MAP_MODE_READ, 0, total);
    } catch (cause) {
      this.assertUsable("read results");
      throw cause;
    }
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

  /**
   * Runs `body` and throws what WebGPU would have reported elsewhere. `body` is synchronous, so that the error scopes of
   * concurrent calls, which share one stack, never interleave.
   */
  async #checked<T>(action: string, body: () => T): Promise<T> {
    this.assertUsable(action);
    this.#device.pushErrorScope("out-of-memory");
    this.#device.pushErrorScope("validation");
    let result: T;
    let scopes: Promise<GPUError | null>[];
    try {
      result = body();
    } finally {
      scopes = [this.#device.popErrorScope(), this.#device.popErrorScope()];
    }
    const [invalid, outOfMemory] = await Promise.all(scopes);
    this.assertUsable(action);
    if (outOfMemory) throw new RangeError(`Cannot ${action}: it must fit in GPU memory (${outOfMemory.message})`);
    if (invalid) throw new Error(`Cannot ${action}: WebGPU call must be valid (${invalid.message})`);
    return result;
  }
}

function numberLines(code: string): string {
  return code.split("\n").map((line, i) => `${String(i + 1).padStart(4)}  ${line}`).join("\n");
}
