/**
 * The forward product of training: pre-activations of a batch, with the top ones picked in the same onnxruntime graph.
 * The weights are inputs here, since they change at every step.
 *
 * @module
 */
import { buildOnnx } from "../onnx/build.ts";
import { createSession, loadOrt } from "../runtime/ort.ts";
import type { Parameters } from "./parameters.ts";

/** The `k` largest pre-activations of each token, in no order; shapes `[nTokens, k]`. */
export interface TopPreActivations {
  readonly values: Float32Array;
  readonly latents: Int32Array;
}

/** The encoder of an SAE in training. */
export interface Forward {
  /**
   * The top `k` pre-activations of each token.
   *
   * @param centered Activations minus `bDec`, shape `[nTokens, dModel]`.
   * @param bias Shape `[dSae]`: `bEnc`, or with −∞ for latents that are left out.
   */
  top(centered: Float32Array, wEnc: Parameters["wEnc"], bias: Float32Array): Promise<TopPreActivations>;
  close(): Promise<void>;
}

/** Opens the forward product for a `k`. */
export async function openForward(
  shape: { dModel: number; dSae: number; k: number; threads: number },
): Promise<Forward> {
  const { dModel, dSae, k, threads } = shape;
  const { Tensor } = await loadOrt();
  const model = buildOnnx({
    inputs: [
      { name: "x", dims: ["n_tokens", dModel] },
      { name: "w_enc", dims: [dSae, dModel] },
      { name: "bias", dims: [dSae] },
    ],
    constants: [{ name: "k", dims: [1], data: BigInt64Array.of(BigInt(k)) }],
    nodes: [
      { op: "Gemm", inputs: ["x", "w_enc", "bias"], outputs: ["h"], attributes: { transB: 1 } },
      { op: "TopK", inputs: ["h", "k"], outputs: ["values", "latents_64"], attributes: { sorted: 0 } },
      { op: "Cast", inputs: ["latents_64"], outputs: ["latents"], attributes: { to: 6 } },
    ],
    outputs: ["values", "latents"],
  });
  const session = await createSession(model, { threads });
  return {
    async top(centered, wEnc, bias) {
      const results = await session.run({
        x: new Tensor("float32", centered, [centered.length / dModel, dModel]),
        w_enc: new Tensor("float32", wEnc, [dSae, dModel]),
        bias: new Tensor("float32", bias, [dSae]),
      });
      return { values: results.values.data as Float32Array, latents: results.latents.data as Int32Array };
    },
    close: () => session.release(),
  };
}
