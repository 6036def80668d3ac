/**
 * What a compute back end is asked to do, and the plain records that pass through it.
 * Nothing here knows a device: `cpu/` and `webgpu/` each implement {@linkcode Backend}, and both are held to the same
 * numbers by the tests.
 *
 * Shape letters used below: `nTokens` rows of activations, `dModel` the width of the residual stream, `dSae` the
 * number of latents in the dictionary.
 *
 * @module
 */

/**
 * How pre-activations become latents.
 *
 * - `relu`: every positive pre-activation is kept.
 * - `topK`: the `k` largest pre-activations of a token are kept (ties go to the lower latent index). With `relu: true`
 *   those that are not positive are dropped; with `relu: false` negative ones survive, as in saev's TopK.
 * - `batchTopK`: the `k` largest pre-activations of the whole batch that is encoded are kept, negative ones too: what
 *   saev's BatchTopK did in July and August 2025. Latents depend on the batch.
 * - `jumpRelu`: a pre-activation is kept, unchanged, where it is above the threshold of its latent and above zero; one
 *   that equals the threshold is not kept. `threshold` has shape `[dSae]`: -Infinity leaves the ReLU, Infinity switches
 *   the latent off.
 *
 * JumpReLU (https://arxiv.org/abs/2407.14435) has thresholds above zero, so "and above zero" says nothing new there. It
 * is what SAELens computes for any threshold, `relu(h) * (h > threshold)`, and what lets two more kinds of SAE be this
 * rule:
 * - BatchTopK at inference (https://arxiv.org/abs/2412.06410), as saev and SAELens run it: its one threshold for every
 *   latent; a plain ReLU while that is not above zero.
 * - A gated SAE (https://arxiv.org/abs/2404.16014), whose gate `z + bGate > 0` and magnitude `relu(z · exp(rMag) + bMag)`
 *   share the product `z`: scale column `i` of `wEnc` by `exp(rMag[i])`, then `bEnc` is `bMag` and the threshold is
 *   `bMag − bGate · exp(rMag)`, which may be negative. Only a `z` within rounding of the gate may fall on its other side.
 */
export type ActivationRule =
  | { kind: "relu" }
  | { kind: "topK"; k: number; relu: boolean }
  | { kind: "batchTopK"; k: number }
  | { kind: "jumpRelu"; threshold: Float32Array };

/** A rule that looks at one token at a time: what the kernels and graphs of a back end know. */
export type TokenRule = Exclude<ActivationRule, { kind: "batchTopK" }>;

/**
 * How activations are normalized before they are encoded. The reconstruction is brought back by the inverse, so it
 * compares with the activations as they were given.
 *
 * - `none`: not at all.
 * - `affine`: `(clamp(x) − mean) / scale`, fixed, each of shape `[dModel]`; `clamp` bounds `x` first, if it is there.
 * - `layerNorm`: each token on its own: `(x − mean(x)) / (std(x) + epsilon)` over its dimensions, `std` unbiased, as
 *   OpenAI's, SAELens's and ViT-Prisma's autoencoders have it.
 * - `constantNorm`: each token on its own: `x · √dModel / ‖x‖`, SAELens's `constant_norm_rescale`.
 * - `batch`: `(x − mean) / (std + epsilon)` of each dimension over the tokens of the batch, `std` unbiased, as
 *   CLIP-Scope trained. It needs at least two tokens, and latents depend on the batch: measure the mean and scale of the
 *   data once and use `affine` wherever that matters.
 */
export type InputNormalization =
  | { kind: "none" }
  | { kind: "affine"; mean: Float32Array; scale: Float32Array; clamp?: readonly [low: number, high: number] }
  | { kind: "layerNorm"; epsilon: number }
  | { kind: "constantNorm" }
  | { kind: "batch"; epsilon: number };

/** What a normalization took from the tokens themselves: `x = normalized · scale + mean`. */
export interface InputStatistics {
  /** Whether there is one entry a token (shape `[nTokens]`) or one a dimension (shape `[dModel]`). */
  readonly per: "token" | "dimension";
  readonly mean: Float32Array;
  readonly scale: Float32Array;
}

/** The weights of a sparse autoencoder, row-major. */
export interface SaeWeights {
  /** Width of the residual stream. */
  readonly dModel: number;
  /** Number of latents in the dictionary. */
  readonly dSae: number;
  /** Encoder, shape `[dModel, dSae]`. */
  readonly wEnc: Float32Array;
  /** Encoder bias, shape `[dSae]`. */
  readonly bEnc: Float32Array;
  /** Decoder, shape `[dSae, dModel]`: row `i` is the direction of latent `i`. */
  readonly wDec: Float32Array;
  /** Decoder bias, shape `[dModel]`. */
  readonly bDec: Float32Array;
  /** Whether `bDec` is subtracted from the input before encoding. */
  readonly subtractBDec: boolean;
  /**
   * How activations are normalized before all else.
   *
   * @default {{ kind: "none" }}
   */
  readonly normalization?: InputNormalization;
  /** How pre-activations become latents. */
  readonly rule: ActivationRule;
}

/** Weights whose conventions a back end has taken care of already: a rule of one token, no normalization. */
export interface TokenWeights extends SaeWeights {
  readonly rule: TokenRule;
  readonly normalization?: undefined;
}

/**
 * Latents of a batch of tokens in compressed sparse rows: token `t` owns entries `offsets[t]` up to `offsets[t + 1]`.
 * Within a token, `indices` ascend and no value is zero or NaN (a pre-activation that is NaN or -Infinity is never kept).
 */
export interface SparseLatents {
  readonly nTokens: number;
  readonly dSae: number;
  /** Shape `[nTokens + 1]`. */
  readonly offsets: Uint32Array;
  /** Latent of each entry, shape `[nEntries]`. */
  readonly indices: Uint32Array;
  /** Activation of each entry, shape `[nEntries]`. */
  readonly values: Float32Array;
  /** What `decode` needs to bring the reconstruction back, where the normalization depends on the tokens. */
  readonly statistics?: InputStatistics;
}

/** The maximum of each latent over each image's tokens. */
export interface ImageMaxima {
  readonly nImages: number;
  readonly dSae: number;
  /** Largest activation, 0 where the latent is not active on the image; shape `[nImages, dSae]`. */
  readonly values: Float32Array;
  /** Token (within its image) of that maximum, the first one on ties, -1 where not active; shape `[nImages, dSae]`. */
  readonly tokens: Int32Array;
}

/** An SAE whose weights are laid out on a back end, ready for batches. */
export interface LoadedSae {
  readonly dModel: number;
  readonly dSae: number;
  /**
   * Latents of activations `x`, shape `[nTokens, dModel]`.
   *
   * @throws {RangeError} If the length of `x` is not a multiple of `dModel`.
   */
  encode(x: Float32Array): Promise<SparseLatents>;
  /**
   * Reconstruction `latents · wDec + bDec`, shape `[nTokens, dModel]`.
   *
   * @throws {RangeError} If `latents` are of another dictionary size, or their arrays disagree with each other.
   */
  decode(latents: SparseLatents): Promise<Float32Array>;
  /**
   * Encodes whole images and keeps each latent's maximum over an image's tokens (`x` has shape
   * `[nImages · tokensPerImage, dModel]`). Only positive activations count.
   *
   * @throws {RangeError} If `x` does not hold whole images.
   */
  imageMaxima(x: Float32Array, options: { tokensPerImage: number }): Promise<ImageMaxima>;
  /** Frees the weights on the device. */
  dispose(): Promise<void>;
}

/** A device that makes the numbers. */
export interface Backend {
  readonly kind: "cpu" | "webgpu";
  /** Name of the device, for people: `"onnxruntime, 2 threads"`, `"NVIDIA GeForce RTX 4070"`. */
  readonly device: string;
  /** Lays the weights out on the device, once. */
  load(weights: SaeWeights): Promise<LoadedSae>;
  /** Frees the device. */
  close(): Promise<void>;
}

/** Throws unless the shapes of `weights` agree with each other; returns them so that it reads inline. */
export function checkSaeWeights(weights: SaeWeights): SaeWeights {
  const { dModel, dSae, rule } = weights;
  const expected = { wEnc: dModel * dSae, bEnc: dSae, wDec: dSae * dModel, bDec: dModel } as const;
  for (const name of ["wEnc", "bEnc", "wDec", "bDec"] as const) {
    if (weights[name].length !== expected[name]) {
      throw new RangeError(
        `Cannot load SAE: ${name} must hold ${
          expected[name]
        } numbers for dModel ${dModel} and dSae ${dSae}, current length is ${weights[name].length}`,
      );
    }
  }
  if (rule.kind === "topK" && !(Number.isInteger(rule.k) && rule.k >= 1 && rule.k <= dSae)) {
    throw new RangeError(`Cannot load SAE: k must be an integer between 1 and ${dSae}, current value is ${rule.k}`);
  }
  if (rule.kind === "batchTopK" && !(Number.isInteger(rule.k) && rule.k >= 1)) {
    throw new RangeError(`Cannot load SAE: k must be an integer of 1 or more, current value is ${rule.k}`);
  }
  if (rule.kind === "jumpRelu") checkThreshold(rule.threshold, dSae);
  if (weights.normalization !== undefined) checkNormalization(weights.normalization, dModel);
  return weights;
}

/**
 * Throws unless `normalization` fits activations of width `dModel`.
 *
 * @throws {RangeError} If it has another width, or numbers that cannot be divided by.
 */
export function checkNormalization(normalization: InputNormalization, dModel: number): void {
  const fail = (what: string, wanted: string, current: unknown): never => {
    throw new RangeError(`Cannot load SAE: ${what} must be ${wanted}, current value is ${current}`);
  };
  if (normalization.kind === "layerNorm" || normalization.kind === "batch") {
    const { epsilon } = normalization;
    if (!(Number.isFinite(epsilon) && epsilon >= 0)) fail("epsilon of the normalization", "0 or more", epsilon);
  }
  if (normalization.kind !== "affine") return;
  const { mean, scale, clamp } = normalization;
  if (mean.length !== dModel) fail("length of the normalization's mean", `dModel ${dModel}`, mean.length);
  if (scale.length !== dModel) fail("length of the normalization's scale", `dModel ${dModel}`, scale.length);
  if (!mean.every(Number.isFinite)) fail("mean of the normalization", "finite", mean.find((m) => !Number.isFinite(m)));
  const bad = scale.find((s) => !(Number.isFinite(s) && s > 0));
  if (bad !== undefined) fail("scale of the normalization", "above 0 and finite", bad);
  if (clamp !== undefined && !(clamp[0] <= clamp[1])) fail("clamp of the normalization", "a low and a high end", clamp);
}

function checkThreshold(threshold: Float32Array, dSae: number): void {
  if (threshold.length !== dSae) {
    throw new RangeError(
      `Cannot load SAE: threshold must hold ${dSae} numbers for dSae ${dSae}, current length is ${threshold.length}`,
    );
  }
  const latent = threshold.findIndex(Number.isNaN);
  if (latent >= 0) {
    throw new RangeError(`Cannot load SAE: threshold of latent ${latent} must be a number, current value is NaN`);
  }
}

/** What a pre-activation has to exceed under JumpReLU: `max(threshold, 0)`, never -0; shape `[dSae]`. */
export function jumpReluFloors(rule: { threshold: Float32Array }): Float32Array {
  return rule.threshold.map((threshold) => Math.max(threshold, 0));
}

/** Number of tokens in `x`, or an error that names both widths. */
export function countTokens(x: Float32Array, weights: { dModel: number }): number {
  if (x.length % weights.dModel !== 0) {
    throw new RangeError(
      `Cannot encode batch: expected activations of shape [nTokens, ${weights.dModel}], current length is ${x.length}`,
    );
  }
  return x.length / weights.dModel;
}

/** Number of images in `x`, or an error that names both widths. */
export function countImages(x: Float32Array, shape: { dModel: number; tokensPerImage: number }): number {
  const { dModel, tokensPerImage } = shape;
  if (!(Number.isInteger(tokensPerImage) && tokensPerImage >= 1)) {
    throw new RangeError(
      `Cannot encode images: tokensPerImage must be an integer of at least 1, current value is ${tokensPerImage}`,
    );
  }
  if (x.length % (tokensPerImage * dModel) !== 0) {
    throw new RangeError(
      `Cannot encode images: expected activations of shape [nImages, ${tokensPerImage}, ${dModel}], current length is ${x.length}`,
    );
  }
  return x.length / (tokensPerImage * dModel);
}

/** Throws unless `latents` are well-formed latents of a dictionary of `dSae`; returns them so that it reads inline. */
export function checkSparseLatents(latents: SparseLatents, weights: { dSae: number }): SparseLatents {
  const { nTokens, dSae, offsets, indices, values } = latents;
  const fail = (what: string, wanted: number, current: number): never => {
    throw new RangeError(`Cannot decode latents: ${what} must be ${wanted}, current value is ${current}`);
  };
  if (dSae !== weights.dSae) fail("dSae", weights.dSae, dSae);
  if (offsets.length !== nTokens + 1) fail("length of offsets", nTokens + 1, offsets.length);
  if (indices.length !== offsets[nTokens]) fail("length of indices", offsets[nTokens], indices.length);
  if (values.length !== indices.length) fail("length of values", indices.length, values.length);
  for (let t = 0; t < nTokens; t++) {
    if (offsets[t] > offsets[t + 1]) {
      throw new RangeError(
        `Cannot decode latents: offsets must not descend, current value at token ${t} is ${offsets[t]}`,
      );
    }
  }
  const outside = indices.find((latent) => latent >= dSae);
  if (outside !== undefined) {
    throw new RangeError(`Cannot decode latents: indices must be below ${dSae}, current value is ${outside}`);
  }
  return latents;
}
