/**
 * Loss and gradients of a step on the device, by the formulas of `../cpu/batch.ts`. The device does what takes rows of
 * `dModel` numbers: decoding, dot products of slopes with decoder rows, sums of rows. One number an entry goes to the
 * host and back, where the objective turns slopes along latents into slopes along pre-activations.
 *
 * @module
 */
import type { AuxTerms, BatchLosses, PieceTerms } from "../engine.ts";
import type { LatentEntries } from "../entries.ts";
import type { LatentSlopes } from "../objectives/objective.ts";
import { parameterNames, type Parameters, type ParameterVectors, zerosLike } from "../parameters.ts";
import { tokenWeights } from "../token_weights.ts";
import { ADD_TO_ROW } from "./entry_kernels.ts";
import type { Part } from "./memory.ts";
import { KernelQueue, type TrainDevice } from "./queue.ts";
import { indicesWhere } from "./rows.ts";
import { addRuns } from "./sum_kernel.ts";

/** A piece of a batch, on the host and on the device. */
export interface DevicePiece {
  /** What is to be reconstructed, shape `[nTokens, dModel]`. */
  readonly target: Float32Array;
  readonly onDevice: GPUBuffer;
  /** What the encoder saw. */
  readonly encoded: GPUBuffer;
}

/** Gradients of a step. */
export class DeviceGradients {
  /** Those of everything that is no matrix. */
  readonly vectors: ParameterVectors;
  /** 1 for each latent whose rows of the matrices have a gradient, shape `[dSae]`. */
  readonly touched: Uint8Array;
  readonly #device: TrainDevice;
  readonly #parameters: ParameterVectors;
  readonly #queue: KernelQueue;
  /** Slopes along the pre-activations of each latent, added up. */
  readonly #slopeSums: Float64Array;
  readonly #alongBDec: Float64Array;

  constructor(device: TrainDevice, parameters: ParameterVectors) {
    const { bEnc, bDec } = parameters;
    this.#device = device;
    this.#parameters = parameters;
    this.#queue = new KernelQueue(device);
    this.vectors = zerosLike(parameters);
    this.touched = new Uint8Array(bEnc.length);
    this.#slopeSums = new Float64Array(bEnc.length);
    this.#alongBDec = new Float64Array(bDec.length);
  }

  /** Begins a step. */
  begin(): void {
    for (const numbers of [this.touched, this.#slopeSums, this.#alongBDec]) numbers.fill(0);
    for (const gradient of this.#all()) gradient.fill(0);
  }

  /** Adds the gradients of a piece, and gives its losses times its share. */
  async add(piece: DevicePiece, terms: PieceTerms): Promise<BatchLosses> {
    const { memory } = this.#device;
    const queue = this.#queue;
    const { objective, entries, prefixes, aux, share } = terms;
    const { dModel, pitch } = memory;
    const nTokens = piece.target.length / dModel;
    const whole = { prefixes: prefixes.slice(-1), nTokens };
    const gates = objective.gates?.(entries);
    const weights = tokenWeights(piece.target, { dModel, loss: terms.loss }).map((weight) => weight * share);

    // Everything up to the slopes along latents is handed to the device at once.
    await memory.putRows("b_dec", this.#parameters.bDec);
    const residual = aux && await memory.room("residual", 4 * pitch * nTokens);
    const placed = await queue.place("main", entries, { prefixes, nTokens });
    const main = await queue.decode("main", placed, {
      ...{ values: entries.values, hasBias: true, target: piece.onDevice, residual },
      weights: Float32Array.from(weights, (weight) => weight / prefixes.length),
    });
    const gated = gates && await queue.decode("gates", await queue.place("gates", entries, whole), {
      ...{ values: gates, hasBias: true, target: piece.onDevice, weights: new Float32Array(weights) },
    });
    const placedAux = aux && await queue.place("aux", aux.entries, whole);
    const dead = aux && await queue.decode("aux", placedAux!, {
      ...{ values: aux.entries.values, hasBias: aux.bias, target: residual! },
      // What the loss is over may not be known yet; that is multiplied in later.
      weights: new Float32Array(nTokens).fill(1),
    });
    const sums = await queue.sumRows("main", main.slopes, nTokens);
    const auxSums = aux?.bias ? await queue.sumRows("aux", dead!.slopes, nTokens) : undefined;
    const left = aux?.over === "residualVariance" ? await queue.sumRows("residual", residual!, nTokens) : undefined;
    await queue.run("decode");
    const found = await this.#read({
      ...{ slopes: main.dots, squares: main.squares, sums: sums.sums, auxSums: auxSums?.sums },
      ...{ gateSlopes: gated?.dots, gateSquares: gated?.squares, auxSlopes: dead?.dots, auxSquares: dead?.squares },
      ...{ leftSums: left?.sums, leftSquares: left?.squares },
    });

    const losses = { reconstruction: 0, sparsity: 0, aux: 0, mse: 0 };
    found.squares.forEach((square, i) => {
      losses.reconstruction += weights[i % nTokens] / prefixes.length * square;
      if (i >= found.squares.length - nTokens) losses.mse += share * square / piece.target.length;
    });
    if (terms.loss === "tokenNorm") losses.reconstruction += share * 1e-9;
    found.gateSquares?.forEach((square, token) => losses.aux += weights[token] * square);
    const auxFactor = aux ? share * aux.weight / this.#lossOver(aux, piece.target.length, found) : 0;
    found.auxSquares?.forEach((square) => losses.aux += auxFactor * square);
    const pull = share * terms.coefficient / nTokens;
    losses.sparsity = pull === 0 ? 0 : pull * objective.penalty(entries);

    addRuns(this.#alongBDec, found.sums, { pitch });
    this.#carryBack(terms, { slopes: found.slopes, gateSlopes: found.gateSlopes, pull });
    const encoder = { matrix: piece.encoded, nRows: nTokens, out: "gEnc" } as const;
    const decoder = { matrix: main.slopes, nRows: prefixes.length * nTokens, out: "gDec" } as const;
    const list = this.#touch(entries);
    await queue.gather("main encoder", placed, { ...encoder, list, factors: found.slopes });
    await queue.gather("main decoder", placed, { ...decoder, list, factors: entries.values });
    if (aux) {
      if (found.auxSums) addRuns(this.#alongBDec, found.auxSums, { pitch, factor: auxFactor });
      const slopes = found.auxSlopes!.map((slope) => slope * auxFactor);
      this.#carryBackDead(aux.entries, slopes);
      const list = this.#touch(aux.entries);
      const factors = aux.entries.values.map((value) => value * auxFactor);
      const decoder = { matrix: dead!.slopes, nRows: nTokens, out: "gDec" } as const;
      await queue.gather("aux encoder", placedAux!, { ...encoder, list, factors: slopes });
      await queue.gather("aux decoder", placedAux!, { ...decoder, list, factors });
    }
    await queue.run("gather gradients");
    return losses;
  }

  /** Ends a step; see `Engine.finish`. */
  async finish(options: { removeParallel: boolean; subtractBDec: boolean }): Promise<number> {
    const { pitch } = this.#device.memory;
    const latents = indicesWhere(this.touched.length, (latent) => this.touched[latent] === 1);
    const squares = await this.#queue.finish(latents, options);
    const sums = options.subtractBDec ? await this.#queue.sumEncoder(new Float32Array(this.#slopeSums)) : undefined;
    await this.#queue.run("finish gradients");
    const found = await this.#read({ squares, sums });
    // The encoder sees x − bDec, so its slopes reach bDec with the opposite sign.
    if (found.sums) addRuns(this.#alongBDec, found.sums, { pitch, factor: -1 });
    this.#alongBDec.forEach((slope, d) => this.vectors.bDec[d] += slope);
    let total = 0;
    for (const square of found.squares) total += square;
    for (const gradient of this.#all()) for (const value of gradient) total += value * value;
    return Math.sqrt(total);
  }

  /** All of them. What the device has in rows without a gradient has no meaning; here they are zero. */
  async read(): Promise<Parameters> {
    const { memory, matrices } = this.#device;
    const rows = async (matrix: GPUBuffer) => {
      const numbers = await memory.readMatrix(matrix, this.touched.length);
      return numbers.map((value, i) => this.touched[Math.floor(i / memory.dModel)] === 1 ? value : 0);
    };
    return { wEnc: await rows(matrices.gEnc), wDec: await rows(matrices.gDec), ...this.vectors };
  }

  /** What AuxK's squared errors are divided by. */
  #lossOver(aux: AuxTerms, length: number, found: { leftSums?: Float32Array; leftSquares?: Float32Array }): number {
    if (aux.over === "mean") return length;
    const { dModel, pitch } = this.#device.memory;
    const [sums, squares] = [new Float64Array(dModel), new Float64Array(dModel)];
    addRuns(sums, found.leftSums!, { pitch });
    addRuns(squares, found.leftSquares!, { pitch });
    return squares.reduce((total, square, d) => total + square - sums[d] ** 2 * dModel / length, 0) || 1;
  }

  /** Lets the objective carry slopes back, in place, and adds up those of each latent. */
  #carryBack(
    { objective, entries }: PieceTerms,
    { slopes, gateSlopes, pull }: Pick<LatentSlopes, "slopes" | "gateSlopes" | "pull">,
  ): void {
    for (let latent = 0; latent < this.touched.length; latent++) {
      const [start, end] = [entries.offsets[latent], entries.offsets[latent + 1]];
      if (start === end) continue;
      objective.addSlopes(entries, { latent, start, end, slopes, gateSlopes, pull }, this.vectors);
      for (let i = start; i < end; i++) this.#slopeSums[latent] += slopes[i];
    }
  }

  #carryBackDead({ offsets }: LatentEntries, slopes: Float32Array): void {
    for (let latent = 0; latent < this.touched.length; latent++) {
      let sum = 0;
      for (let i = offsets[latent]; i < offsets[latent + 1]; i++) sum += slopes[i];
      this.vectors.bEnc[latent] += sum;
      this.#slopeSums[latent] += sum;
    }
  }

  /** Marks the latents that have entries, and lists them: whether their rows are begun or added to. */
  #touch({ offsets }: LatentEntries): Uint32Array {
    const list: number[] = [];
    for (let latent = 0; latent < this.touched.length; latent++) {
      if (offsets[latent] === offsets[latent + 1]) continue;
      list.push(this.touched[latent] === 1 ? latent + ADD_TO_ROW : latent);
      this.touched[latent] = 1;
    }
    return Uint32Array.from(list);
  }

  #all(): Float32Array[] {
    return parameterNames(this.vectors).map((name) => this.vectors[name as keyof ParameterVectors]!);
  }

  /** Copies numbers to the host; what is not there stays away. */
  async #read<Parts extends Record<string, Part | undefined>>(parts: Parts): Promise<Floats<Parts>> {
    const there = Object.entries(parts).flatMap(([name, part]) => part ? [[name, part] as const] : []);
    const bytes = await this.#device.memory.read(there.map(([, part]) => part));
    return Object.fromEntries(there.map(([name], i) => [name, new Float32Array(bytes[i])])) as Floats<Parts>;
  }
}

type Floats<Parts> = { [Name in keyof Parts]: undefined extends Parts[Name] ? Float32Array | undefined : Float32Array };
