/**
 * Formulas of how sparse latents are, how many are used at all, and how alike their directions are. The letters are
 * those of `metric_formulas.ts`.
 *
 * @module
 */
import type { MetricFormula } from "./formula.ts";
import { clipScopeActive } from "./sums.ts";

/** Below this density saev calls a latent almost dead. */
const almostDead = 1e-7;
/** Above this density saev calls a latent dense. */
const dense = 1e-2;

const countLatents = (counts: Float64Array, is: (count: number) => boolean) =>
  counts.reduce((count, value) => count + Number(is(value)), 0);

/** Formulas of the latents and of the dictionary. */
export const latentFormulas: readonly MetricFormula[] = [
  {
    key: "l0",
    name: "L0",
    formula: "mean_t #(f > 0)",
    source: "CLIP-Scope L0, SAELens l0, saev until 2025",
    compute: ({ sums }) => sums.nPositive / sums.nTokens,
  },
  {
    key: "l0NonZero",
    name: "L0, non-zero",
    formula: "mean_t #(f ≠ 0)",
    source: "saev l0",
    compute: ({ sums }) => sums.nNonZero / sums.nTokens,
  },
  {
    key: "l0Above",
    name: "L0, above 0.001",
    formula: `mean_t #(f > ${clipScopeActive})`,
    source: "CLIP-Scope active_latents",
    compute: ({ sums }) => sums.nAboveClipScope / sums.nTokens,
  },
  {
    key: "l1",
    name: "L1",
    formula: "mean_t Σ |f|",
    source: "saev l1, CLIP-Scope l1",
    compute: ({ sums }) => sums.absoluteSum / sums.nTokens,
  },
  {
    key: "l1Signed",
    name: "L1, signed",
    formula: "mean_t Σ f",
    source: "SAELens l1, saev until 2025",
    compute: ({ sums }) => sums.signedSum / sums.nTokens,
  },
  {
    key: "nDead",
    name: "dead latents",
    formula: "latents with f > 0 on no token",
    source: "saev n_dead",
    compute: ({ sums }) => countLatents(sums.nFired, (count) => count === 0),
  },
  {
    key: "nDeadWindow",
    name: "dead, last tokens",
    formula: "latents without f > 0 in dead_window_tokens",
    source: "OpenAI; saev AuxK",
    compute: ({ sums, deadWindowTokens }) =>
      countLatents(sums.lastFired, (last) => last === 0 || sums.nTokens - last >= deadWindowTokens),
  },
  {
    key: "deadCounter",
    name: "dead share, counter",
    formula: `share idle (f ≤ ${clipScopeActive}) for dead_window_tokens`,
    source: "CLIP-Scope dead_feature_prop",
    compute: ({ sums, deadWindowTokens }) =>
      countLatents(sums.idleTokens, (idle) => idle >= deadWindowTokens) / sums.dSae,
  },
  {
    key: "nAlmostDead",
    name: "almost dead latents",
    formula: "latents of density < 1e-7, dead ones too",
    source: "saev n_almost_dead",
    compute: ({ sums }) => countLatents(sums.nFired, (count) => count / sums.nTokens < almostDead),
  },
  {
    key: "nDense",
    name: "dense latents",
    formula: "latents of density > 0.01",
    source: "saev n_dense",
    compute: ({ sums }) => countLatents(sums.nFired, (count) => count / sums.nTokens > dense),
  },
  {
    key: "dictionaryCoherence",
    name: "dictionary coherence",
    formula: "max |cos(w_i, w_j)|, i ≠ j, of decoder rows",
    source: "saev dictionary_coherence",
    compute: ({ dictionaryCoherence }) => dictionaryCoherence,
  },
  {
    key: "meanDecoderNorm",
    name: "decoder norm",
    formula: "mean ‖w_i‖ of decoder rows",
    source: "saev avg_decoder_row_norm",
    compute: ({ meanDecoderNorm }) => meanDecoderNorm,
  },
];
