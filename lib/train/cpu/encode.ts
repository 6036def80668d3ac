/**
 * From a batch of activations to the entries that count.
 *
 * @module
 */
import { type LatentEntries, sortByLatent } from "../entries.ts";
import type { Parameters } from "../parameters.ts";
import { openSelection, type SelectionRule } from "../select.ts";
import type { Forward } from "./forward.ts";

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

/** What an encoder is made of on the CPU. */
interface Encoder {
  readonly forward: Forward;
  readonly parameters: Parameters;
}

/** Entries of a batch; their values are the pre-activations until the objective says otherwise. */
export async function encodeBatch(
  encoded: Float32Array,
  { forward, parameters, selection }: Encoder & { selection: SelectionRule },
): Promise<LatentEntries> {
  const { wEnc, bEnc } = parameters;
  const dSae = bEnc.length;
  const picked = openSelection(selection, { nLatents: dSae });
  await forward.run(encoded, { wEnc, bias: bEnc }, picked.add);
  return sortByLatent(picked.finish(), { dSae });
}

/** Entries of some latents only, the `k` largest of each token, by a product with their rows of the encoder alone. */
export async function encodeSome(
  encoded: Float32Array,
  options: Encoder & { latents: Uint32Array; k: number; relu: boolean },
): Promise<LatentEntries> {
  const { forward, parameters: { wEnc, bEnc, bDec: { length: dModel } }, latents, k, relu } = options;
  const selection = { kind: "topK", k: Math.min(k, latents.length), relu } as const;
  const picked = openSelection(selection, { nLatents: latents.length });
  const rows = new Float32Array(latents.length * dModel);
  latents.forEach((latent, i) => rows.set(wEnc.subarray(latent * dModel, (latent + 1) * dModel), i * dModel));
  await forward.run(encoded, { wEnc: rows, bias: Float32Array.from(latents, (latent) => bEnc[latent]) }, picked.add);
  return sortByLatent(picked.finish(), { dSae: bEnc.length, latentOf: latents });
}
