/**
 * Loss and gradients of one batch, by hand and sparse: work follows the active latents, latent by latent.
 *
 * With `x̂ᵢ = Σ fⱼ dⱼ + bDec` over the latents of prefix `i`, and the loss a weighted sum of `|x̂ᵢ − x|²`, the slope
 * along `fⱼ` is `eⱼ · dⱼ` and the gradient of `dⱼ` is `Σ fⱼ eⱼ`, where `eⱼ` is the sum of the slopes along `x̂ᵢ` over the
 * prefixes that hold latent `j`.
 *
 * @module
 */
import type { BatchLosses, PieceTerms } from "../engine.ts";
import type { Parameters } from "../parameters.ts";
import { tokenWeights } from "../token_weights.ts";
import { decode, place, type PlacedEntries } from "./decode.ts";
import type { Gradients } from "./gradients.ts";
import { fillRows, leftOver, spread, sumRows, toSlopes } from "./rows.ts";
import type { Workspace } from "./workspace.ts";

/** What a piece of a batch is explained with. */
export interface BatchOptions extends PieceTerms {
  workspace: Workspace;
  parameters: Parameters;
  /** What is to be reconstructed, shape `[nTokens, dModel]`. */
  target: Float32Array;
  /** What the encoder saw, same shape. */
  encoded: Float32Array;
  subtractBDec: boolean;
}

/**
 * Adds the gradients of a batch, or of a piece of one, to those of the step.
 *
 * @returns The losses, times the share of the piece; the loss of the batch is their sum.
 */
export function addBatchGradients(gradients: Gradients, options: BatchOptions): BatchLosses {
  const { workspace, parameters, objective, target, encoded, entries, prefixes, aux, share } = options;
  const { dModel, stride } = workspace;
  const nTokens = target.length / dModel;
  const gates = objective.gates?.(entries);

  workspace.clear();
  const x = workspace.reserveRows(nTokens);
  const matrices = Array.from(prefixes, () => workspace.reserveRows(nTokens));
  const gateMatrix = gates && workspace.reserveRows(nTokens);
  const auxMatrix = aux && workspace.reserveRows(nTokens);
  const [row, encoderRow, decoderRow] = [0, 1, 2].map(() => workspace.reserveRows(1));
  const main = place(workspace, entries);
  const gated = gates && { ...place(workspace, { ...entries, values: gates }), tokens: main.tokens };
  const dead = aux && place(workspace, aux.entries);

  workspace.putRows(x, encoded);
  const view = (matrix: number) => workspace.floats(matrix, nTokens * stride);
  fillRows(view(matrices[0]), parameters.bDec, stride);
  for (let p = 0; p < matrices.length; p++) {
    if (p > 0) view(matrices[p]).set(view(matrices[p - 1]));
    const from = p === 0 ? 0 : prefixes[p - 1];
    decode(workspace, main, { matrix: matrices[p], row, wDec: parameters.wDec, from, to: prefixes[p] });
  }
  const residual = aux && leftOver(view(matrices.at(-1)!), target, { dModel, stride });
  const losses = { reconstruction: 0, sparsity: 0, aux: 0, mse: 0 };
  const weights = tokenWeights(target, { dModel, loss: options.loss });
  const alongBDec = new Float64Array(dModel);
  for (const matrix of matrices) {
    const { weighted, squares } = toSlopes(view(matrix), target, {
      ...{ weights, factor: share / matrices.length, dModel, stride },
    });
    losses.reconstruction += weighted;
    losses.mse = share * squares / target.length;
  }
  if (options.loss === "tokenNorm") losses.reconstruction += share * 1e-9;
  // From here on a matrix holds the slopes of its prefix and of all longer ones.
  for (let p = matrices.length - 2; p >= 0; p--) {
    const [shorter, longer] = [view(matrices[p]), view(matrices[p + 1])];
    for (let i = 0; i < shorter.length; i++) shorter[i] += longer[i];
  }
  sumRows(view(matrices[0]), alongBDec, stride);
  if (gated !== undefined) {
    fillRows(view(gateMatrix!), parameters.bDec, stride);
    decode(workspace, gated, { matrix: gateMatrix!, row, wDec: parameters.wDec, from: 0, to: prefixes.at(-1)! });
    losses.aux = toSlopes(view(gateMatrix!), target, { weights, factor: share, dModel, stride }).weighted;
  }
  if (dead !== undefined) {
    if (aux!.bias) fillRows(view(auxMatrix!), parameters.bDec, stride);
    decode(workspace, dead, { matrix: auxMatrix!, row, wDec: parameters.wDec, from: 0, to: prefixes.at(-1)! });
    const factor = share * aux!.weight / (aux!.over === "mean" ? target.length : spread(residual!, dModel));
    const ones = new Float64Array(nTokens).fill(1);
    losses.aux = toSlopes(view(auxMatrix!), residual!, { weights: ones, factor, dModel, stride }).weighted;
    if (aux!.bias) sumRows(view(auxMatrix!), alongBDec, stride);
  }
  const pull = share * options.coefficient / nTokens;
  losses.sparsity = pull === 0 ? 0 : pull * objective.penalty(entries);
  walkLatents(gradients, {
    ...options,
    ...{ x, matrices, gateMatrix, auxMatrix, row, encoderRow, decoderRow, main, gated, dead, alongBDec, pull },
  });
  for (let d = 0; d < dModel; d++) gradients.arrays.bDec[d] += alongBDec[d];
  return losses;
}

interface Walk extends BatchOptions {
  readonly x: number;
  readonly matrices: readonly number[];
  readonly gateMatrix: number | undefined;
  readonly auxMatrix: number | undefined;
  /** Rows of the latent at hand: of the decoder, and the two of its gradient. */
  readonly row: number;
  readonly encoderRow: number;
  readonly decoderRow: number;
  readonly main: PlacedEntries;
  readonly gated: PlacedEntries | undefined;
  readonly dead: PlacedEntries | undefined;
  readonly alongBDec: Float64Array;
  readonly pull: number;
}

/** Goes through the latents that have entries. */
function walkLatents({ arrays, touched }: Gradients, walk: Walk): void {
  const { workspace, parameters, objective, prefixes, matrices, main, gated, dead, x, pull } = walk;
  const { row, encoderRow, decoderRow } = walk;
  const { kernels, dModel, rowBytes } = workspace;
  const { wEnc, wDec } = parameters;
  const view = (address: number) => workspace.floats(address, dModel);
  const [rowView, encoderView, decoderView] = [view(row), view(encoderRow), view(decoderRow)];
  const slopes = workspace.floats(main.slopes, main.entries.pre.length);
  const gateSlopes = gated && workspace.floats(gated.slopes, slopes.length);
  const deadSlopes = dead && workspace.floats(dead.slopes, dead.entries.pre.length);
  let prefix = 0;
  for (let latent = 0; latent < prefixes.at(-1)!; latent++) {
    while (latent >= prefixes[prefix]) prefix++;
    const { offsets } = main.entries;
    const [start, end] = [offsets[latent], offsets[latent + 1]];
    const [deadStart, deadEnd] = dead ? [dead.entries.offsets[latent], dead.entries.offsets[latent + 1]] : [0, 0];
    if (end === start && deadEnd === deadStart) continue;
    const at = latent * dModel;
    rowView.set(wDec.subarray(at, at + dModel));
    if (touched[latent] === 1) {
      encoderView.set(arrays.wEnc.subarray(at, at + dModel));
      decoderView.set(arrays.wDec.subarray(at, at + dModel));
    } else {
      encoderView.fill(0);
      decoderView.fill(0);
      touched[latent] = 1;
    }
    let slopeSum = 0;
    if (end > start) {
      const n = end - start;
      const [tokens, values, along] = [main.tokens + 4 * start, main.values + 4 * start, main.slopes + 4 * start];
      kernels.dots(matrices[prefix], row, tokens, along, n, rowBytes);
      if (gated) kernels.dots(walk.gateMatrix!, row, tokens, gated.slopes + 4 * start, n, rowBytes);
      objective.addSlopes(main.entries, { latent, start, end, slopes, gateSlopes, pull }, arrays);
      for (let i = start; i < end; i++) slopeSum += slopes[i];
      kernels.gather(x, encoderRow, tokens, along, n, rowBytes);
      kernels.gather(matrices[prefix], decoderRow, tokens, values, n, rowBytes);
    }
    if (deadEnd > deadStart) {
      const n = deadEnd - deadStart;
      const [tokens, values] = [dead!.tokens + 4 * deadStart, dead!.values + 4 * deadStart];
      const along = dead!.slopes + 4 * deadStart;
      kernels.dots(walk.auxMatrix!, row, tokens, along, n, rowBytes);
      let sum = 0;
      for (let i = deadStart; i < deadEnd; i++) sum += deadSlopes![i];
      arrays.bEnc[latent] += sum;
      slopeSum += sum;
      kernels.gather(x, encoderRow, tokens, along, n, rowBytes);
      kernels.gather(walk.auxMatrix!, decoderRow, tokens, values, n, rowBytes);
    }
    // The encoder sees x − bDec, so its slopes reach bDec with the opposite sign.
    if (walk.subtractBDec) { for (let d = 0; d < dModel; d++) walk.alongBDec[d] -= slopeSum * wEnc[at + d]; }
    arrays.wEnc.set(encoderView, at);
    arrays.wDec.set(decoderView, at);
  }
}
