/**
 * Adam on the two matrices, on the device, by the rules of `../adam.ts`: only rows of latents that are awake are moved.
 * Which those are is known on the host, where Adam moves everything else.
 *
 * @module
 */
import type { Dispatch } from "../../compute/webgpu/device.ts";
import { type Adam, type AdamState, createAdam } from "../adam.ts";
import type { EngineUpdate } from "../engine.ts";
import type { OptimizerState } from "../optimizer.ts";
import { parameterNames, type Parameters, type ParameterVectors, vectorsOf } from "../parameters.ts";
import type { TrainOptimizer } from "../recipe.ts";
import type { DeviceGradients } from "./gradients.ts";
import type { TrainMemory } from "./memory.ts";
import type { DeviceMatrices } from "./queue.ts";
import { adamKernel, COMES_BACK, HAS_GRADIENT } from "./row_kernels.ts";
import { floatBits, groupGrid } from "./rows.ts";

/** What an optimizer on the device works on. */
export interface DeviceOptimizerOptions {
  readonly memory: TrainMemory;
  readonly matrices: DeviceMatrices;
  readonly vectors: ParameterVectors;
  readonly settings: TrainOptimizer;
}

/** An optimizer whose matrices are on the device. */
export interface DeviceOptimizer {
  /** Whether a latent's rows were moved by the last update. */
  isAwake(latent: number): boolean;
  update(gradients: DeviceGradients, update: EngineUpdate): Promise<void>;
  /** Copies of what it remembers of the matrices; of the rest the live arrays. */
  state(): Promise<OptimizerState>;
}

/** Adam for everything that is no matrix. */
export function createVectorAdam(options: DeviceOptimizerOptions, state?: AdamState): Adam {
  const { vectors, memory: { dModel }, settings } = options;
  const onHost = state && { ...state, means: vectorsOf(state.means), squares: vectorsOf(state.squares) };
  const names = parameterNames(vectors);
  return createAdam(vectors, { ...settings, names, dModel, state: onHost as AdamState | undefined });
}

/** Adam on everything. */
export async function openDeviceAdam(options: DeviceOptimizerOptions, state?: AdamState): Promise<DeviceOptimizer> {
  const { memory, matrices, vectors, settings: { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } } = options;
  const { gpu, pitch } = memory;
  const dSae = vectors.bEnc.length;
  const program = await gpu.compile(adamKernel());
  const adam = createVectorAdam(options, state);
  const rows = new Uint32Array(2 * dSae);
  const decays = new Float32Array(rows.buffer);
  const moments = {
    wEnc: await openMoments("wEnc"),
    wDec: await openMoments("wDec"),
  };
  return {
    isAwake: (latent) => adam.quiet.isAwake(latent),
    async update(gradients, { gradientFactor, learningRate }) {
      const { touched } = gradients;
      adam.step({ gradients: gradients.vectors, gradientFactor, learningRate, touched });
      let nRows = 0;
      for (let latent = 0; latent < dSae; latent++) {
        if (!adam.quiet.isAwake(latent)) continue;
        const missed = adam.quiet.missed[latent];
        const flags = (touched[latent] === 1 ? HAS_GRADIENT : 0) + (missed > 0 ? COMES_BACK : 0);
        rows[2 * nRows] = latent + flags;
        decays[2 * nRows++ + 1] = beta2 ** missed;
      }
      const list = await memory.put("awake rows", rows.subarray(0, 2 * nRows));
      const { step } = adam.state;
      const rootFactor = 1 / Math.sqrt(1 - beta2 ** step);
      await memory.run(
        "adam",
        (["wEnc", "wDec"] as const).map((name): Dispatch => {
          const stepSize = learningRate(name) / (1 - beta1 ** step);
          const numbers = [gradientFactor, 1 - beta1, 1 - beta2, stepSize, rootFactor, epsilon];
          return {
            program,
            buffers: {
              ...{ list, gradients: matrices[name === "wEnc" ? "gEnc" : "gDec"], parameters: matrices[name] },
              ...{ means: moments[name].means, squares: moments[name].squares },
            },
            params: [nRows, pitch, ...numbers.map(floatBits)],
            workgroups: groupGrid(nRows),
          };
        }),
      );
    },
    async state() {
      const { step, means, squares, quietSteps } = adam.state;
      return {
        adam: {
          step,
          means: await withMatrices(means, "means"),
          squares: await withMatrices(squares, "squares"),
          quietSteps,
        },
      };
    },
  };

  async function openMoments(name: "wEnc" | "wDec"): Promise<Record<"means" | "squares", GPUBuffer>> {
    const begin = state ?? { means: undefined, squares: undefined };
    return {
      means: await memory.matrix(`means of ${name}`, begin.means?.[name] ?? { nRows: dSae }),
      squares: await memory.matrix(`squares of ${name}`, begin.squares?.[name] ?? { nRows: dSae }),
    };
  }

  async function withMatrices(vectors: ParameterVectors, part: "means" | "squares"): Promise<Parameters> {
    return {
      wEnc: await memory.readMatrix(moments.wEnc[part], dSae),
      wDec: await memory.readMatrix(moments.wDec[part], dSae),
      ...vectors,
    };
  }
}
