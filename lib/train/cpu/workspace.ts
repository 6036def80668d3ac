/**
 * Memory of the training kernels: rows and lists of one batch, laid out anew each time.
 *
 * @module
 */
import { ROW_ALIGNMENT } from "../../compute/cpu/row_kernels.ts";
import { type Kernels, makeKernels } from "./kernels.ts";

const PAGE_BYTES = 65_536;
const MAX_PAGES = 65_536;
const ALIGNMENT_BYTES = 64;

/** Memory that kernels work in. Addresses are in bytes; views are good until more is reserved. */
export class Workspace {
  readonly kernels: Kernels;
  /** Numbers from one row to the next; what is beyond `dModel` is zero. */
  readonly stride: number;
  readonly rowBytes: number;
  readonly #memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES });
  #end = 0;

  constructor(readonly dModel: number) {
    this.kernels = makeKernels(this.#memory);
    this.stride = Math.ceil(dModel / ROW_ALIGNMENT) * ROW_ALIGNMENT;
    this.rowBytes = 4 * this.stride;
  }

  /** Gives everything back. */
  clear(): void {
    this.#end = 0;
  }

  /**
   * Address of room for so many 32-bit numbers; what it holds is not defined.
   *
   * @throws {RangeError} If a batch needs more than 4 GiB.
   */
  reserve(length: number): number {
    const address = this.#end;
    this.#end += Math.ceil(4 * length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    const nPages = Math.ceil(this.#end / PAGE_BYTES);
    if (nPages > MAX_PAGES) {
      throw new RangeError(
        `Cannot train SAE: a batch must fit into 4 GiB, it needs ${
          (this.#end / 2 ** 30).toFixed(1)
        } GiB; choose a smaller batchSize`,
      );
    }
    const missing = nPages - this.#memory.buffer.byteLength / PAGE_BYTES;
    if (missing > 0) this.#memory.grow(missing);
    return address;
  }

  /** Address of rows of zeros. */
  reserveRows(nRows: number): number {
    const address = this.reserve(nRows * this.stride);
    this.floats(address, nRows * this.stride).fill(0);
    return address;
  }

  floats(address: number, length: number): Float32Array {
    return new Float32Array(this.#memory.buffer, address, length);
  }

  integers(address: number, length: number): Uint32Array {
    return new Uint32Array(this.#memory.buffer, address, length);
  }

  /** Copies rows of `dModel` numbers to an address. */
  putRows(address: number, rows: Float32Array): void {
    const nRows = rows.length / this.dModel;
    const view = this.floats(address, nRows * this.stride);
    if (this.stride === this.dModel) return view.set(rows);
    for (let row = 0; row < nRows; row++) {
      view.set(rows.subarray(row * this.dModel, (row + 1) * this.dModel), row * this.stride);
    }
  }
}
