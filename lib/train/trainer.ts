/**
 * Trains an SAE step by step after a recipe: the caller brings the batches. Everything that a step depends on is in
 * the trainer's state, so that training goes on from a copy of it with the same bits.
 *
 * @module
 */
import type { SaeWeights } from "../compute/contract.ts";
import { normalizeInput } from "../compute/normalize.ts";
import { addBatchGradients, type AuxTerms } from "./batch.ts";
import { checkRecipe } from "./check_recipe.ts";
import { countIdleTokens, deadLatents, markFired } from "./dead.ts";
import { encodeBatch, encoderInput, explainLeftOver } from "./encode.ts";
import { openForward } from "./forward.ts";
import { Gradients } from "./gradients.ts";
import { makeObjective } from "./objectives/make.ts";
import { makeOptimizer } from "./optimizer.ts";
import { normalizeRow, type Parameters, toWeights } from "./parameters.ts";
import { choosePrefixes } from "./prefixes.ts";
import { randomSequence } from "./random.ts";
import type { TrainRecipe } from "./recipe.ts";
import { learningRateShare, sparsityShare } from "./schedule.ts";
import { beginTraining, type TrainerOptions, type TrainerState } from "./start.ts";
import { measureSparsity, squaresAroundMean, type TrainStep } from "./step.ts";
import { Workspace } from "./workspace.ts";

/** An SAE in training. */
export interface Trainer {
  /** How it trains. */
  readonly recipe: TrainRecipe;
  /** Parameters as they are; they change in place. */
  readonly parameters: Parameters;
  /**
   * Takes a step on activations of shape `[nTokens, dModel]`. One at a time.
   *
   * @throws {RangeError} If `x` holds no whole tokens.
   */
  step(x: Float32Array): Promise<TrainStep>;
  /** The SAE as it is, for use on activations as they come. */
  weights(): SaeWeights;
  /** What training depends on. Its arrays change with the next step: write or copy them before. */
  state(): TrainerState;
  /** Frees onnxruntime's sessions. */
  close(): Promise<void>;
}

// Pre-activations of the tokens that are worked on at once, where any number of them may be active: as many as half of
// them are at the start, at some 40 bytes each.
const NUMBERS_AT_ONCE = 2 ** 26;

/** Whether gradients of pieces of a batch add up to those of the batch. */
function canBeSplit({ activation: { kind }, auxK }: TrainRecipe): boolean {
  return (kind === "relu" || kind === "jumpRelu" || kind === "gated") && !(auxK && auxK.k > 0);
}

/**
 * Opens a trainer.
 *
 * @throws {RangeError} If the recipe does not go with the sizes.
 * @throws {TypeError} If there is nothing to begin from.
 */
export async function makeTrainer(recipe: TrainRecipe, options: TrainerOptions): Promise<Trainer> {
  const { dModel, dSae, nSteps, threads = 0, tokensAtOnce = Math.ceil(NUMBERS_AT_ONCE / dSae) } = options;
  checkRecipe(recipe, dSae);
  const { activation, subtractBDec, auxK, dead: deadRule, unitDecoder, clipNorm = Infinity } = recipe;
  const random = randomSequence(options.state?.random ?? recipe.seed);
  const forward = await openForward({ dModel, threads });
  const workspace = new Workspace(dModel);
  const begun = options.state ?? await beginTraining(recipe, { ...options, forward, workspace, random: random.next });
  const { parameters, input, idleTokens } = begun;
  let { step, nTokens } = begun;
  const objective = makeObjective(activation, parameters);
  objective.threshold = begun.threshold;
  const gradients = new Gradients(parameters);
  const pieceTokens = canBeSplit(recipe) ? tokensAtOnce : Infinity;
  const optimizer = await makeOptimizer(parameters, {
    ...recipe.optimizer,
    dModel,
    threads,
    state: options.state?.optimizer,
  });
  if (step === 0 && unitDecoder !== "never") normalizeDecoder(() => true);

  return {
    recipe,
    parameters,
    step: takeStep,
    weights: () =>
      toWeights(parameters, {
        dModel,
        dSae,
        scale: input.foldedScale,
        normalization: input.foldedScale === 1 ? input.normalization : undefined,
        subtractBDec,
        rule: objective.rule(),
      }),
    state: () => ({
      step,
      nTokens,
      random: random.state,
      threshold: objective.threshold,
      input,
      idleTokens,
      parameters,
      optimizer: optimizer.state,
    }),
    async close() {
      await forward.close();
      await optimizer.close();
    },
  };

  async function takeStep(batch: Float32Array): Promise<TrainStep> {
    if (batch.length === 0 || batch.length % dModel !== 0) {
      throw new RangeError(
        `Cannot train SAE: expected activations of shape [nTokens, ${dModel}], current length is ${batch.length}`,
      );
    }
    const position = { step, nSteps };
    const n = batch.length / dModel;
    if (unitDecoder === "before") normalizeDecoder((latent) => optimizer.isAwake(latent));
    const { x: target } = normalizeInput(batch, { dModel, normalization: input.normalization });
    const prefixes = choosePrefixes(recipe.prefixes, { dSae, random: random.next });
    const coefficient = recipe.sparsity.coefficient * sparsityShare(recipe.sparsity.warmUp, position);
    const fired = new Uint8Array(dSae);
    const sums = { reconstruction: 0, sparsity: 0, aux: 0, mse: 0, l0: 0, l1: 0 };
    let nDead = 0;
    gradients.begin();
    for (let from = 0; from < n; from += pieceTokens) {
      const piece = target.subarray(from * dModel, (from + pieceTokens) * dModel);
      const encoded = encoderInput(piece, { bDec: parameters.bDec, subtractBDec });
      const entries = await encodeBatch(encoded, { forward, objective, parameters });
      objective.activate(entries, position);
      markFired(fired, entries, deadRule);
      let aux: AuxTerms | undefined;
      if (from + pieceTokens >= n) {
        countIdleTokens(idleTokens, fired, { nTokens: n, rule: deadRule });
        const dead = deadLatents(idleTokens, deadRule);
        nDead = dead.length;
        if (auxK && auxK.k > 0 && nDead > 0) {
          aux = await explainLeftOver(encoded, { forward, parameters, auxK, dead });
        }
      }
      const losses = addBatchGradients(gradients, {
        ...{ workspace, parameters, objective, target: piece, encoded, entries, subtractBDec, aux },
        ...{ prefixes, loss: recipe.loss, coefficient, share: piece.length / target.length },
      });
      const found = { ...losses, ...measureSparsity(entries.values, n) };
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += found[name];
    }
    const gradientNorm = gradients.finish({ workspace, parameters, removeParallel: recipe.removeParallel });
    const learningRate = recipe.optimizer.learningRate * learningRateShare(recipe.schedule, position);
    const loss = sums.reconstruction + sums.sparsity + sums.aux;
    if (Number.isFinite(loss)) {
      await optimizer.step({
        gradients: gradients.arrays,
        touched: gradients.touched,
        // The small number is torch's, whose clip_grad_norm_ this follows.
        gradientFactor: Math.min(1, clipNorm / (gradientNorm + 1e-6)),
        learningRate: (name) => learningRate * (recipe.optimizer.factors?.[name] ?? 1),
      });
      if (unitDecoder === "after") normalizeDecoder((latent) => optimizer.isAwake(latent));
    }
    step++;
    nTokens += n;
    const normalizedMse = sums.mse * target.length / squaresAroundMean(target, dModel);
    return { step, nSteps, nTokens, loss, ...sums, normalizedMse, nDead, gradientNorm, learningRate };
  }

  function normalizeDecoder(hasMoved: (latent: number) => boolean): void {
    for (let latent = 0; latent < dSae; latent++) {
      if (hasMoved(latent)) normalizeRow(parameters.wDec, latent, dModel);
    }
  }
}
