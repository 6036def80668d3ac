/**
 * Gated SAEs (Rajamanoharan et al., https://arxiv.org/abs/2404.16014): with `z = x · wEnc`, the gate `z + bEnc` says
 * whether a latent is active, the magnitude `relu(z · exp(rMag) + bMag)` how much. The step of the gate has no slope, so
 * gates learn from two losses of their own: their sum is punished, and they have to reconstruct through a decoder that
 * is held fixed.
 *
 * @module
 */
import type { ParameterVectors } from "../parameters.ts";
import type { Objective } from "./objective.ts";

/** Gated. The pre-activation of an entry is its gate, above zero. */
export function gatedObjective(parameters: ParameterVectors): Objective {
  const { bEnc } = parameters;
  const { rMag, bMag } = parameters as Required<ParameterVectors>;
  const floors = new Float32Array(bEnc.length);
  return {
    select: () => ({ kind: "above", floors }),
    activate({ offsets, pre, values }) {
      for (let latent = 0; latent < bEnc.length; latent++) {
        const factor = Math.exp(rMag[latent]);
        for (let i = offsets[latent]; i < offsets[latent + 1]; i++) {
          values[i] = Math.max(0, (pre[i] - bEnc[latent]) * factor + bMag[latent]);
        }
      }
    },
    gates: ({ pre }) => pre,
    penalty: ({ pre }) => pre.reduce((sum, gate) => sum + gate, 0),
    addSlopes({ pre, values }, { latent, start, end, slopes, gateSlopes, pull }, gradients) {
      const factor = Math.exp(rMag[latent]);
      let [alongGate, alongMagnitude, alongFactor] = [0, 0, 0];
      for (let i = start; i < end; i++) {
        const gate = gateSlopes![i] + pull;
        const magnitude = values[i] > 0 ? slopes[i] : 0;
        alongGate += gate;
        alongMagnitude += magnitude;
        alongFactor += magnitude * (pre[i] - bEnc[latent]) * factor;
        slopes[i] = gate + magnitude * factor;
      }
      gradients.bEnc[latent] += alongGate;
      gradients.bMag![latent] += alongMagnitude;
      gradients.rMag![latent] += alongFactor;
    },
    rule() {
      const threshold = bMag.map((bias, latent) => bias - bEnc[latent] * Math.exp(rMag[latent]));
      return { kind: "jumpRelu", threshold };
    },
    threshold: 0,
  };
}
