/**
 * The WGSL that decides whether a latent of a token is active, shared by every kernel that reads pre-activations so
 * that they cannot disagree. All comparisons are on integers: float comparisons may treat NaN and tiny numbers as the
 * driver likes, and two kernels of one SAE must draw the same line.
 *
 * @module
 */
import type { ActivationRule } from "../contract.ts";

/**
 * `sort_key(value)`: a u32 that orders like the float does. NaN is 0, below everything, so it takes one of the `k`
 * places only where nothing else is left. -0 sorts just below +0, which nobody can see since zeros are never kept.
 */
export const SORT_KEY_WGSL = /* wgsl */ `
const KEY_OF_ZERO = 0x80000000u;

fn sort_key(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0u; }
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}
`;

/**
 * `is_kept(value, latent, threshold)` for a rule. `threshold` is what the select kernel found for the token: the key of
 * the k-th largest value, and the last latent that may be kept among those equal to it. ReLU ignores it.
 */
export function isKeptWgsl(rule: ActivationRule): string {
  return SORT_KEY_WGSL + /* wgsl */ `
fn is_kept(value: f32, latent: u32, threshold: vec2u) -> bool {
  let key = sort_key(value);
  ${
    rule.kind === "topK"
      ? "if (key < threshold.x || (key == threshold.x && latent > threshold.y)) { return false; }"
      : "// Every positive value is kept."
  }
  ${
    rule.kind === "topK" && !rule.relu
      ? "return key != 0u && key != KEY_OF_ZERO && key != KEY_OF_ZERO - 1u; // neither NaN nor a zero"
      : "return key > KEY_OF_ZERO;"
  }
}
`;
}
