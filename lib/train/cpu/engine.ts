/**
 * The engine on the CPU: the encoder's product by onnxruntime, everything else by loops in WebAssembly.
 *
 * @module
 */
import type { Engine, EngineOptions } from "../engine.ts";
import { makeOptimizer } from "../optimizer.ts";
import { normalizeRow, vectorsOf } from "../parameters.ts";
import { addBatchGradients } from "./batch.ts";
import { encodeBatch, encoderInput, encodeSome } from "./encode.ts";
import { openForward } from "./forward.ts";
import { Gradients } from "./gradients.ts";
import { Workspace } from "./workspace.ts";

// As many as half of the pre-activations are active at the start, at some 40 bytes each.
const NUMBERS_AT_ONCE = 2 ** 24;

/** Opens an engine on the CPU, which changes the arrays of `options.parameters` in place. */
export async function openCpuEngine(options: EngineOptions): Promise<Engine> {
  const { dModel, dSae, parameters, subtractBDec, threads, optimizerState } = options;
  const forward = await openForward({ dModel, threads });
  const optimizer = await makeOptimizer(parameters, {
    ...options.optimizer,
    ...{ dModel, threads, state: optimizerState },
  });
  const workspace = new Workspace(dModel);
  const gradients = new Gradients(parameters);
  let target: Float32Array;
  let encoded: Float32Array;
  return {
    kind: "cpu",
    device: "CPU",
    vectors: vectorsOf(parameters),
    numbersAtOnce: NUMBERS_AT_ONCE,
    normalizeDecoder(rows) {
      for (let latent = 0; latent < dSae; latent++) {
        if (rows === "all" || optimizer.isAwake(latent)) normalizeRow(parameters.wDec, latent, dModel);
      }
      return Promise.resolve();
    },
    begin: () => gradients.begin(),
    encode(piece, selection) {
      target = piece;
      encoded = encoderInput(piece, { bDec: parameters.bDec, subtractBDec });
      return encodeBatch(encoded, { forward, parameters, selection });
    },
    encodeSome: (latents, selection) => encodeSome(encoded, { forward, parameters, latents, ...selection }),
    addGradients: (terms) =>
      Promise.resolve(addBatchGradients(gradients, { ...terms, workspace, parameters, target, encoded, subtractBDec })),
    finish: ({ removeParallel }) => Promise.resolve(gradients.finish({ workspace, parameters, removeParallel })),
    update: (update) => optimizer.step({ ...update, gradients: gradients.arrays, touched: gradients.touched }),
    gradients: () => Promise.resolve(gradients.arrays),
    parameters: () => Promise.resolve(parameters),
    optimizerState: () => Promise.resolve(optimizer.state),
    async close() {
      await forward.close();
      await optimizer.close();
    },
  };
}
