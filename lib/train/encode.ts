/**
 * From a batch of activations to the entries that count.
 *
 * @module
 */
import type { AuxTerms } from "./batch.ts";
import { type LatentEntries, sortByLatent } from "./entries.ts";
import type { Forward } from "./forward.ts";
import type { Objective } from "./objectives/objective.ts";
import type { Parameters } from "./parameters.ts";
import type { AuxK } from "./recipe.ts";
import { selectTopK } from "./select.ts";

/** What the encoder is given: `target`, or that minus `bDec`; shape `[nTokens, dModel]`. */
export function encoderInput(
  target: Float32Array,
  options: { bDec: Float32Array; subtractBDec: boolean },
): Float32Array {
  const { bDec, subtractBDec } = options;
  if (!subtractBDec) return target;
  const encoded = new Float32Array(target.length);
  for (let start = 0; start < target.length; start += bDec.length) {
    for (let d = 0; d < bDec.length; d++) encoded[start + d] = target[start + d] - bDec[d];
  }
  return encoded;
}

/** Entries of a batch; their values are the pre-activations until the objective says otherwise. */
export async function encodeBatch(
  encoded: Float32Array,
  options: { forward: Forward; objective: Objective; parameters: Parameters },
): Promise<LatentEntries> {
  const { forward, objective, parameters: { wEnc, bEnc, bDec } } = options;
  const selection = objective.select(encoded.length / bDec.length);
  await forward.run(encoded, { wEnc, bias: bEnc }, selection.add);
  return sortByLatent(selection.finish(), { dSae: bEnc.length });
}

/** The dead latents that come closest to firing, by a product with their rows of the encoder alone. */
export async function explainLeftOver(
  encoded: Float32Array,
  options: { forward: Forward; parameters: Parameters; auxK: AuxK; dead: Uint32Array },
): Promise<AuxTerms> {
  const { forward, parameters: { wEnc, bEnc, bDec: { length: dModel } }, auxK, dead } = options;
  const { k, weight, relu, bias, over } = auxK;
  const selection = selectTopK({ k: Math.min(k, dead.length), relu, nLatents: dead.length });
  const rows = new Float32Array(dead.length * dModel);
  dead.forEach((latent, i) => rows.set(wEnc.subarray(latent * dModel, (latent + 1) * dModel), i * dModel));
  await forward.run(encoded, { wEnc: rows, bias: Float32Array.from(dead, (latent) => bEnc[latent]) }, selection.add);
  return { entries: sortByLatent(selection.finish(), { dSae: bEnc.length, latentOf: dead }), weight, bias, over };
}
