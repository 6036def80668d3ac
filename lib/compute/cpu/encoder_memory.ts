/**
 * Memory that the kernels of the CPU back end work in: the encoder as rows, one for each latent, and scratch space for
 * one block of tokens: bounds from a screen, activations, and entries, which are latents of a token that may matter.
 *
 * @module
 */
import { buildWasm } from "../../runtime/wasm.ts";
import { dots, ROW_ALIGNMENT, type RowKernels } from "./row_kernels.ts";
import { collect, maxima, SCAN_NUMBERS, type ScanKernels } from "./scan_kernels.ts";

const PAGE_BYTES = 65_536;
const MAX_PAGES = 65_536;

/** Sizes of an {@linkcode EncoderMemory}. */
export interface EncoderMemoryShape {
  readonly dModel: number;
  readonly dSae: number;
  /** Tokens whose bounds there is room for. */
  readonly tokensPerRun: number;
  /** Tokens whose activations there is room for. */
  readonly tokensPerBlock: number;
}

/** The memory; addresses are in bytes, and views are good until more is reserved. */
export class EncoderMemory {
  readonly dSae: number;
  readonly kernels: Pick<RowKernels, "dots"> & ScanKernels;
  /** Numbers from one row of the encoder, or of activations, to the next; what is beyond `dModel` is zero. */
  readonly stride: number;
  /** Numbers from one row of bounds to the next. There are as many rows of the encoder; those beyond `dSae` are zero. */
  readonly nColumns: number;
  /** Address of the encoder, shape `[nColumns, stride]`. */
  readonly rows = 0;
  /** Address of how far bounds are above what is a good guess, shape `[nColumns]`. */
  readonly widths: number;
  /** Address of maxima of bounds; at most `[nColumns]`. */
  readonly maxima: number;
  /** Address of bounds, shape `[tokensPerRun, nColumns]`. */
  readonly bounds: number;
  /** Address of activations, shape `[tokensPerBlock, stride]`. */
  readonly x: number;
  /** Address of two numbers that kernels are told, or tell. */
  readonly cells: number;
  /** Address of entries; they take what is left. */
  readonly entries: number;
  readonly #memory: WebAssembly.Memory;

  /** @throws {RangeError} If the encoder takes more than 4 GiB. */
  constructor({ dModel, dSae, tokensPerRun, tokensPerBlock }: EncoderMemoryShape) {
    this.dSae = dSae;
    const alignedTo = (numbers: number, multiple: number) => Math.ceil(numbers / multiple) * multiple;
    this.stride = alignedTo(dModel, ROW_ALIGNMENT);
    this.nColumns = alignedTo(dSae, SCAN_NUMBERS);
    this.widths = 4 * this.nColumns * this.stride;
    this.maxima = this.widths + 4 * this.nColumns;
    this.bounds = this.maxima + 4 * this.nColumns;
    this.x = this.bounds + 4 * tokensPerRun * this.nColumns;
    this.cells = this.x + 4 * tokensPerBlock * this.stride;
    this.entries = this.cells + 64;
    this.#memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES });
    this.reserve(this.entries);
    compiled ??= new WebAssembly.Module(buildWasm([dots, collect, maxima]));
    this.kernels = new WebAssembly.Instance(compiled, { env: { memory: this.#memory } }).exports as unknown as
      & RowKernels
      & ScanKernels;
  }

  /**
   * Makes sure that memory reaches up to an address.
   *
   * @throws {RangeError} If that is beyond 4 GiB.
   */
  reserve(end: number): void {
    const nPages = Math.ceil(end / PAGE_BYTES);
    if (nPages > MAX_PAGES) {
      throw new RangeError(
        `Cannot load SAE: its encoder must fit into 4 GiB, with what it is used with it takes ${
          (end / 2 ** 30).toFixed(1)
        } GiB`,
      );
    }
    const missing = nPages - this.#memory.buffer.byteLength / PAGE_BYTES;
    if (missing > 0) this.#memory.grow(missing);
  }

  /** What views are of, until more is reserved. */
  get buffer(): ArrayBuffer {
    return this.#memory.buffer;
  }

  floats(address: number, length: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.#memory.buffer, address, length);
  }

  integers(address: number, length: number): Uint32Array<ArrayBuffer> {
    return new Uint32Array(this.#memory.buffer, address, length);
  }
}

let compiled: WebAssembly.Module | undefined;
