/**
 * Adam, after Kingma and Ba (https://arxiv.org/abs/1412.6980), over an SAE's parameters. A latent without a gradient
 * still moves by its momentum, as with any Adam, until that has died away; from then on its rows are left alone, and
 * their mean squares are caught up with when it comes back. So work follows the latents that are alive, and numbers are
 * those of an Adam that moves everything.
 *
 * @module
 */
import { Workspace } from "./cpu/workspace.ts";
import type { ParameterName, Parameters, ParameterVectors } from "./parameters.ts";
import { zerosLike } from "./parameters.ts";
import { alwaysQuiet, QuietLatents } from "./quiet.ts";

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
  readonly gradients: ParameterVectors & Partial<Parameters>;
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
  /** Which latents' rows were moved by the last step, and which of them had missed some. */
  readonly quiet: QuietLatents;
}

const CHUNK_NUMBERS = 8192;

/** Makes an Adam for parameters, which it changes in place. */
export function createAdam(parameters: ParameterVectors & Partial<Parameters>, options: AdamOptions): Adam {
  const { names, dModel, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
  const moved = Object.fromEntries(names.map((name) => [name, parameters[name]])) as unknown as Parameters;
  const state = options.state ?? {
    step: 0,
    means: zerosLike(moved),
    squares: zerosLike(moved),
    quietSteps: alwaysQuiet(parameters.bEnc.length),
  };
  const { means, squares } = state;
  const quiet = new QuietLatents(state.quietSteps, { beta1 });
  const dSae = parameters.bEnc.length;

  const workspace = new Workspace(CHUNK_NUMBERS);
  const settings = workspace.reserve(6);
  const chunk = workspace.reserve(4 * CHUNK_NUMBERS);
  const settingsView = workspace.floats(settings, 6);
  const memory = workspace.floats(chunk, 4 * CHUNK_NUMBERS);

  const moveRange = (name: ParameterName, gradients: OptimizerStep["gradients"], start: number, end: number) => {
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
    quiet,
    step({ gradients, gradientFactor, learningRate, touched }) {
      state.step++;
      const rootFactor = 1 / Math.sqrt(1 - beta2 ** state.step);
      quiet.advance(touched);
      for (const name of names) {
        const stepSize = learningRate(name) / (1 - beta1 ** state.step);
        settingsView.set([gradientFactor, 1 - beta1, 1 - beta2, stepSize, rootFactor, epsilon]);
        if (name !== "wEnc" && name !== "wDec") {
          moveRange(name, gradients, 0, parameters[name]!.length);
          continue;
        }
        for (let latent = 0; latent < dSae; latent++) {
          if (quiet.missed[latent] > 0) wake(name, latent, quiet.missed[latent]);
        }
        // Latents that are awake often come in long runs, which are quicker to move at once.
        for (let first = 0, end = 0; first < dSae; first = end) {
          const isAwake = quiet.isAwake(first);
          for (end = first + 1; end < dSae && quiet.isAwake(end) === isAwake;) end++;
          if (isAwake) moveRange(name, gradients, first * dModel, end * dModel);
        }
      }
    },
  };
}
