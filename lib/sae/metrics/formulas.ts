/**
 * Every published metric of an SAE.
 *
 * @module
 */
import type { MetricFormula } from "./formula.ts";
import { latentFormulas } from "./latent_formulas.ts";
import { reconstructionFormulas } from "./reconstruction_formulas.ts";

/** The metrics, in the order of the table. */
export const metricFormulas: readonly MetricFormula[] = [...reconstructionFormulas, ...latentFormulas];
