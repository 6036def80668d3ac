/**
 * ReLU, TopK and BatchTopK: latents are the pre-activations that were picked, slopes pass through unchanged, and the
 * punishment is the sum of absolute values.
 *
 * @module
 */
import type { ActivationRule } from "../../compute/contract.ts";
import type { TrainActivation } from "../recipe.ts";
import type { Objective } from "./objective.ts";

function plainObjective(select: Objective["select"], rule: () => ActivationRule): Objective {
  return {
    select,
    // Values begin as the pre-activations.
    activate() {},
    penalty: ({ values }) => values.reduce((sum, value) => sum + Math.abs(value), 0),
    addSlopes(entries, { latent, start, end, slopes, pull }, gradients) {
      let sum = 0;
      for (let i = start; i < end; i++) {
        slopes[i] += pull * Math.sign(entries.values[i]);
        sum += slopes[i];
      }
      gradients.bEnc[latent] += sum;
    },
    rule,
    threshold: 0,
  };
}

/** ReLU. */
export function reluObjective(dSae: number): Objective {
  const floors = new Float32Array(dSae);
  return plainObjective(() => ({ kind: "above", floors }), () => ({ kind: "relu" }));
}

/** TopK. */
export function topKObjective(activation: TrainActivation & { kind: "topK" }): Objective {
  const { k, relu } = activation;
  return plainObjective(() => ({ kind: "topK", k, relu }), () => ({ kind: "topK", k, relu }));
}

/**
 * BatchTopK. Once trained it is a JumpReLU with one threshold for all latents. A batch with nothing above zero leaves
 * the threshold as it is; saev stops with an error there.
 */
export function batchTopKObjective(activation: TrainActivation & { kind: "batchTopK" }, dSae: number): Objective {
  const { k, relu, momentum, thresholdFrom, startsAtFirst = false } = activation;
  const objective = plainObjective(
    (nTokens) => ({ kind: "topOfBatch", nKept: k * nTokens, relu }),
    () => ({ kind: "jumpRelu", threshold: new Float32Array(dSae).fill(objective.threshold) }),
  );
  objective.activate = ({ values }, { step }) => {
    const smallest = values.reduce((least, value) => value > 0 && value < least ? value : least, Infinity);
    if (step < thresholdFrom || smallest === Infinity) return;
    const share = startsAtFirst && objective.threshold === 0 ? 1 : momentum;
    objective.threshold = (1 - share) * objective.threshold + share * smallest;
  };
  return objective;
}
