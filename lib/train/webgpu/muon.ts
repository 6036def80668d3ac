/**
 * Muon on the two matrices, on the device, by the formulas of `../muon.ts`, and Adam for everything else on the host.
 *
 * @module
 */
import type { Dispatch } from "../../compute/webgpu/device.ts";
import type { MuonState } from "../muon.ts";
import { MUON_EPSILON, MUON_POLYNOMIAL, MUON_ROUNDS, muonFactors } from "../muon.ts";
import type { OptimizerState } from "../optimizer.ts";
import { createVectorAdam, type DeviceOptimizer, type DeviceOptimizerOptions } from "./adam.ts";
import { momentumKernel, stepAlongKernel } from "./muon_kernels.ts";
import { productKernel, productParams, productWorkgroups } from "./product_kernel.ts";
import { floatBits, groupGrid } from "./rows.ts";

/** Opens Muon. */
export async function openDeviceMuon(
  options: DeviceOptimizerOptions,
  state?: OptimizerState,
): Promise<DeviceOptimizer> {
  const { memory, matrices, vectors, settings: { momentum = 0.95, weightDecay = 0.1 } } = options;
  const { gpu, pitch, dModel } = memory;
  const dSae = vectors.bEnc.length;
  const adam = createVectorAdam(options, state?.adam);
  const means = {
    wEnc: await memory.matrix("momentum of wEnc", state?.muon?.wEnc ?? { nRows: dSae }),
    wDec: await memory.matrix("momentum of wDec", state?.muon?.wDec ?? { nRows: dSae }),
  };
  // The products take turns between two matrices.
  const turns = [await memory.matrix("ahead", { nRows: dSae }), await memory.matrix("next", { nRows: dSae })];
  const [momentumProgram, stepAlong] = await Promise.all([
    gpu.compile(momentumKernel()),
    gpu.compile(stepAlongKernel()),
  ]);
  const orthogonalize = await openProducts();
  const shapeFactors = muonFactors({ dModel, dSae });
  return {
    isAwake: () => true,
    async update(gradients, { gradientFactor, learningRate }) {
      adam.step({ gradients: gradients.vectors, gradientFactor, learningRate, touched: gradients.touched });
      const touched = await memory.put("touched", Uint32Array.from(gradients.touched));
      const squares = await memory.room("squares", dSae);
      for (const name of ["wEnc", "wDec"] as const) {
        await memory.run("momentum", [{
          program: momentumProgram,
          buffers: {
            ...{ touched, gradients: matrices[name === "wEnc" ? "gEnc" : "gDec"], means: means[name] },
            ...{ ahead: turns[0], squares },
          },
          params: [dSae, pitch, floatBits(gradientFactor), floatBits(momentum)],
          workgroups: groupGrid(dSae),
        }]);
        const [bytes] = await memory.read([{ buffer: squares, length: dSae }]);
        const total = new Float32Array(bytes).reduce((sum, square) => sum + square, 0);
        const length = Math.max(Math.sqrt(total), MUON_EPSILON);
        const rate = learningRate(name);
        const numbers = [1 - rate * weightDecay, rate * shapeFactors[name]];
        await memory.run("muon", [...await orthogonalize(length), {
          program: stepAlong,
          buffers: { direction: turns[MUON_ROUNDS % 2], matrix: matrices[name] },
          params: [dSae, pitch, ...numbers.map(floatBits)],
          workgroups: groupGrid(dSae),
        }]);
      }
    },
    async state() {
      const muon: MuonState = {
        wEnc: await memory.readMatrix(means.wEnc, dSae),
        wDec: await memory.readMatrix(means.wDec, dSae),
      };
      return { adam: adam.state, muon };
    },
  };

  /** The rounds of products that bring the singular values of a matrix of some length to about 1. */
  async function openProducts(): Promise<(length: number) => Promise<Dispatch[]>> {
    const isTall = dSae >= dModel;
    const side = Math.min(dSae, dModel);
    const layout = isTall ? "columns" : "rows";
    const [gramProgram, polynomialProgram, nextProgram] = await Promise.all([
      gpu.compile(productKernel({ a: layout, b: layout })),
      // Both are symmetric, so that it does not matter which way they lie.
      gpu.compile(productKernel({ a: "rows", b: "rows", addend: true })),
      gpu.compile(productKernel({ a: "rows", b: isTall ? "rows" : "columns", addend: true })),
    ]);
    const [a, b, c] = MUON_POLYNOMIAL;
    return async (length) => {
      const room = side * 4 * Math.ceil(side / 4);
      const [gram, polynomial] = [await memory.room("gram", room), await memory.room("polynomial", room)];
      return Array.from({ length: MUON_ROUNDS }, (_, round): Dispatch[] => {
        const [x, next] = [turns[round % 2], turns[(round + 1) % 2]];
        // What comes in is brought to length 1 on the way.
        const scale = round === 0 ? 1 / length : 1;
        const product = (program: Dispatch["program"], buffers: Record<string, GPUBuffer>, size: {
          m: number;
          n: number;
          k: number;
          alpha?: number;
          beta?: number;
        }): Dispatch => ({ program, buffers, params: productParams(size), workgroups: productWorkgroups(size) });
        const square = { m: side, n: side };
        const rows = { m: dSae, n: dModel, k: side };
        return [
          product(gramProgram, { a: x, b: x, out: gram }, {
            ...square,
            k: isTall ? dSae : dModel,
            alpha: scale * scale,
          }),
          product(polynomialProgram, { a: gram, b: gram, addend: gram, out: polynomial }, {
            ...{ ...square, k: side, alpha: c, beta: b },
          }),
          product(
            nextProgram,
            isTall ? { a: x, b: polynomial, addend: x, out: next } : { a: polynomial, b: x, addend: x, out: next },
            { ...rows, alpha: scale, beta: a * scale },
          ),
        ];
      }).flat();
    };
  }
}
