/**
 * A WebGPU back end that goes on on the CPU when its device is lost or has too little memory, so that an hour of work
 * does not end with a driver's reset. The batch that failed is done again there: a batch has no effect but its answer,
 * so none is lost and none counts twice.
 *
 * @module
 */
import type { Backend, ImageMaxima, LoadedSae, SaeWeights, SparseLatents } from "./contract.ts";
import { GpuFailure } from "./webgpu/watch.ts";

/** Options of {@linkcode withCpuFallback}. */
export interface CpuFallbackOptions {
  /** Opens the CPU back end; called once, and only if it is needed. */
  openCpu: () => Promise<Backend>;
  /**
   * Told, once, that the CPU has taken over and why.
   *
   * @default {console.warn}
   */
  onWarning?: (message: string) => void;
}

/**
 * A back end that is `gpu` until that fails, and the CPU from then on, for every SAE. It keeps hold of the weights of
 * loaded SAEs, which must not be changed. Errors of the caller are passed on, as is that of a back end that was closed.
 */
export function withCpuFallback(gpu: Backend, options: CpuFallbackOptions): Backend {
  return new FallbackBackend(gpu, options);
}

/** Where SAEs are at present. */
class FallbackBackend implements Backend {
  readonly #gpu: Backend;
  readonly #options: CpuFallbackOptions;
  #now: Backend;
  #moving: Promise<Backend> | undefined;

  constructor(gpu: Backend, options: CpuFallbackOptions) {
    this.#gpu = gpu;
    this.#now = gpu;
    this.#options = options;
  }

  get kind(): "cpu" | "webgpu" {
    return this.#now.kind;
  }

  get device(): string {
    return this.#now.device;
  }

  async load(weights: SaeWeights): Promise<LoadedSae> {
    const load = async (backend: Backend) =>
      new FallbackSae(this, { weights, backend, sae: await backend.load(weights) });
    const backend = await this.current();
    try {
      return await load(backend);
    } catch (cause) {
      return await load(await this.leave(backend, cause));
    }
  }

  async close(): Promise<void> {
    await this.#gpu.close();
    await (await this.#moving?.catch(() => undefined))?.close();
  }

  /** The back end for the next batch. */
  async current(): Promise<Backend> {
    return await (this.#moving ?? this.#gpu);
  }

  /** The back end to go on with after `failed` failed; throws `cause` if going on would not help. */
  async leave(failed: Backend, cause: unknown): Promise<Backend> {
    if (failed !== this.#gpu || !(cause instanceof GpuFailure) || cause.reason === "closed") throw cause;
    this.#moving ??= this.#openCpu(cause);
    return await this.#moving;
  }

  async #openCpu(cause: GpuFailure): Promise<Backend> {
    const { openCpu, onWarning = console.warn } = this.#options;
    this.#now = await openCpu();
    onWarning(`${this.#gpu.device} failed, going on with ${this.#now.device}: ${cause.message}`);
    return this.#now;
  }
}

/** An SAE as it lies on one back end. */
interface Placed {
  backend: Backend;
  sae: LoadedSae;
}

/** An SAE that follows its back end. */
class FallbackSae implements LoadedSae {
  readonly dModel: number;
  readonly dSae: number;
  readonly #home: FallbackBackend;
  readonly #weights: SaeWeights;
  #placed: Promise<Placed>;
  /** Batches that have not ended. */
  readonly #underWay = new Set<Promise<unknown>>();
  /** Ends when the device is rid of the SAE that has left it. */
  #left: Promise<void> = Promise.resolve();

  constructor(home: FallbackBackend, loaded: Placed & { weights: SaeWeights }) {
    const { weights, backend, sae } = loaded;
    this.dModel = sae.dModel;
    this.dSae = sae.dSae;
    this.#home = home;
    this.#weights = weights;
    this.#placed = Promise.resolve({ backend, sae });
  }

  encode(x: Float32Array): Promise<SparseLatents> {
    return this.#run((sae) => sae.encode(x));
  }

  decode(latents: SparseLatents): Promise<Float32Array> {
    return this.#run((sae) => sae.decode(latents));
  }

  imageMaxima(x: Float32Array, options: { tokensPerImage: number }): Promise<ImageMaxima> {
    return this.#run((sae) => sae.imageMaxima(x, options));
  }

  async dispose(): Promise<void> {
    await Promise.allSettled(this.#underWay); // one of them may be about to move the SAE
    await (await this.#placed).sae.dispose();
    await this.#left;
  }

  async #run<T>(batch: (sae: LoadedSae) => Promise<T>): Promise<T> {
    const underWay = this.#followed(batch);
    this.#underWay.add(underWay);
    try {
      return await underWay;
    } finally {
      this.#underWay.delete(underWay);
    }
  }

  async #followed<T>(batch: (sae: LoadedSae) => Promise<T>): Promise<T> {
    let placed = await this.#placed;
    const backend = await this.#home.current();
    if (placed.backend !== backend) placed = await this.#move(placed, backend);
    try {
      return await batch(placed.sae);
    } catch (cause) {
      const next = await this.#home.leave(placed.backend, cause);
      return await batch((await this.#move(placed, next)).sae);
    }
  }

  /** Loads the SAE on another back end, once, however many batches ask for it. */
  async #move(from: Placed, to: Backend): Promise<Placed> {
    const moving = this.#placed = this.#placed.then(async (placed) => {
      if (placed.backend === to) return placed;
      const sae = await to.load(this.#weights);
      this.#left = from.sae.dispose().catch(() => {}); // of a lost device nothing can be freed
      return { backend: to, sae };
    });
    // Where the weights cannot be loaded the SAE stays where it was, and the next batch tries again.
    moving.catch(() => this.#placed = Promise.resolve(from));
    return await moving;
  }
}
