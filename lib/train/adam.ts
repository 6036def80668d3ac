/**
 * Adam, after Kingma and Ba (https://arxiv.org/abs/1412.6980), over an SAE's parameters. A latent without a gradient
 * still moves by its momentum, as with any Adam, until that has died away; from then on its rows are left alone, and
 * their mean squares are caught up with when it comes back. So work follows the latents that are alive, and numbers are
 * those of an Adam that moves everything.
 *
 * @module
 */
import type { ParameterName, Parameters } from "./parameters.ts";
import { zerosLike } from "./parameters.ts";
import { Workspace } from "./workspace.ts";

/** Options of {@linkcode createAdam}. */
export interface AdamOptions {
  /** Arrays to move. */
  names: readonly ParameterName[];
  dModel: number;
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
  /**
   * Where to go on.
   *
   * @default the beginning
   */
  state?: AdamState;
}

/** What Adam remembers; the arrays are the live ones. */
export interface AdamState {
  step: number;
  readonly means: Parameters;
  readonly squares: Parameters;
  /** Steps since each latent had a gradient. */
  readonly quietSteps: Uint32Array;
}

/** What a step of an optimizer goes by. */
export interface OptimizerStep {
  readonly gradients: Parameters;
  /** What gradients are multiplied by. */
  readonly gradientFactor: number;
  /** Learning rate of a parameter. */
  readonly learningRate: (name: ParameterName) => number;
  /** 1 for each latent that has a gradient in the matrices, shape `[dSae]`. */
  readonly touched: Uint8Array;
}

/** Adam on some parameters. */
export interface Adam {
  readonly state: AdamState;
  /** Moves the parameters in place. */
  step(step: OptimizerStep): void;
  /** Whether a latent's rows were moved by the last step. */
  isAwake(latent: number): boolean;
}

// Momentum this small against what it was moves no float32 parameter.
const NEGLIGIBLE_MOMENTUM = 1e-25;
const CHUNK_NUMBERS = 8192;
/** Quiet steps of a latent that never had a gradient. */
const ALWAYS_QUIET = 2 ** 31;

/** Makes an Adam for parameters, which it changes in place. */
export function createAdam(parameters: Parameters, options: AdamOptions): Adam {
  const { names, dModel, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
  const moved = Object.fromEntries(names.map((name) => [name, parameters[name]])) as unknown as Parameters;
  const state = options.state ?? {
    step: 0,
    means: zerosLike(moved),
    squares: zerosLike(moved),
    quietSteps: new Uint32Array(parameters.bEnc.length).fill(ALWAYS_QUIET),
  };
  const { means, squares, quietSteps } = state;
  const restAfter = beta1 === 0 ? 1 : Math.ceil(Math.log(NEGLIGIBLE_MOMENTUM) / Math.log(beta1));

  const workspace = new Workspace(CHUNK_NUMBERS);
  const settings = workspace.reserve(6);
  const chunk = workspace.reserve(4 * CHUNK_NUMBERS);
  const settingsView = workspace.floats(settings, 6);
  const memory = workspace.floats(chunk, 4 * CHUNK_NUMBERS);

  const moveRange = (name: ParameterName, gradients: Parameters, start: number, end: number) => {
    const arrays = [parameters[name]!, gradients[name]!, means[name]!, squares[name]!];
    for (let from = start; from < end; from += CHUNK_NUMBERS) {
      const to = Math.min(end, from + CHUNK_NUMBERS);
      const room = Math.ceil((to - from) / 4) * 4;
      for (let i = 0; i < 4; i++) memory.set(arrays[i].subarray(from, to), i * room);
      workspace.kernels.adam(chunk, 4 * room, settings);
      for (const i of [0, 2, 3]) arrays[i].set(memory.subarray(i * room, i * room + to - from), from);
    }
  };
  const wake = (name: ParameterName, latent: number, missedSteps: number) => {
    const [mean, square] = [means[name]!, squares[name]!];
    const factor = beta2 ** missedSteps;
    for (let i = latent * dModel; i < (latent + 1) * dModel; i++) {
      mean[i] = 0;
      square[i] *= factor;
    }
  };
  return {
    state,
    isAwake: (latent) => quietSteps[latent] < restAfter,
    step({ gradients, gradientFactor, learningRate, touched }) {
      state.step++;
      const rootFactor = 1 / Math.sqrt(1 - beta2 ** state.step);
      const missed = quietSteps.map((quiet, latent) =>
        touched[latent] === 1 && quiet >= restAfter && quiet < ALWAYS_QUIET ? quiet - restAfter + 1 : 0
      );
      for (let latent = 0; latent < quietSteps.length; latent++) {
        if (touched[latent] === 1) quietSteps[latent] = 0;
        else if (quietSteps[latent] < ALWAYS_QUIET) quietSteps[latent]++;
      }
      for (const name of names) {
        const stepSize = learningRate(name) / (1 - beta1 ** state.step);
        settingsView.set([gradientFactor, 1 - beta1, 1 - beta2, stepSize, rootFactor, epsilon]);
        if (name !== "wEnc" && name !== "wDec") {
          moveRange(name, gradients, 0, parameters[name]!.length);
          continue;
        }
        for (let latent = 0; latent < quietSteps.length; latent++) {
          if (missed[latent] > 0) wake(name, latent, missed[latent]);
        }
        // Latents that are awake often come in long runs, which are quicker to move at once.
        for (let first = 0, end = 0; first < quietSteps.length; first = end) {
          const isAwake = quietSteps[first] < restAfter;
          for (end = first + 1; end < quietSteps.length && quietSteps[end] < restAfter === isAwake;) end++;
          if (isAwake) moveRange(name, gradients, first * dModel, end * dModel);
        }
      }
    },
  };
}
