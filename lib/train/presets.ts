/**
 * Recipes of others, as they were run, and our own. Each is plain data: spread one and change what you like.
 *
 * Where a source has a bug that its numbers depend on, the recipe does what the source did and says so; where the bug
 * only stops or confuses a run, it is mended, and that is said, too.
 *
 * @module
 */
import type { TrainRecipe } from "./recipe.ts";

const topK: TrainRecipe = {
  activation: { kind: "topK", k: 16, relu: true },
  subtractBDec: true,
  input: { kind: "scale" },
  loss: "mean",
  sparsity: { coefficient: 0, warmUp: 0 },
  auxK: { k: 0, weight: 1 / 32, relu: true, bias: false, over: "mean" },
  dead: { afterTokens: 65_536 },
  initialization: { directions: "spread", blend: 0.8, encoder: "decoder", unit: true, fitScale: true, bias: "mean" },
  optimizer: { kind: "adam", learningRate: 3e-4 },
  schedule: { warmUp: 0.05, decay: "cosine" },
  unitDecoder: "after",
  removeParallel: true,
  batchSize: 512,
  length: { epochs: 3 },
  seed: 0,
};

const saev: TrainRecipe = {
  activation: { kind: "relu" },
  subtractBDec: false,
  input: { kind: "none" },
  loss: "mean",
  sparsity: { coefficient: 4e-4, warmUp: 0 },
  prefixes: { kind: "sampled", count: 10, minimum: 1, power: 0.5 },
  dead: { afterTokens: 10_000_000 },
  initialization: { directions: "data", blend: 0.8, encoder: "decoder", unit: true, bias: "zero" },
  optimizer: { kind: "adam", learningRate: 4e-4 },
  schedule: { warmUp: 500, decay: "cosine" },
  unitDecoder: "before",
  removeParallel: true,
  clipNorm: 1,
  batchSize: 16_384,
  length: { tokens: 100_000_000 },
  seed: 42,
};

const saevAuxK = { k: 512, weight: 1 / 32, relu: false, bias: true, over: "mean" } as const;

const clipScope: TrainRecipe = {
  activation: { kind: "topK", k: 32, relu: false },
  subtractBDec: true,
  input: { kind: "batch", epsilon: 1e-6 },
  loss: "tokenNorm",
  sparsity: { coefficient: 0, warmUp: 0 },
  dead: { afterTokens: 10_000_000, above: 1e-3, countsFiringBatch: true },
  initialization: { directions: "normal", encoder: "decoder", unit: false, bias: "normal" },
  // Its encoder has no bias.
  optimizer: { kind: "adam", learningRate: 9e-5, factors: { bEnc: 0 } },
  schedule: { warmUp: 0, decay: "none" },
  unitDecoder: "never",
  removeParallel: false,
  batchSize: 32_896,
  length: { tokens: 1_200_000_000 },
  seed: 0,
};

const batchTopK: TrainRecipe = {
  activation: { kind: "batchTopK", k: 64, relu: true, momentum: 0.001, thresholdFrom: 1001, startsAtFirst: true },
  subtractBDec: true,
  input: { kind: "none" },
  loss: "sum",
  sparsity: { coefficient: 0, warmUp: 0 },
  auxK: { k: 384, weight: 1 / 32, relu: true, bias: false, over: "residualVariance" },
  dead: { afterTokens: 10_000_000 },
  initialization: { directions: "kaiming", encoder: "decoder", unit: true, bias: "geometricMedian" },
  optimizer: { kind: "adam", learningRate: 2e-4 },
  schedule: { warmUp: 1000, decay: "linear", decayFrom: 0.8 },
  unitDecoder: "after",
  removeParallel: true,
  clipNorm: 1,
  batchSize: 2048,
  length: { tokens: 500_000_000 },
  seed: 0,
};

/** Names of {@linkcode presets}. */
export type PresetName =
  | "top-k"
  | "saev-2025-02"
  | "saev"
  | "saev-top-k"
  | "saev-batch-top-k"
  | "clip-scope"
  | "clip-scope-relu"
  | "batch-top-k"
  | "matryoshka-batch-top-k"
  | "jump-relu"
  | "gated";

/**
 * Recipes by name.
 *
 * | name | what it is |
 * |---|---|
 * | `top-k` | Ours, for small runs on one machine: TopK on scaled activations, begun from spread-out data points |
 * | `saev-2025-02` | saev as published in February 2025: ReLU and L1 on standardized activations, `bDec` subtracted. Its sparsity warm-up never reached the loss, so there is none here; set `sparsity.warmUp` for one that works. Its encoder begins within ±√(6 / dSae), where ±√(6 / dModel) was meant |
 * | `saev` | saev as of December 2025: ReLU, L1 and ten sampled Matryoshka prefixes on raw activations. The reconstruction loss is a mean over prefixes, where the paper has a sum, and no prefix of length 1 is ever drawn |
 * | `saev-top-k` | The same with TopK, which keeps negative values, and AuxK |
 * | `saev-batch-top-k` | The same with BatchTopK. A batch without positive values leaves the threshold alone, where saev stops with an error |
 * | `clip-scope` | CLIP-Scope: TopK that keeps negative values, on activations standardized batch by batch. The finished SAE says so, where the published files do not |
 * | `clip-scope-relu` | The ReLU autoencoder of the same code |
 * | `batch-top-k` | BatchTopK as in dictionary_learning, for 16,384 latents of width 768: its learning rate falls as `√(16384 / dSae)`, its auxiliary latents are `dModel / 2`. Its gradients are shortened before their parallel parts are taken out, ours after |
 * | `matryoshka-batch-top-k` | The same with five nested groups, as Bussmann et al. have them; losses of prefixes are averaged once, where dictionary_learning divides by their number twice |
 * | `jump-relu` | JumpReLU as in Gemma Scope, for tokens of mean square length 1; its sparsity coefficient was swept, choose yours |
 * | `gated` | Losses and optimizer of Gated SAEs as in dictionary_learning, begun with the encoder as the decoder |
 */
export const presets: Readonly<Record<PresetName, TrainRecipe>> = {
  "top-k": topK,
  "saev-2025-02": {
    ...saev,
    subtractBDec: true,
    input: { kind: "standardize", clamp: [-1e5, 1e5] },
    prefixes: undefined,
    initialization: { directions: "kaiming", encoder: "own", unit: false, bias: "zero" },
    schedule: { warmUp: 500, decay: "none" },
    clipNorm: Infinity,
  },
  "saev": saev,
  "saev-top-k": {
    ...saev,
    activation: { kind: "topK", k: 32, relu: false },
    sparsity: { coefficient: 0, warmUp: 0 },
    auxK: saevAuxK,
  },
  "saev-batch-top-k": {
    ...saev,
    activation: { kind: "batchTopK", k: 32, relu: false, momentum: 0.1, thresholdFrom: 0 },
    sparsity: { coefficient: 0, warmUp: 0 },
    auxK: saevAuxK,
  },
  "clip-scope": clipScope,
  "clip-scope-relu": {
    ...clipScope,
    activation: { kind: "relu" },
    sparsity: { coefficient: 2e-3, warmUp: 0 },
  },
  "batch-top-k": batchTopK,
  "matryoshka-batch-top-k": {
    ...batchTopK,
    prefixes: { kind: "shares", shares: [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2 + 1 / 32] },
  },
  "jump-relu": {
    activation: { kind: "jumpRelu", bandwidth: 0.001, initialThreshold: 0.001 },
    subtractBDec: false,
    input: { kind: "unitNorm" },
    loss: "sum",
    sparsity: { coefficient: 1e-3, warmUp: 10_000 },
    dead: { afterTokens: 10_000_000 },
    initialization: { directions: "kaiming", encoder: "decoder", unit: true, bias: "zero" },
    optimizer: { kind: "adam", learningRate: 7e-5, beta1: 0, beta2: 0.999, epsilon: 1e-8 },
    schedule: { warmUp: 1000, warmUpShape: "cosine", warmUpFrom: 0.1, decay: "none" },
    unitDecoder: "after",
    removeParallel: true,
    batchSize: 4096,
    length: { tokens: 500_000_000 },
    seed: 0,
  },
  "gated": {
    activation: { kind: "gated" },
    subtractBDec: true,
    input: { kind: "none" },
    loss: "sum",
    sparsity: { coefficient: 0.1, warmUp: 0 },
    dead: { afterTokens: 10_000_000 },
    initialization: { directions: "kaiming", encoder: "decoder", unit: true, bias: "zero" },
    optimizer: { kind: "adam", learningRate: 3e-4, beta1: 0, beta2: 0.999 },
    schedule: { warmUp: 1000, decay: "none" },
    unitDecoder: "after",
    removeParallel: true,
    batchSize: 4096,
    length: { tokens: 500_000_000 },
    seed: 0,
  },
};
