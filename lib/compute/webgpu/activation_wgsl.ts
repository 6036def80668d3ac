/**
 * The WGSL that decides whether a latent of a token is active, shared by every kernel that reads pre-activations so
 * that they cannot disagree. All comparisons are on integers: float comparisons may treat NaN and tiny numbers as the
 * driver likes, and two kernels of one SAE must draw the same line.
 *
 * @module
 */
import type { TokenRule } from "../contract.ts";
import type { Binding } from "./kernel.ts";

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
 * The buffer that a rule reads beside the pre-activations, which a kernel with {@linkcode isKeptWgsl} has to bind.
 *
 * - topK: `thresholds`, what the select kernel found for each token: the key of the k-th largest value, and the last
 *   latent that may be kept among those equal to it.
 * - jumpRelu: `floors`, what a value of each latent has to exceed. They are not negative, so that their bits, read as u32,
 *   are their order.
 */
export function ruleBindings(rule: TokenRule): Binding[] {
  if (rule.kind === "topK") return [["thresholds", "read", "vec2u"]];
  if (rule.kind === "jumpRelu") return [["floors", "read", "u32"]];
  return [];
}

/**
 * `is_kept(value, latent, threshold)` for a rule, where `threshold` is `threshold_of(token)`: a kernel that stays with one
 * token reads it once. Only topK has a threshold of a token, the others ignore it.
 */
export function isKeptWgsl(rule: TokenRule): string {
  return SORT_KEY_WGSL + /* wgsl */ `
fn threshold_of(token: u32) -> vec2u {
  return ${rule.kind === "topK" ? "thresholds[token]" : "vec2u()"};
}

fn is_kept(value: f32, latent: u32, threshold: vec2u) -> bool {
  let key = sort_key(value);
  ${keptIf(rule)}
}
`;
}

function keptIf(rule: TokenRule): string {
  if (rule.kind === "relu") return "return key > KEY_OF_ZERO;";
  if (rule.kind === "jumpRelu") return "return key > (KEY_OF_ZERO | floors[latent]);";
  return `if (key < threshold.x || (key == threshold.x && latent > threshold.y)) { return false; }
  ${
    rule.relu
      ? "return key > KEY_OF_ZERO;"
      : "return key != 0u && key != KEY_OF_ZERO && key != KEY_OF_ZERO - 1u; // neither NaN nor a zero"
  }`;
}
