/**
 * How the parameters of an SAE begin.
 *
 * @module
 */
import { geometricMedian, measureScale } from "./center.ts";
import { normalizeRow, type Parameters } from "./parameters.ts";
import { normalFrom, randomOrder } from "./random.ts";
import type { TrainInitialization } from "./recipe.ts";
import { Workspace } from "./cpu/workspace.ts";

/** What {@linkcode initializeParameters} needs. */
export interface InitializeOptions {
  dModel: number;
  dSae: number;
  random: () => number;
}

/**
 * Parameters at the start of a run.
 *
 * @param x Activations as the SAE will see them, shape `[nTokens, dModel]`, in random order.
 */
export function initializeParameters(
  initialization: TrainInitialization,
  x: Float32Array,
  options: InitializeOptions,
): Parameters {
  const { directions, blend = 0.8, encoder, unit, bias } = initialization;
  const { dModel, dSae, random } = options;
  const { mean } = measureScale(x, dModel);
  const wDec = directions === "spread"
    ? spreadDirections(x, mean, { ...options, blend })
    : directions === "data"
    ? dataDirections(x, mean, { ...options, blend })
    : randomDirections(directions, options);
  if (unit) { for (let latent = 0; latent < dSae; latent++) normalizeRow(wDec, latent, dModel); }
  // saev's first version took dSae for the number of inputs of the encoder.
  const wEnc = encoder === "decoder" ? wDec.slice() : kaiming(dSae * dModel, dSae, random);
  const normal = normalFrom(random);
  const bDec = bias === "mean"
    ? mean
    : bias === "geometricMedian"
    ? geometricMedian(x, dModel)
    : Float32Array.from({ length: dModel }, () => bias === "normal" ? 0.01 * normal() : 0);
  return { wEnc, bEnc: new Float32Array(dSae), wDec, bDec };
}

/** Uniform numbers between ±√(6 / nInputs). */
function kaiming(length: number, nInputs: number, random: () => number): Float32Array {
  const bound = Math.sqrt(6 / nInputs);
  return Float32Array.from({ length }, () => bound * (2 * random() - 1));
}

function randomDirections(kind: "kaiming" | "normal", { dModel, dSae, random }: InitializeOptions): Float32Array {
  if (kind === "kaiming") return kaiming(dSae * dModel, dModel, random);
  const normal = normalFrom(random);
  return Float32Array.from({ length: dSae * dModel }, () => normal() / Math.sqrt(2 * dModel));
}

/** Data points seen from the mean, each blended with a uniform draw, as saev does. */
function dataDirections(
  x: Float32Array,
  mean: Float32Array,
  options: InitializeOptions & { blend: number },
): Float32Array {
  const { dModel, dSae, random, blend } = options;
  const nTokens = x.length / dModel;
  const order = randomOrder(nTokens, random);
  const rows = kaiming(dSae * dModel, dModel, random);
  for (let i = 0; i < rows.length; i++) {
    const [latent, d] = [Math.floor(i / dModel), i % dModel];
    const token = order[latent % nTokens];
    rows[i] = blend * (x[token * dModel + d] - mean[d]) + (1 - blend) * rows[i];
  }
  return rows;
}

// Candidates to pick from: their number bounds the work at `nCandidates · dSae · dModel`.
const MAX_CANDIDATES = 8192;

/**
 * Directions that point at data, seen from the mean and blended with a random direction. Data repeats itself (many
 * patches are plain background), so each next point is drawn with a probability in proportion to what the directions so
 * far leave of it: k-means++ (https://dl.acm.org/doi/10.5555/1283383.1283494) on directions.
 */
function spreadDirections(
  x: Float32Array,
  mean: Float32Array,
  options: InitializeOptions & { blend: number },
): Float32Array {
  const { dModel, dSae, random, blend } = options;
  const nCandidates = Math.min(x.length / dModel, MAX_CANDIDATES);
  const points = x.slice(0, nCandidates * dModel);
  for (let i = 0; i < points.length; i++) points[i] -= mean[i % dModel];
  const squares = new Float64Array(nCandidates);
  for (let i = 0; i < points.length; i++) squares[Math.floor(i / dModel)] += points[i] * points[i];

  const workspace = new Workspace(dModel);
  const matrix = workspace.reserveRows(nCandidates);
  const [row, all, along] = [workspace.reserveRows(1), workspace.reserve(nCandidates), workspace.reserve(nCandidates)];
  workspace.putRows(matrix, points);
  workspace.integers(all, nCandidates).set(Uint32Array.from({ length: nCandidates }, (_, i) => i));
  const alongs = workspace.floats(along, nCandidates);

  /** What the directions so far leave of each candidate. */
  const left = squares.slice();
  const wDec = new Float32Array(dSae * dModel);
  const noise = new Float32Array(dModel);
  for (let latent = 0; latent < dSae; latent++) {
    const token = drawWeighted(left, random);
    const direction = points.slice(token * dModel, (token + 1) * dModel);
    normalizeRow(direction, 0, dModel);
    workspace.putRows(row, direction);
    workspace.kernels.dots(matrix, row, all, along, nCandidates, workspace.rowBytes);
    for (let candidate = 0; candidate < nCandidates; candidate++) {
      const a = alongs[candidate];
      if (a > 0) left[candidate] = Math.min(left[candidate], Math.max(0, squares[candidate] - a * a));
    }
    for (let d = 0; d < dModel; d++) noise[d] = random() - 0.5;
    normalizeRow(noise, 0, dModel);
    for (let d = 0; d < dModel; d++) wDec[latent * dModel + d] = blend * direction[d] + (1 - blend) * noise[d];
  }
  return wDec;
}

/** An index drawn in proportion to its weight; any index if all weights are zero. */
function drawWeighted(weights: Float64Array, random: () => number): number {
  let rest = random() * weights.reduce((total, weight) => total + weight, 0);
  for (let i = 0; i < weights.length; i++) {
    rest -= weights[i];
    if (rest < 0) return i;
  }
  return Math.floor(random() * weights.length);
}
