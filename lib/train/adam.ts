/**
 * Adam, after Kingma and Ba (https://arxiv.org/abs/1412.6980), over an SAE's parameters.
 *
 * @module
 */
import { parameterNames, type Parameters, zerosLike } from "./parameters.ts";

/** Options of {@linkcode createAdam}. */
export interface AdamOptions {
  /**
   * Decay of the running mean of gradients.
   *
   * @default {0.9}
   */
  beta1?: number;
  /**
   * Decay of the running mean of their squares.
   *
   * @default {0.999}
   */
  beta2?: number;
  /**
   * Added to the root of the latter.
   *
   * @default {1e-8}
   */
  epsilon?: number;
}

/** Makes a function that takes one step: it changes `parameters` in place, along `gradients`. */
export function createAdam(
  parameters: Parameters,
  options: AdamOptions = {},
): (gradients: Parameters, learningRate: number) => void {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
  const means = zerosLike(parameters);
  const squares = zerosLike(parameters);
  let step = 0;
  return (gradients, learningRate) => {
    step++;
    const stepSize = learningRate / (1 - beta1 ** step);
    const squareFactor = 1 / (1 - beta2 ** step);
    for (const name of parameterNames) {
      const [p, g, m, v] = [parameters[name], gradients[name], means[name], squares[name]];
      for (let i = 0; i < p.length; i++) {
        m[i] += (1 - beta1) * (g[i] - m[i]);
        v[i] += (1 - beta2) * (g[i] * g[i] - v[i]);
        p[i] -= stepSize * m[i] / (Math.sqrt(v[i] * squareFactor) + epsilon);
      }
    }
  };
}
