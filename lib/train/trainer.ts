/**
 * Trains an SAE step by step after a recipe: the caller brings the batches. Everything that a step depends on is in
 * the trainer's state, so that training goes on from a copy of it with the same bits.
 *
 * @module
 */
import type { SaeWeights } from "../compute/contract.ts";
import { normalizeInput } from "../compute/normalize.ts";
import { checkRecipe } from "./check_recipe.ts";
import { countIdleTokens, deadLatents, markFired, raiseIdleBiases } from "./dead.ts";
import type { AuxTerms, Engine } from "./engine.ts";
import { explainFailure, type OpenEngine, openEngine } from "./open_engine.ts";
import { makeObjective } from "./objectives/make.ts";
import { type ParameterName, toWeights } from "./parameters.ts";
import { choosePrefixes, countPrefixes } from "./prefixes.ts";
import { randomSequence } from "./random.ts";
import type { TrainRecipe } from "./recipe.ts";
import { learningRateShare, sparsityShare } from "./schedule.ts";
import { beginTraining, type TrainerOptions, type TrainerState } from "./start.ts";
import { measureSparsity, squaresAroundMean, type TrainStep } from "./step.ts";

/** An SAE in training. */
export interface Trainer {
  /** How it trains. */
  readonly recipe: TrainRecipe;
  /** Where it trains. */
  readonly backend: "cpu" | "webgpu";
  /** Name of that device, for people. */
  readonly device: string;
  /**
   * Takes a step on activations of shape `[nTokens, dModel]`. One at a time.
   *
   * @throws {RangeError} If `x` holds no whole tokens.
   * @throws {Error} If a GPU is lost or has too little memory: training can go on from the last state that was kept.
   */
  step(x: Float32Array): Promise<TrainStep>;
  /** The SAE as it is, for use on activations as they come. */
  weights(): Promise<SaeWeights>;
  /** What training depends on. Its arrays may change with the next step: write or copy them before. */
  state(): Promise<TrainerState>;
  /** Frees the device, or onnxruntime's sessions. */
  close(): Promise<void>;
}

/** Whether gradients of pieces of a batch add up to those of the batch. */
function canBeSplit({ activation: { kind }, auxK }: TrainRecipe): boolean {
  return (kind === "relu" || kind === "jumpRelu" || kind === "gated") && !(auxK && auxK.k > 0);
}

/**
 * Opens a trainer.
 *
 * @throws {RangeError} If the recipe does not go with the sizes, `backend` is none of the choices, or a matrix or a batch
 * is larger than the buffers of a GPU that was asked for by name.
 * @throws {Error} If there is no such GPU, or it lacks the memory.
 * @throws {TypeError} If there is nothing to begin from.
 */
export function makeTrainer(recipe: TrainRecipe, options: TrainerOptions): Promise<Trainer> {
  return makeTrainerOn(recipe, { ...options, open: (engine) => openEngine(engine, options) });
}

/** The same on an engine of the caller's. */
export async function makeTrainerOn(
  recipe: TrainRecipe,
  options: TrainerOptions & { open: OpenEngine },
): Promise<Trainer> {
  const { dModel, dSae, nSteps, threads = 0 } = options;
  checkRecipe(recipe, dSae);
  const { activation, subtractBDec, auxK, dead: deadRule, biasRise, unitDecoder, clipNorm = Infinity } = recipe;
  const random = randomSequence(options.state?.random ?? recipe.seed);
  const begun = options.state ?? await beginTraining(recipe, { ...options, random: random.next });
  const { input, idleTokens } = begun;
  let { step, nTokens } = begun;
  const engine: Engine = await options.open({
    ...{ dModel, dSae, subtractBDec, threads, parameters: begun.parameters },
    ...{ optimizer: recipe.optimizer, optimizerState: options.state?.optimizer },
    batch: canBeSplit(recipe) ? undefined : { nTokens: recipe.batchSize, nPrefixes: countPrefixes(recipe.prefixes) },
  });
  const { tokensAtOnce = Math.ceil(engine.numbersAtOnce / dSae) } = options;
  const pieceTokens = canBeSplit(recipe) ? tokensAtOnce : Infinity;
  const objective = makeObjective(activation, engine.vectors);
  objective.threshold = begun.threshold;
  if (step === 0 && unitDecoder !== "never") await engine.normalizeDecoder("all");

  return {
    recipe,
    backend: engine.kind,
    device: engine.device,
    step: (x) => explainFailure(takeStep(x), { step, nSteps, device: engine.device }),
    async weights() {
      return toWeights(await engine.parameters(), {
        dModel,
        dSae,
        scale: input.foldedScale,
        normalization: input.foldedScale === 1 ? input.normalization : undefined,
        subtractBDec,
        rule: objective.rule(),
      });
    },
    async state() {
      const { threshold } = objective;
      const [parameters, optimizer] = [await engine.parameters(), await engine.optimizerState()];
      return { step, nTokens, random: random.state, threshold, input, idleTokens, parameters, optimizer };
    },
    close: () => engine.close(),
  };

  async function takeStep(batch: Float32Array): Promise<TrainStep> {
    if (batch.length === 0 || batch.length % dModel !== 0) {
      throw new RangeError(
        `Cannot train SAE: expected activations of shape [nTokens, ${dModel}], current length is ${batch.length}`,
      );
    }
    const position = { step, nSteps };
    const n = batch.length / dModel;
    if (unitDecoder === "before") await engine.normalizeDecoder("moved");
    const { x: target } = normalizeInput(batch, { dModel, normalization: input.normalization });
    const prefixes = choosePrefixes(recipe.prefixes, { dSae, random: random.next });
    const coefficient = recipe.sparsity.coefficient * sparsityShare(recipe.sparsity.warmUp, position);
    const fired = new Uint8Array(dSae);
    const sums = { reconstruction: 0, sparsity: 0, aux: 0, mse: 0, l0: 0, l1: 0 };
    let nDead = 0;
    engine.begin();
    for (let from = 0; from < n; from += pieceTokens) {
      const piece = target.subarray(from * dModel, (from + pieceTokens) * dModel);
      const entries = await engine.encode(piece, objective.select(piece.length / dModel));
      objective.activate(entries, position);
      markFired(fired, entries, deadRule);
      let aux: AuxTerms | undefined;
      if (from + pieceTokens >= n) {
        countIdleTokens(idleTokens, fired, { nTokens: n, rule: deadRule });
        const dead = deadLatents(idleTokens, deadRule);
        nDead = dead.length;
        if (auxK && auxK.k > 0 && nDead > 0) {
          aux = { ...auxK, entries: await engine.encodeSome(dead, auxK) };
        }
      }
      const share = piece.length / target.length;
      const losses = await engine.addGradients({
        ...{ objective, entries, aux, prefixes, loss: recipe.loss, coefficient, share },
      });
      const found = { ...losses, ...measureSparsity(entries.values, n) };
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += found[name];
    }
    const gradientNorm = await engine.finish({ removeParallel: recipe.removeParallel });
    const learningRate = recipe.optimizer.learningRate * learningRateShare(recipe.schedule, position);
    const rateOf = (name: ParameterName) => learningRate * (recipe.optimizer.factors?.[name] ?? 1);
    const loss = sums.reconstruction + sums.sparsity + sums.aux;
    if (Number.isFinite(loss)) {
      await engine.update({
        // The small number is torch's, whose clip_grad_norm_ this follows.
        gradientFactor: Math.min(1, clipNorm / (gradientNorm + 1e-6)),
        learningRate: rateOf,
      });
      if (unitDecoder === "after") await engine.normalizeDecoder("moved");
      if (biasRise) raiseIdleBiases(engine.vectors.bEnc, idleTokens, { biasRise, learningRate: rateOf("bEnc") });
    }
    step++;
    nTokens += n;
    const normalizedMse = sums.mse * target.length / squaresAroundMean(target, dModel);
    return { step, nSteps, nTokens, loss, ...sums, normalizedMse, nDead, gradientNorm, learningRate };
  }
}
