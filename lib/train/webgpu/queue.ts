/**
 * The kernels of loss and gradients lined up with their buffers, to be handed to the device together. What the kernels
 * are for is in `gradients.ts`.
 *
 * @module
 */
import type { Dispatch } from "../../compute/webgpu/device.ts";
import { type LatentEntries, orderByToken } from "../entries.ts";
import { dotsGroups } from "./entry_kernels.ts";
import type { Part, TrainMemory } from "./memory.ts";
import type { TrainPrograms } from "./programs.ts";
import { groupGrid } from "./rows.ts";
import { countRuns, sumWorkgroups } from "./sum_kernel.ts";

/** The matrices on the device, and their gradients, each of shape `[dSae, dModel]`. */
export interface DeviceMatrices {
  readonly wEnc: GPUBuffer;
  readonly wDec: GPUBuffer;
  readonly gEnc: GPUBuffer;
  readonly gDec: GPUBuffer;
}

/** What the kernels work with. */
export interface TrainDevice {
  readonly memory: TrainMemory;
  readonly programs: TrainPrograms;
  readonly matrices: DeviceMatrices;
}

/** Entries on the device. */
export interface PlacedEntries {
  readonly nTokens: number;
  readonly nEntries: number;
  /** Prefix lengths, ascending, on the device; `nPrefixes` of them. */
  readonly prefixes: GPUBuffer;
  readonly nPrefixes: number;
  /** Latent by latent: where those of a latent are, their latents, and the rows of slopes that belong to them. */
  readonly offsets: GPUBuffer;
  readonly latents: GPUBuffer;
  readonly rows: GPUBuffer;
  /** Token by token: the same without the rows, and which entry each one is. */
  readonly byToken: { readonly offsets: GPUBuffer; readonly latents: GPUBuffer; readonly entries: Uint32Array };
}

/** What is decoded, and what it is to be. */
export interface DecodeTerms {
  /** One an entry. */
  readonly values: Float32Array;
  readonly hasBias: boolean;
  /** Shape `[nTokens, dModel]`. */
  readonly target: GPUBuffer;
  /** What the squared error of a token counts, shape `[nTokens]`. */
  readonly weights: Float32Array;
  /** Where to put what is left over. */
  readonly residual?: GPUBuffer;
}

/** What comes of decoding. */
export interface Decoded {
  /** Slopes of the loss along reconstructions, shape `[nPrefixes, nTokens, dModel]`. */
  readonly slopes: GPUBuffer;
  /** Slopes along the values of entries. */
  readonly dots: Part;
  /** Squared errors, shape `[nPrefixes, nTokens]`. */
  readonly squares: Part;
}

/** Kernels in line. */
export class KernelQueue {
  readonly #device: TrainDevice;
  #dispatches: Dispatch[] = [];

  constructor(device: TrainDevice) {
    this.#device = device;
  }

  /** Copies entries to the device, in both orders. `name` keeps its buffers apart from others of the batch. */
  async place(
    name: string,
    entries: LatentEntries,
    { prefixes, nTokens }: { prefixes: Uint32Array; nTokens: number },
  ): Promise<PlacedEntries> {
    const { memory } = this.#device;
    const { offsets, tokens } = entries;
    const rows = new Uint32Array(tokens.length);
    const latents = new Uint32Array(tokens.length);
    for (let latent = 0, prefix = 0; latent + 1 < offsets.length; latent++) {
      while (latent >= prefixes[prefix]) prefix++;
      for (let i = offsets[latent]; i < offsets[latent + 1]; i++) {
        rows[i] = prefix * nTokens + tokens[i];
        latents[i] = latent;
      }
    }
    const byToken = orderByToken(entries, nTokens);
    return {
      nTokens,
      nEntries: tokens.length,
      prefixes: await memory.put(`${name} prefixes`, prefixes),
      nPrefixes: prefixes.length,
      offsets: await memory.put(`${name} offsets`, offsets),
      latents: await memory.put(`${name} latents`, latents),
      rows: await memory.put(`${name} rows`, rows),
      byToken: {
        offsets: await memory.put(`${name} token offsets`, byToken.offsets),
        latents: await memory.put(`${name} token latents`, byToken.latents),
        entries: byToken.entries,
      },
    };
  }

  /** Decodes with `b_dec` as it is on the device, and goes on to slopes. */
  async decode(name: string, placed: PlacedEntries, terms: DecodeTerms): Promise<Decoded> {
    const { memory, programs, matrices: { wDec } } = this.#device;
    const { pitch } = memory;
    const { nTokens, nEntries, nPrefixes, prefixes, byToken } = placed;
    const { values, hasBias, target, weights, residual } = terms;
    const nRows = nPrefixes * nTokens;
    const byTokenValues = new Float32Array(nEntries);
    for (let place = 0; place < nEntries; place++) byTokenValues[place] = values[byToken.entries[place]];
    const slopes = await memory.room(`${name} slopes`, 4 * pitch * nRows);
    const squares = { buffer: await memory.room(`${name} squares`, nRows), length: nRows };
    const dots = { buffer: await memory.room(`${name} dots`, nEntries), length: nEntries };
    this.#dispatches.push({
      program: programs.decode,
      buffers: {
        ...{ offsets: byToken.offsets, latents: byToken.latents, prefixes, w_dec: wDec, rows: slopes },
        values: await memory.put(`${name} token values`, byTokenValues),
        b_dec: await memory.room("b_dec", 4 * pitch),
      },
      params: [nTokens, nPrefixes, pitch, hasBias ? 1 : 0],
      workgroups: groupGrid(nTokens),
    }, {
      program: residual ? programs.slopesAndResidual : programs.slopes,
      buffers: {
        ...{ x: target, rows: slopes, squares: squares.buffer, ...(residual && { residual }) },
        weights: await memory.put(`${name} weights`, weights),
      },
      params: [nTokens, nPrefixes, pitch],
      workgroups: groupGrid(nTokens),
    }, {
      program: programs.dots,
      buffers: { rows: placed.rows, latents: placed.latents, matrix: slopes, w_dec: wDec, dots: dots.buffer },
      params: [nEntries, pitch, nRows],
      workgroups: groupGrid(dotsGroups(nEntries)),
    });
    return { slopes, dots, squares };
  }

  /** Sums of the first rows of a matrix, and of their squares, in runs. */
  async sumRows(name: string, matrix: GPUBuffer, nRows: number): Promise<{ sums: Part; squares: Part }> {
    const { memory, programs } = this.#device;
    const { pitch } = memory;
    const length = 4 * pitch * countRuns(nRows);
    const sums = { buffer: await memory.room(`${name} sums`, length), length };
    const squares = { buffer: await memory.room(`${name} sums of squares`, length), length };
    this.#dispatches.push({
      program: programs.sum,
      buffers: { matrix, sums: sums.buffer, squares: squares.buffer },
      params: [nRows, pitch],
      workgroups: sumWorkgroups({ nRows, pitch }),
    });
    return { sums, squares };
  }

  /** Sums of encoder rows times numbers of their latents, in runs. */
  async sumEncoder(weights: Float32Array): Promise<Part> {
    const { memory, programs, matrices } = this.#device;
    const { pitch } = memory;
    const nRows = weights.length;
    const length = 4 * pitch * countRuns(nRows);
    const sums = { buffer: await memory.room("encoder sums", length), length };
    this.#dispatches.push({
      program: programs.sumWeighted,
      buffers: { matrix: matrices.wEnc, sums: sums.buffer, weights: await memory.put("encoder weights", weights) },
      params: [nRows, pitch],
      workgroups: sumWorkgroups({ nRows, pitch }),
    });
    return sums;
  }

  /** Gradients of the rows of the latents in `list`: sums of rows of a matrix times one number an entry. */
  async gather(
    name: string,
    placed: PlacedEntries,
    options: {
      list: Uint32Array;
      factors: Float32Array;
      matrix: GPUBuffer;
      /** Rows of it. */
      nRows: number;
      out: "gEnc" | "gDec";
    },
  ): Promise<void> {
    const { memory, programs, matrices } = this.#device;
    const { list, factors, matrix, nRows, out } = options;
    this.#dispatches.push({
      program: programs.gather,
      buffers: {
        ...{ offsets: placed.offsets, rows: placed.rows, matrix, out: matrices[out] },
        list: await memory.put(`${name} list`, list),
        factors: await memory.put(`${name} factors`, factors),
      },
      params: [list.length, memory.pitch, nRows],
      workgroups: groupGrid(list.length),
    });
  }

  /** Finishes the gradients of the rows in `latents`. @returns Their squares. */
  async finish(latents: Uint32Array, options: { removeParallel: boolean }): Promise<Part> {
    const { memory, programs, matrices: { wDec, gEnc, gDec } } = this.#device;
    const squares = { buffer: await memory.room("row squares", latents.length), length: latents.length };
    const list = await memory.put("rows to finish", latents);
    this.#dispatches.push({
      program: programs.finish,
      buffers: { list, w_dec: wDec, g_enc: gEnc, g_dec: gDec, squares: squares.buffer },
      params: [latents.length, memory.pitch, options.removeParallel ? 1 : 0],
      workgroups: groupGrid(latents.length),
    });
    return squares;
  }

  /** Hands everything in line to the device. */
  async run(label: string): Promise<void> {
    const dispatches = this.#dispatches;
    this.#dispatches = [];
    await this.#device.memory.run(label, dispatches);
  }
}
