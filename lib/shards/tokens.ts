/**
 * Which tokens of an image are wanted: where they lie in a recording, and how they are taken out of it.
 *
 * @module
 */
import { fromFloat16 } from "../runtime/float16.ts";
import type { RecordingMetadata } from "./format.ts";

/** Which tokens of an image are read. */
export type TokenKind = "patches" | "cls" | "all";

/** What of a recording says how the tokens of its images lie. */
export type TokenLayout = Pick<RecordingMetadata, "d_model" | "tokens_per_image" | "n_special_tokens" | "cls">;

/** How many tokens of an image `tokens` means, and where they begin. */
export function tokenRange(metadata: TokenLayout, tokens: TokenKind): { first: number; count: number } {
  const { n_special_tokens: nSpecial, tokens_per_image: tokensPerImage, cls } = metadata;
  if (tokens === "all") return { first: 0, count: tokensPerImage };
  if (tokens === "patches") return { first: nSpecial, count: tokensPerImage - nSpecial };
  if (tokens !== "cls") {
    throw new RangeError(`Cannot read tokens: tokens must be one of patches, cls, all, current value is ${tokens}`);
  }
  if (!cls) {
    throw new RangeError("Cannot read CLS: the model must have a CLS token, this one has only patches");
  }
  return { first: 0, count: 1 };
}

/**
 * The wanted tokens of each image, moved together into `into`, a new array if there is none. Where all are wanted of
 * float32, a view of `values` instead.
 */
export function selectTokens(
  values: Float32Array | Uint16Array,
  nImages: number,
  options: { layout: TokenLayout; range: { first: number; count: number }; into?: Float32Array },
): Float32Array {
  const { layout: { tokens_per_image: tokensPerImage, d_model: dModel }, range } = options;
  // Arrow pads buffers to 8 bytes.
  const all = values.subarray(0, nImages * tokensPerImage * dModel);
  if (all instanceof Float32Array && range.count === tokensPerImage) return all;
  const { into = new Float32Array(nImages * range.count * dModel) } = options;
  for (let image = 0; image < nImages; image++) {
    const start = (image * tokensPerImage + range.first) * dModel;
    const tokens = all.subarray(start, start + range.count * dModel);
    const target = into.subarray(image * range.count * dModel, (image + 1) * range.count * dModel);
    if (tokens instanceof Float32Array) target.set(tokens);
    else fromFloat16(tokens, target);
  }
  return into;
}
