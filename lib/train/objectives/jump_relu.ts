/**
 * JumpReLU with learned thresholds (Rajamanoharan et al., https://arxiv.org/abs/2407.14435): a latent is its
 * pre-activation where that is above the threshold, and the number of active latents is punished. Neither step has a
 * slope along the threshold, so a window of width `bandwidth` around it stands in for one.
 *
 * @module
 */
import type { ParameterVectors } from "../parameters.ts";
import type { TrainActivation } from "../recipe.ts";
import type { Objective } from "./objective.ts";

/** JumpReLU. Entries reach half a window below the threshold, since those move it, too. */
export function jumpReluObjective(
  activation: TrainActivation & { kind: "jumpRelu" },
  parameters: ParameterVectors,
): Objective {
  const { bandwidth } = activation;
  const logThreshold = parameters.logThreshold!;
  let thresholds = logThreshold.map(Math.exp);
  return {
    select() {
      thresholds = logThreshold.map(Math.exp);
      // Pre-activations below zero are zero before they are compared.
      return { kind: "above", floors: thresholds.map((threshold) => Math.max(0, threshold - bandwidth / 2)) };
    },
    activate({ offsets, pre, values }) {
      for (let latent = 0; latent < thresholds.length; latent++) {
        for (let i = offsets[latent]; i < offsets[latent + 1]; i++) {
          values[i] = pre[i] > thresholds[latent] ? pre[i] : 0;
        }
      }
    },
    penalty: ({ values }) => values.reduce((count, value) => count + (value > 0 ? 1 : 0), 0),
    addSlopes({ pre, values }, { latent, start, end, slopes, pull }, gradients) {
      const threshold = thresholds[latent];
      let sum = 0;
      let alongThreshold = 0;
      for (let i = start; i < end; i++) {
        if (Math.abs(pre[i] - threshold) < bandwidth / 2) {
          alongThreshold -= (threshold * slopes[i] + pull) / bandwidth;
        }
        if (!(values[i] > 0)) slopes[i] = 0;
        sum += slopes[i];
      }
      gradients.bEnc[latent] += sum;
      gradients.logThreshold![latent] += threshold * alongThreshold;
    },
    rule: () => ({ kind: "jumpRelu", threshold: logThreshold.map(Math.exp) }),
    threshold: 0,
  };
}
