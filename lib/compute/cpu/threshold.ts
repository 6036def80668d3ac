/**
 * How high a bound has to be for its latent to matter.
 *
 * @module
 */
import type { TokenRule } from "../contract.ts";
import type { EncoderMemory } from "./encoder_memory.ts";
import { SCAN_NUMBERS } from "./scan_kernels.ts";
import { selectLargest } from "./select_largest.ts";

/** What is positive is at least this. */
export const LEAST_POSITIVE = 2 ** -149;
// What is not −Infinity is at least this.
const LEAST = -(2 - 2 ** -23) * 2 ** 127;

// Maxima for each latent that is kept: with more of them, fewer of the largest share one.
const MAXIMA_PER_LATENT = 8;
const LARGEST_GROUP_BYTES = 4096;

/**
 * Makes the function that puts the threshold of a token, whose bounds are at an address, into the memory's first cell.
 *
 * What is not above zero matters to no rule with a ReLU. Under TopK a latent matters if its bound reaches what `k` latents
 * have: the `k`-th largest of some sets' largest values, taken to be where `widths` puts them. Those are set so that it is
 * so nearly always; whether it was is seen once the pre-activations are known.
 */
export function makeThreshold(memory: EncoderMemory, rule: TokenRule): (bounds: number) => void {
  const { kernels, nColumns, cells, widths, maxima } = memory;
  const floor = rule.kind === "topK" && !rule.relu ? LEAST : LEAST_POSITIVE;
  const cell = () => memory.floats(cells, 1);
  if (rule.kind !== "topK") return () => void (cell()[0] = floor);
  const { k } = rule;
  const groupsWanted = Math.ceil(MAXIMA_PER_LATENT * k / SCAN_NUMBERS);
  const rowsOfGroup = Math.max(1, Math.floor(nColumns / SCAN_NUMBERS / groupsWanted));
  const groupBytes = Math.min(LARGEST_GROUP_BYTES, 4 * SCAN_NUMBERS * rowsOfGroup);
  const nMaxima = SCAN_NUMBERS * Math.ceil(4 * nColumns / groupBytes);
  return (bounds) => {
    if (nMaxima < k) return void (cell()[0] = floor);
    kernels.maxima(bounds, bounds + 4 * nColumns, widths, maxima, groupBytes);
    cell()[0] = Math.max(floor, selectLargest(memory.floats(maxima, nMaxima), k));
  };
}
