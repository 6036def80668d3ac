/**
 * Muon (Jordan et al., https://kellerjordan.github.io/posts/muon/) on the encoder and the decoder: a step along the
 * momentum with all its singular values brought to about 1, by five rounds of a polynomial in matrix products.
 *
 * Constants, Nesterov's momentum, the decoupled weight decay and the factor `√max(1, rows / columns)` are those of
 * `torch.optim.Muon`, with rows and columns as saev stores them: `[dModel, dSae]` and `[dSae, dModel]`. Products are
 * float32, where torch rounds to bfloat16.
 *
 * @module
 */
import { buildOnnx, type NodeSpec } from "../onnx/build.ts";
import { createSession, loadOrt } from "../runtime/ort.ts";
import type { OptimizerStep } from "./adam.ts";
import type { Parameters } from "./parameters.ts";

/** Options of {@linkcode createMuon}. */
export interface MuonOptions {
  dModel: number;
  /**
   * Decay of the running mean of gradients.
   *
   * @default {0.95}
   */
  momentum?: number;
  /**
   * Share by which a step shrinks a matrix, times the learning rate.
   *
   * @default {0.1}
   */
  weightDecay?: number;
  threads: number;
  /**
   * Where to go on.
   *
   * @default the beginning
   */
  state?: MuonState;
}

/** Running means of the gradients of the two matrices. */
export type MuonState = Readonly<Record<"wEnc" | "wDec", Float32Array>>;

/** Muon on the two matrices. */
export interface Muon {
  readonly state: MuonState;
  step(step: OptimizerStep): Promise<void>;
  close(): Promise<void>;
}

/** Rounds of the polynomial. */
export const MUON_ROUNDS = 5;
/** Factors of `x`, `x·xᵀ·x` and so on. */
export const MUON_POLYNOMIAL: readonly [a: number, b: number, c: number] = [3.4445, -4.775, 2.0315];
const [A, B, C] = MUON_POLYNOMIAL;
/** Least length that a matrix is divided by. */
export const MUON_EPSILON = 1e-7;

/** What steps along each matrix are multiplied by: `√max(1, rows / columns)` as saev stores them. */
export function muonFactors(size: { dModel: number; dSae: number }): Record<"wEnc" | "wDec", number> {
  const { dModel, dSae } = size;
  return { wEnc: Math.sqrt(Math.max(1, dModel / dSae)), wDec: Math.sqrt(Math.max(1, dSae / dModel)) };
}

/** Makes a Muon for the matrices of `parameters`, which it changes in place. */
export async function createMuon(parameters: Parameters, options: MuonOptions): Promise<Muon> {
  const { dModel, momentum = 0.95, weightDecay = 0.1, threads } = options;
  const dSae = parameters.bEnc.length;
  const orthogonalize = await openOrthogonalize({ rows: dSae, columns: dModel, threads });
  const { wEnc, wDec } = parameters;
  const state = options.state ?? { wEnc: new Float32Array(wEnc.length), wDec: new Float32Array(wDec.length) };
  const shapeFactors = muonFactors({ dModel, dSae });
  return {
    state,
    async step({ gradients, gradientFactor, learningRate }) {
      for (const name of ["wEnc", "wDec"] as const) {
        const [values, gradient, mean] = [parameters[name], gradients[name]!, state[name]];
        const ahead = new Float32Array(values.length);
        for (let i = 0; i < values.length; i++) {
          const g = gradientFactor * gradient[i];
          mean[i] += (1 - momentum) * (g - mean[i]);
          ahead[i] = g + momentum * (mean[i] - g);
        }
        const direction = await orthogonalize.run(ahead);
        const rate = learningRate(name);
        const [keep, step] = [1 - rate * weightDecay, rate * shapeFactors[name]];
        for (let i = 0; i < values.length; i++) values[i] = keep * values[i] - step * direction[i];
      }
    },
    close: orthogonalize.close,
  };
}

/** Brings the singular values of matrices of a shape to about 1; a transposed matrix gives the transposed result. */
export async function openOrthogonalize(
  options: { rows: number; columns: number; threads: number },
): Promise<{ run(matrix: Float32Array): Promise<Float32Array>; close(): Promise<void> }> {
  const { rows, columns, threads } = options;
  const { Tensor } = await loadOrt();
  // Products of the shorter side with itself are the smaller ones.
  const isTall = rows >= columns;
  const nodes = Array.from({ length: MUON_ROUNDS }, (_, round): NodeSpec[] => {
    const [x, next] = [`x${round}`, `x${round + 1}`];
    const name = (part: string) => `${part}${round}`;
    return [
      {
        op: "Gemm",
        inputs: [x, x],
        outputs: [name("gram")],
        attributes: isTall ? { transA: 1 } : { transB: 1 },
      },
      // b · gram + c · gram²
      {
        op: "Gemm",
        inputs: [name("gram"), name("gram"), name("gram")],
        outputs: [name("polynomial")],
        attributes: { alpha: { float: C }, beta: { float: B } },
      },
      {
        op: "Gemm",
        inputs: isTall ? [x, name("polynomial"), x] : [name("polynomial"), x, x],
        outputs: [next],
        attributes: { beta: { float: A } },
      },
    ];
  }).flat();
  const model = buildOnnx({
    inputs: [{ name: "x0", dims: [rows, columns] }],
    constants: [],
    nodes,
    outputs: [`x${MUON_ROUNDS}`],
  });
  const session = await createSession(model, { threads });
  return {
    async run(matrix) {
      let squares = 0;
      for (const value of matrix) squares += value * value;
      const length = Math.max(Math.sqrt(squares), MUON_EPSILON);
      const x0 = new Tensor("float32", matrix.map((value) => value / length), [rows, columns]);
      const results = await session.run({ x0 });
      return results[`x${MUON_ROUNDS}`].data as Float32Array;
    },
    close: () => session.release(),
  };
}
