/**
 * The forward product of training: pre-activations of a batch, by onnxruntime, a few tokens at a time, so that the
 * dense rows are never all there.
 * The weights are inputs here, since they change at every step.
 *
 * @module
 */
import { buildOnnx } from "../../onnx/build.ts";
import { freeArrays } from "../../runtime/free.ts";
import { createSession, loadOrt } from "../../runtime/ort.ts";

/** The encoder of an SAE in training. */
export interface Forward {
  /**
   * Pre-activations `x · wEncᵀ + bias`.
   *
   * @param x Shape `[nTokens, dModel]`.
   * @param encoder `wEnc` of shape `[nLatents, dModel]`, `bias` of shape `[nLatents]`.
   * @param take Called with rows of shape `[some tokens, nLatents]` in order; they are its only until it returns.
   */
  run(
    x: Float32Array,
    encoder: { wEnc: Float32Array; bias: Float32Array },
    take: (h: Float32Array, firstToken: number) => void,
  ): Promise<void>;
  close(): Promise<void>;
}

// Pre-activations of a piece: 16 MiB, small enough for caches to be of use, large enough for the product to be fast.
const PIECE_NUMBERS = 2 ** 22;
const MIN_PIECE_TOKENS = 64;

/** Opens the forward product for activations of a width. */
export async function openForward(shape: { dModel: number; threads: number }): Promise<Forward> {
  const { dModel, threads } = shape;
  const { Tensor } = await loadOrt();
  const model = buildOnnx({
    inputs: [
      { name: "x", dims: ["n_tokens", dModel] },
      { name: "w_enc", dims: ["n_latents", dModel] },
      { name: "bias", dims: ["n_latents"] },
    ],
    constants: [],
    nodes: [{ op: "Gemm", inputs: ["x", "w_enc", "bias"], outputs: ["h"], attributes: { transB: 1 } }],
    outputs: ["h"],
  });
  const session = await createSession(model, { threads });
  return {
    async run(x, { wEnc, bias }, take) {
      const nLatents = bias.length;
      const nTokens = x.length / dModel;
      const pieceTokens = Math.max(MIN_PIECE_TOKENS, Math.floor(PIECE_NUMBERS / nLatents));
      const weights = {
        w_enc: new Tensor("float32", wEnc, [nLatents, dModel]),
        bias: new Tensor("float32", bias, [nLatents]),
      };
      for (let first = 0; first < nTokens; first += pieceTokens) {
        const piece = x.subarray(first * dModel, (first + pieceTokens) * dModel);
        const { h } = await session.run({
          x: new Tensor("float32", piece, [piece.length / dModel, dModel]),
          ...weights,
        });
        take(h.data as Float32Array, first);
        freeArrays(h.data as Float32Array);
      }
    },
    close: () => session.release(),
  };
}
