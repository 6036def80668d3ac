/**
 * Gradients of a step, gathered from one piece of a batch or from several, and what is done to them before they are
 * used. Rows of latents that were not active are zero, and no work is done on them.
 *
 * @module
 */
import { parameterNames, type Parameters, zerosLike } from "../parameters.ts";
import type { Workspace } from "./workspace.ts";

/** Gradients of a step. */
export class Gradients {
  readonly arrays: Parameters;
  /** 1 for each latent whose rows of the matrices have a gradient, shape `[dSae]`. */
  touched: Uint8Array<ArrayBuffer>;
  #touchedBefore: Uint8Array<ArrayBuffer>;

  constructor(parameters: Parameters) {
    this.arrays = zerosLike(parameters);
    this.touched = new Uint8Array(parameters.bEnc.length);
    this.#touchedBefore = this.touched.slice();
  }

  /** Begins a step. */
  begin(): void {
    this.#touchedBefore = this.touched;
    this.touched = new Uint8Array(this.touched.length);
    for (const name of parameterNames(this.arrays)) {
      if (name !== "wEnc" && name !== "wDec") this.arrays[name]!.fill(0);
    }
  }

  /**
   * Ends a step: clears the rows of the last one, and takes out of each decoder row's gradient what would change the
   * row's length only, if asked to.
   *
   * @returns Norm of all gradients together.
   */
  finish(options: { workspace: Workspace; parameters: Parameters; removeParallel: boolean }): number {
    const { workspace, parameters: { wDec }, removeParallel } = options;
    const { kernels, rowBytes, dModel } = workspace;
    const { arrays, touched } = this;
    workspace.clear();
    const [weights, gradient] = [workspace.reserveRows(1), workspace.reserveRows(1)];
    // A list of one token, number 0, lets the kernels work on one row.
    const [first, number] = [workspace.reserveRows(1), workspace.reserveRows(1)];
    const weightsView = workspace.floats(weights, dModel);
    const gradientView = workspace.floats(gradient, dModel);
    const numberView = workspace.floats(number, 1);
    const dot = (a: number, b: number): number => {
      kernels.dots(a, b, first, number, 1, rowBytes);
      return numberView[0];
    };
    let squares = 0;
    for (let latent = 0; latent < touched.length; latent++) {
      const [start, end] = [latent * dModel, (latent + 1) * dModel];
      if (touched[latent] === 0) {
        if (this.#touchedBefore[latent] === 1) [arrays.wEnc, arrays.wDec].forEach((array) => array.fill(0, start, end));
        continue;
      }
      gradientView.set(arrays.wEnc.subarray(start, end));
      squares += dot(gradient, gradient);
      gradientView.set(arrays.wDec.subarray(start, end));
      if (removeParallel) {
        weightsView.set(wDec.subarray(start, end));
        const length = dot(weights, weights);
        numberView[0] = length > 0 ? -dot(gradient, weights) / length : 0;
        kernels.scatter(gradient, weights, first, number, 1, rowBytes);
        arrays.wDec.set(gradientView, start);
      }
      squares += dot(gradient, gradient);
    }
    for (const name of parameterNames(arrays)) {
      if (name !== "wEnc" && name !== "wDec") { for (const value of arrays[name]!) squares += value * value; }
    }
    return Math.sqrt(squares);
  }
}
