/**
 * From a recipe's activation to its objective and its parameters.
 *
 * @module
 */
import type { ParameterVectors } from "../parameters.ts";
import type { TrainActivation } from "../recipe.ts";
import { gatedObjective } from "./gated.ts";
import { jumpReluObjective } from "./jump_relu.ts";
import type { Objective } from "./objective.ts";
import { batchTopKObjective, reluObjective, topKObjective } from "./plain.ts";

/** Parameters that an architecture has beyond the four of every SAE. */
export function extraParameters(activation: TrainActivation, dSae: number): Partial<ParameterVectors> {
  if (activation.kind === "jumpRelu") {
    return { logThreshold: new Float32Array(dSae).fill(Math.log(activation.initialThreshold)) };
  }
  return activation.kind === "gated" ? { rMag: new Float32Array(dSae), bMag: new Float32Array(dSae) } : {};
}

/** The objective of a recipe. */
export function makeObjective(activation: TrainActivation, parameters: ParameterVectors): Objective {
  const dSae = parameters.bEnc.length;
  if (activation.kind === "relu") return reluObjective(dSae);
  if (activation.kind === "topK") return topKObjective(activation);
  if (activation.kind === "batchTopK") return batchTopKObjective(activation, dSae);
  return activation.kind === "jumpRelu" ? jumpReluObjective(activation, parameters) : gatedObjective(parameters);
}
