/**
 * How a WebGPU device fails, and how that reaches the call that caused it. WebGPU itself reports a mistake on a console
 * and goes on with numbers that are all zero, and a lost device may never answer at all; here both become an error with
 * a reason, so that a caller can tell what is worth another try (https://www.w3.org/TR/webgpu/#errors-and-debugging).
 *
 * @module
 */

/**
 * Why a call failed: the device is `lost` (unplugged, reset, destroyed) or was `closed` by its owner, it has too little
 * `memory`, or WebGPU finds the call `invalid`.
 */
export type GpuFailureReason = "lost" | "closed" | "memory" | "invalid";

/** An error of the device, as opposed to one of the caller. */
export class GpuFailure extends Error {
  /** What went wrong. */
  readonly reason: GpuFailureReason;

  /** Made where a WebGPU call failed for `reason`. */
  constructor(reason: GpuFailureReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Whether less work at once may help: WebGPU may also call a buffer invalid that is too large for the device. */
export function mayFitInParts(cause: unknown): boolean {
  return cause instanceof GpuFailure && (cause.reason === "memory" || cause.reason === "invalid");
}

/** Watches over the calls of one device. */
export class GpuWatch {
  readonly #device: GPUDevice;
  /** Set once, by whatever comes first. */
  #gone: { reason: "lost" | "closed"; state: string } | undefined;
  /** Told when the device is gone. */
  readonly #waiting = new Set<() => void>();

  constructor(device: GPUDevice) {
    this.#device = device;
    device.lost.then(({ reason, message }) => this.#leave("lost", `lost (${message || reason || "unknown"})`));
  }

  /** Throws if the device is lost or closed. `action` is what cannot be done then: `"encode batch"`. */
  assertUsable(action: string): void {
    if (this.#gone) throw this.#goneFailure(action);
  }

  /** Says that the owner has given the device up. */
  close(): void {
    this.#leave("closed", "closed");
  }

  /**
   * Runs `body` and throws what WebGPU would have reported elsewhere. `body` is synchronous, so that the error scopes of
   * concurrent calls, which share one stack, never interleave. It has run when this returns its promise.
   *
   * @throws {GpuFailure} If the device finds fault with a call of `body`.
   */
  async checked<T>(action: string, body: () => T): Promise<T> {
    this.assertUsable(action);
    this.#device.pushErrorScope("out-of-memory");
    this.#device.pushErrorScope("validation");
    let outcome: { result: T } | { cause: unknown };
    try {
      outcome = { result: body() };
    } catch (cause) {
      outcome = { cause };
    }
    const scopes = [this.#device.popErrorScope(), this.#device.popErrorScope()];
    const [invalid, outOfMemory] = await Promise.all(scopes.map((scope) => scope.catch(() => null)));
    if (outOfMemory || invalid || "cause" in outcome) await settle();
    this.assertUsable(action);
    if (outOfMemory) {
      throw new GpuFailure("memory", `Cannot ${action}: it must fit in GPU memory (${outOfMemory.message})`);
    }
    if (invalid) throw new GpuFailure("invalid", `Cannot ${action}: WebGPU call must be valid (${invalid.message})`);
    if ("cause" in outcome) throw outcome.cause;
    return outcome.result;
  }

  /**
   * What `answer` resolves to, or a failure as soon as the device is gone: answers of a lost device may never come.
   *
   * @throws {GpuFailure} If the device is gone before the answer is there.
   */
  async answered<T>(action: string, answer: Promise<T>): Promise<T> {
    this.assertUsable(action);
    let leave = () => {};
    const gone = new Promise<never>((_, reject) => leave = () => reject(this.#goneFailure(action)));
    this.#waiting.add(leave);
    try {
      const result = await Promise.race([answer, gone]);
      this.assertUsable(action);
      return result;
    } catch (cause) {
      await settle();
      this.assertUsable(action);
      throw cause;
    } finally {
      this.#waiting.delete(leave);
    }
  }

  #leave(reason: "lost" | "closed", state: string): void {
    this.#gone ??= { reason, state };
    for (const leave of this.#waiting) leave();
  }

  #goneFailure(action: string): GpuFailure {
    const { reason, state } = this.#gone!;
    return new GpuFailure(reason, `Cannot ${action}: WebGPU device must be open, current state is ${state}`);
  }
}

/** Lets the news of a lost device arrive, which comes a moment after the first call that suffers from it. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
