/**
 * What a case for a compute back end is made of.
 *
 * @module
 */
import type { ActivationRule, Backend, LoadedSae, SaeWeights } from "../../lib/compute/contract.ts";

/** One named check of a back end. */
export interface BackendCase {
  /** A sentence that starts with the symbol under test, to be used as the name of the test. */
  name: string;
  /** Rejects with an `AssertionError` if the back end gives a wrong answer. */
  run(backend: Backend): Promise<void>;
}

/** The `k` largest. */
export const topK = (k: number, relu: boolean): ActivationRule => ({ kind: "topK", k, relu });
/** Every positive one. */
export const relu: ActivationRule = { kind: "relu" };
/** Every positive one above its latent's threshold. */
export const jumpRelu = (threshold: readonly number[]): ActivationRule => ({
  kind: "jumpRelu",
  threshold: Float32Array.from(threshold),
});
/** Thresholds of every kind in turn; the whole numbers are those that sums of small integers often equal. */
export const mixedThresholds = (dSae: number): number[] =>
  Array.from({ length: dSae }, (_, latent) => [0, 3, -2, 1, 1000, -0, 0.5][latent % 7]);

/** A rule in the name of a test. */
export function describeRule(rule: ActivationRule): string {
  if (rule.kind === "topK") return `top ${rule.k}${rule.relu ? " with relu" : ""}`;
  return rule.kind === "relu" ? "relu" : "jump relu";
}

/** Loads, runs, and disposes whatever happens. */
export async function withSae(
  backend: Backend,
  weights: SaeWeights,
  body: (sae: LoadedSae) => Promise<void>,
): Promise<void> {
  const sae = await backend.load(weights);
  try {
    await body(sae);
  } finally {
    await sae.dispose();
  }
}

/** One input dimension, so that pre-activations are the encoder row times `x`. */
export function scalarWeights(row: number[], rule: ActivationRule): SaeWeights {
  return {
    dModel: 1,
    dSae: row.length,
    wEnc: Float32Array.from(row),
    bEnc: new Float32Array(row.length),
    wDec: Float32Array.from(row),
    bDec: Float32Array.of(0.5),
    subtractBDec: false,
    rule,
  };
}
