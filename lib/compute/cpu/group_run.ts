/**
 * Runs the encoder of a rule that keeps whatever is above a line, be it three latents of a token or all of them. The
 * graph hands over as many groups of latents as it is asked for, the most active first; where that was too few, the run
 * is repeated with more, so nothing is ever missing. How many were needed is remembered, so that this is rare.
 *
 * @module
 */
import type { InferenceSession } from "onnxruntime-node";
import { loadOrt } from "../../runtime/ort.ts";
import type { TokenWeights } from "../contract.ts";
import { graphNames, groupSize } from "./encode_graph.ts";
import type { SparseRows } from "./sparse_rows.ts";

// Enough for the L0 of most SAEs.
const FIRST_GROUPS = 256;

/** Makes the function that encodes activations of shape `[nTokens, dModel]` into rows. */
export function makeGroupRun(
  session: InferenceSession,
  weights: TokenWeights,
): (x: Float32Array, rows: SparseRows) => Promise<void> {
  const { dModel, dSae } = weights;
  const size = groupSize(weights);
  const nAll = dSae / size;
  let nGroups = Math.min(FIRST_GROUPS, nAll);

  return async (x, rows) => {
    const { Tensor } = await loadOrt();
    const nTokens = x.length / dModel;
    const tokens = new Tensor("float32", x, [nTokens, dModel]);
    while (true) {
      const asked = nGroups;
      const results = await session.run({
        [graphNames.x]: tokens,
        [graphNames.nGroups]: new Tensor("int64", BigInt64Array.of(BigInt(asked)), [1]),
      });
      const lowest = results[graphNames.lowest].data as Float32Array;
      if (asked < nAll && lowest.some((maximum) => maximum > 0)) {
        nGroups = Math.min(nAll, 2 * asked);
        continue;
      }
      const groups = results[graphNames.groups].data as Int32Array;
      const values = results[graphNames.values].data as Float32Array;
      const most = takeActive({ nTokens, dSae, nGroups: asked, size, groups, values }, rows);
      // An active latent takes up one group at most, and a quarter is added for livelier tokens.
      nGroups = Math.min(nAll, Math.max(FIRST_GROUPS / 4, Math.ceil(most * 1.25)));
      return;
    }
  };
}

/**
 * Puts the positive entries into rows.
 *
 * @param found `groups` of shape `[nTokens, nGroups]` and their `values` of shape `[nTokens, size, nGroups]`; member `m`
 * of group `g` is latent `g + m · dSae / size`.
 * @returns The largest number of entries of a token.
 */
function takeActive(
  found: { nTokens: number; dSae: number; nGroups: number; size: number; groups: Int32Array; values: Float32Array },
  rows: SparseRows,
): number {
  const { nTokens, dSae, nGroups, size, groups, values } = found;
  let most = 0;
  for (let token = 0; token < nTokens; token++) {
    const firstGroup = token * nGroups;
    for (let member = 0; member < size; member++) {
      const firstLatent = member * (dSae / size);
      const row = (token * size + member) * nGroups;
      for (let i = 0; i < nGroups; i++) {
        const value = values[row + i];
        if (value > 0) rows.put(firstLatent + groups[firstGroup + i], value);
      }
    }
    most = Math.max(most, rows.endToken());
  }
  return most;
}
