/**
 * The sums that every published metric of an SAE is a ratio of, gathered in one pass in float64. Memory is a few numbers
 * a dimension and a latent, however many tokens pass. The ratios themselves are in `metric_formulas.ts`.
 *
 * Letters: activations `x`, reconstruction `x̂`, error `δ = x − x̂`, latents `f`, token width `d`, number of tokens `N`.
 *
 * @module
 */
import type { SparseLatents } from "../../compute/contract.ts";

/** A mean over tokens of a ratio. A token whose denominator is 0 is left out: the ratio says nothing about it. */
export class RatioMean {
  #sum = 0;
  #count = 0;

  add(numerator: number, denominator: number): void {
    if (denominator === 0) return;
    this.#sum += numerator / denominator;
    this.#count++;
  }

  /** NaN if there was none. */
  get mean(): number {
    return this.#sum / this.#count;
  }
}

/** One batch that was encoded and decoded. */
export interface MeasuredBatch {
  /** Activations, shape `[nTokens, dModel]`. */
  readonly x: Float32Array;
  readonly latents: SparseLatents;
  /** Shape `[nTokens, dModel]`. */
  readonly reconstruction: Float32Array;
}

/** Above this, CLIP-Scope counts a latent as active. */
export const clipScopeActive = 1e-3;

/** Sums over tokens. Tokens that hold NaN or an infinity are counted and left out. */
export class MetricSums {
  readonly dModel: number;
  readonly dSae: number;
  /** Tokens that count. */
  nTokens = 0;
  /** Tokens that were left out. */
  nNonFinite = 0;

  // One entry a dimension. Activations are taken relative to the first token: a mean that is large beside the spread
  // would cost digits otherwise.
  readonly origin: Float64Array;
  readonly sumX: Float64Array;
  readonly sumXX: Float64Array;
  readonly sumError: Float64Array;
  readonly sumErrorSquares: Float64Array;

  // Ratios of each token, or of each token within its batch.
  readonly errorOverNorm = new RatioMean();
  readonly safeErrorOverNorm = new RatioMean();
  readonly errorOverSquares = new RatioMean();
  readonly errorOverOwnSpread = new RatioMean();
  readonly errorOverBatchSpread = new RatioMean();
  readonly cosine = new RatioMean();
  readonly normRatio = new RatioMean();
  errorOverBatchTokens = 0;
  inputNorm = 0;
  outputNorm = 0;
  outputSquares = 0;
  inputTimesOutput = 0;

  // Latents.
  nPositive = 0;
  nNonZero = 0;
  nAboveClipScope = 0;
  absoluteSum = 0;
  signedSum = 0;
  /** Tokens on which each latent is above zero, shape `[dSae]`. */
  readonly nFired: Float64Array;
  /** Number of the last such token, from 1; 0 if there is none; shape `[dSae]`. */
  readonly lastFired: Float64Array;
  /** CLIP-Scope's counter: tokens since the beginning of the last batch in which each latent was active. */
  readonly idleTokens: Float64Array;

  /** Tokens of an image, where the error of each position is wanted. */
  readonly tokensPerImage: number | undefined;
  readonly positionErrors: Float64Array;
  readonly positionTokens: Float64Array;
  #nSeen = 0;

  constructor(shape: { dModel: number; dSae: number }, options: { tokensPerImage?: number } = {}) {
    const { dModel, dSae } = shape;
    const { tokensPerImage } = options;
    if (tokensPerImage !== undefined && !(Number.isInteger(tokensPerImage) && tokensPerImage >= 1)) {
      throw new RangeError(
        `Cannot measure an SAE: tokensPerImage must be an integer of 1 or more, current value is ${tokensPerImage}`,
      );
    }
    this.dModel = dModel;
    this.dSae = dSae;
    this.tokensPerImage = tokensPerImage;
    [this.origin, this.sumX, this.sumXX, this.sumError, this.sumErrorSquares] = Array.from(
      { length: 5 },
      () => new Float64Array(dModel),
    );
    [this.nFired, this.lastFired, this.idleTokens] = Array.from({ length: 3 }, () => new Float64Array(dSae));
    this.positionErrors = new Float64Array(tokensPerImage ?? 0);
    this.positionTokens = new Float64Array(tokensPerImage ?? 0);
  }

  /**
   * Adds a batch.
   *
   * @throws {RangeError} If its parts are of different sizes.
   */
  add({ x, latents, reconstruction }: MeasuredBatch): void {
    const { dModel } = this;
    if (x.length !== latents.nTokens * dModel || reconstruction.length !== x.length) {
      throw new RangeError(
        `Cannot measure a batch: activations and reconstruction must hold ${latents.nTokens} tokens of ${dModel} ` +
          `numbers, current lengths are ${x.length} and ${reconstruction.length}`,
      );
    }
    const tokens: number[] = [];
    for (let token = 0; token < latents.nTokens; token++) {
      if (isFinite(x, token * dModel, dModel)) tokens.push(token);
    }
    this.nNonFinite += latents.nTokens - tokens.length;
    if (tokens.length > 0) this.#addTokens({ x, latents, reconstruction }, tokens);
    this.#nSeen += latents.nTokens;
  }

  #addTokens(batch: MeasuredBatch, tokens: readonly number[]): void {
    const { dModel, idleTokens } = this;
    if (this.nTokens === 0) this.origin.set(batch.x.subarray(tokens[0] * dModel, (tokens[0] + 1) * dModel));
    const { mean, largest } = describeBatch(batch.x, tokens, dModel);
    const isActive = new Uint8Array(this.dSae);
    for (const token of tokens) {
      const error = this.#addNumbers(batch, { token, mean, largest });
      this.errorOverBatchTokens += error / tokens.length;
      this.nTokens++;
      this.#addLatents(batch.latents, token, isActive);
      if (this.tokensPerImage !== undefined) {
        const position = (this.#nSeen + token) % this.tokensPerImage;
        this.positionErrors[position] += error / dModel;
        this.positionTokens[position]++;
      }
    }
    for (let latent = 0; latent < this.dSae; latent++) {
      idleTokens[latent] = (isActive[latent] ? 0 : idleTokens[latent]) + tokens.length;
    }
  }

  /** Adds a token's activations and reconstruction; returns its squared error. */
  #addNumbers(
    { x, reconstruction }: MeasuredBatch,
    { token, mean, largest }: { token: number; mean: Float64Array; largest: number },
  ): number {
    const { dModel, origin, sumX, sumXX, sumError, sumErrorSquares } = this;
    const start = token * dModel;
    let [sum, squares, outputSquares, product, error, batchSpread] = [0, 0, 0, 0, 0, 0];
    for (let d = 0; d < dModel; d++) {
      const value = x[start + d];
      const output = reconstruction[start + d];
      const shifted = value - origin[d];
      const delta = value - output;
      sumX[d] += shifted;
      sumXX[d] += shifted * shifted;
      sumError[d] += delta;
      sumErrorSquares[d] += delta * delta;
      sum += value;
      squares += value * value;
      outputSquares += output * output;
      product += value * output;
      error += delta * delta;
      batchSpread += (value - mean[d]) ** 2;
    }
    let ownSpread = 0;
    for (let d = 0; d < dModel; d++) ownSpread += (x[start + d] - sum / dModel) ** 2;
    const [norm, outputNorm] = [Math.sqrt(squares), Math.sqrt(outputSquares)];
    this.errorOverNorm.add(error / dModel, norm);
    this.safeErrorOverNorm.add(error / dModel / largest, norm / largest + 1e-12);
    this.errorOverSquares.add(error, squares);
    this.errorOverOwnSpread.add(error, ownSpread);
    this.errorOverBatchSpread.add(error, batchSpread);
    this.cosine.add(product, norm * outputNorm);
    // SAELens takes 1 for norms below this.
    this.normRatio.add(outputNorm, norm < 1e-4 ? 1 : norm);
    this.inputNorm += norm;
    this.outputNorm += outputNorm;
    this.outputSquares += outputSquares;
    this.inputTimesOutput += product;
    return error;
  }

  #addLatents({ offsets, indices, values }: SparseLatents, token: number, isActive: Uint8Array): void {
    for (let entry = offsets[token]; entry < offsets[token + 1]; entry++) {
      const value = values[entry];
      const latent = indices[entry];
      this.absoluteSum += Math.abs(value);
      this.signedSum += value;
      this.nNonZero++;
      if (value > 0) {
        this.nPositive++;
        this.nFired[latent]++;
        this.lastFired[latent] = this.nTokens;
      }
      if (value > clipScopeActive) {
        this.nAboveClipScope++;
        isActive[latent] = 1;
      }
    }
  }
}

/**
 * Throws unless there are tokens to divide by.
 *
 * @throws {RangeError} If there are none.
 */
export function checkMeasured({ nTokens, nNonFinite }: MetricSums): void {
  if (nTokens > 0) return;
  throw new RangeError(
    nNonFinite === 0
      ? "Cannot measure an SAE: there must be tokens, there are none"
      : `Cannot measure an SAE: there must be tokens of finite numbers, all ${nNonFinite} hold NaN or an infinity`,
  );
}

function isFinite(x: Float32Array, start: number, length: number): boolean {
  for (let i = start; i < start + length; i++) if (!Number.isFinite(x[i])) return false;
  return true;
}

/** Mean of each dimension over a batch, and its largest magnitude, at least 1e-12 as saev has it. */
function describeBatch(x: Float32Array, tokens: readonly number[], dModel: number) {
  const mean = new Float64Array(dModel);
  let largest = 1e-12;
  for (const token of tokens) {
    for (let d = 0; d < dModel; d++) {
      const value = x[token * dModel + d];
      mean[d] += value / tokens.length;
      if (value > largest) largest = value;
      else if (-value > largest) largest = -value;
    }
  }
  return { mean, largest };
}
