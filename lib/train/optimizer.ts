/**
 * The optimizer of a recipe: Adam on everything, or Muon on the two matrices and Adam on the rest.
 *
 * @module
 */
import { type AdamState, createAdam, type OptimizerStep } from "./adam.ts";
import { createMuon, type MuonState } from "./muon.ts";
import { parameterNames, type Parameters } from "./parameters.ts";
import type { TrainOptimizer } from "./recipe.ts";

/** What an optimizer remembers; the arrays are the live ones. */
export interface OptimizerState {
  readonly adam: AdamState;
  readonly muon?: MuonState;
}

/** An optimizer on its parameters. */
export interface ParameterOptimizer {
  readonly state: OptimizerState;
  /** Moves the parameters in place. */
  step(step: OptimizerStep): Promise<void>;
  /** Whether a latent's rows were moved by the last step. */
  isAwake(latent: number): boolean;
  close(): Promise<void>;
}

/** Makes the optimizer of a recipe. */
export async function makeOptimizer(
  parameters: Parameters,
  options: TrainOptimizer & { dModel: number; threads: number; state?: OptimizerState },
): Promise<ParameterOptimizer> {
  const { kind, state, dModel } = options;
  const names = parameterNames(parameters);
  if (kind === "adam") {
    const adam = createAdam(parameters, { ...options, names, state: state?.adam });
    return {
      state: { adam: adam.state },
      step: (step) => Promise.resolve(adam.step(step)),
      isAwake: (latent) => adam.quiet.isAwake(latent),
      close: () => Promise.resolve(),
    };
  }
  const adam = createAdam(parameters, {
    ...options,
    dModel,
    names: names.filter((name) => name !== "wEnc" && name !== "wDec"),
    state: state?.adam,
  });
  const muon = await createMuon(parameters, { ...options, state: state?.muon });
  return {
    state: { adam: adam.state, muon: muon.state },
    async step(step) {
      adam.step(step);
      await muon.step(step);
    },
    isAwake: () => true,
    close: () => muon.close(),
  };
}
