/**
 * Activations and SAEs that belong together under one convention, which the SAE does not tell: what the doctor has to
 * find. Normalizations are plain float64 loops of their own.
 *
 * @module
 */
import type { ActivationRule } from "../../lib/compute/contract.ts";
import { createSae, type Sae } from "../../lib/sae/sae.ts";
import { seededRandom } from "../../lib/train/random.ts";

/** Width, odd on purpose. */
export const dModel = 13;

const dSae = 9;
const nTokens = 700;

/** Below this a latent is noise. */
const FLOOR = 0.01;

/** Names of the doctor's normalizations that fix a mean and a scale, and how each is computed. */
const fixed: Record<string, (rows: number[][]) => { mean: number[]; scale: number[] }> = {
  "none": () => ({ mean: Array(dModel).fill(0), scale: Array(dModel).fill(1) }),
  "mean": (rows) => ({ mean: means(rows), scale: Array(dModel).fill(1) }),
  "mean, std": (rows) => {
    const mean = means(rows);
    const scale = mean.map((m, d) => Math.sqrt(sum(rows.map((row) => (row[d] - m) ** 2)) / (rows.length - 1)));
    return { mean, scale };
  },
  "mean, scalar": (rows) => {
    const mean = means(rows);
    const scalar = sum(rows.map((row) => norm(row.map((x, d) => x - mean[d])))) / rows.length / Math.sqrt(dModel);
    return { mean, scale: Array(dModel).fill(scalar) };
  },
  "average norm": (rows) => {
    const scale = sum(rows.map(norm)) / rows.length / Math.sqrt(dModel);
    return { mean: Array(dModel).fill(0), scale: Array(dModel).fill(scale) };
  },
};

/** Names of the doctor's normalizations that take each token on its own, and how each is computed. */
const perToken: Record<string, (row: number[]) => { mean: number; scale: number }> = {
  "layer norm": (row) => {
    const mean = sum(row) / dModel;
    return { mean, scale: Math.sqrt(sum(row.map((x) => (x - mean) ** 2)) / (dModel - 1)) };
  },
  "constant norm": (row) => ({ mean: 0, scale: norm(row) / Math.sqrt(dModel) }),
};

/** All names. */
export const hiddenNormalizations: readonly string[] = [...Object.keys(fixed), ...Object.keys(perToken)];

/**
 * Makes activations, and an SAE that reconstructs them under one convention only. It is given away by nothing: it has
 * no normalization and the wrong `subtractBDec`.
 *
 * @param options The hidden convention, the rule that the SAE shows, and whether its activations take negative latents.
 */
export function hideConvention(
  options: { normalization: string; subtractBDec: boolean; shownRule?: ActivationRule; negative?: boolean },
): { sae: Sae; x: Float32Array } {
  const { normalization, subtractBDec, shownRule = { kind: "relu" }, negative = false } = options;
  const random = seededRandom(5);
  const vector = (spread: number) => Array.from({ length: dModel }, () => spread * (random() - 0.5));
  const directions = Array.from({ length: dSae }, () => vector(8));
  const offset = vector(6);
  let rows: number[][];
  let wDec: number[][];
  let bDec: number[];
  if (normalization in fixed) {
    // Tokens of two latents each.
    rows = Array.from({ length: nTokens }, (_, t) => {
      const [first, second] = [t % dSae, (t * 4 + 2) % dSae];
      const [a, b] = [0.5 + 2 * random(), (negative ? -1 : 1) * (0.5 + random())];
      return offset.map((o, d) => o + a * directions[first][d] + (first === second ? 0 : b * directions[second][d]));
    });
    const { mean, scale } = fixed[normalization](rows);
    wDec = directions.map((direction) => direction.map((x, d) => x / scale[d]));
    bDec = offset.map((o, d) => (o - mean[d]) / scale[d]);
  } else {
    // Tokens of one latent each, every one at its own scale, and in its own place where that does not matter.
    const normalize = (row: number[]) => {
      const { mean, scale } = perToken[normalization](row);
      return row.map((x) => (x - mean) / scale);
    };
    const prototypes = directions.map(normalize);
    rows = Array.from({ length: nTokens }, (_, t) => {
      const [size, place] = [0.5 + 4 * random(), normalization === "layer norm" ? 6 * random() : 0];
      return prototypes[t % dSae].map((x) => size * x + place);
    });
    bDec = vector(1);
    wDec = prototypes.map((prototype) => prototype.map((x, d) => x - bDec[d]));
  }
  const wEnc = pseudoInverse(wDec);
  const shift = subtractBDec ? Array(dSae).fill(0) : Array.from({ length: dSae }, (_, j) => product(bDec, wEnc, j));
  const sae = createSae({
    dModel,
    dSae,
    wEnc: Float32Array.from(wEnc.flat()),
    bEnc: Float32Array.from(shift, (s) => -s - (negative ? 0 : FLOOR)),
    wDec: Float32Array.from(wDec.flat()),
    bDec: Float32Array.from(bDec),
    subtractBDec: !subtractBDec,
    rule: shownRule,
  });
  return { sae, x: Float32Array.from(rows.flat()) };
}

function means(rows: number[][]): number[] {
  return Array.from({ length: dModel }, (_, d) => sum(rows.map((row) => row[d])) / rows.length);
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function norm(row: number[]): number {
  return Math.hypot(...row);
}

function product(row: number[], matrix: number[][], column: number): number {
  return sum(row.map((x, d) => x * matrix[d][column]));
}

/** `Aᵀ (A Aᵀ)⁻¹` of independent rows, by Gauss-Jordan elimination. */
function pseudoInverse(a: number[][]): number[][] {
  const n = a.length;
  const grid = a.map((row, i) => [
    ...a.map((other) => sum(row.map((x, d) => x * other[d]))),
    ...a.map((_, j) => Number(i === j)),
  ]);
  for (let i = 0; i < n; i++) {
    const pivot = grid[i][i];
    grid[i] = grid[i].map((x) => x / pivot);
    for (let j = 0; j < n; j++) {
      const factor = grid[j][i];
      if (j !== i) grid[j] = grid[j].map((x, column) => x - factor * grid[i][column]);
    }
  }
  return Array.from(
    { length: a[0].length },
    (_, d) => Array.from({ length: n }, (_, j) => sum(a.map((row, i) => row[d] * grid[i][n + j]))),
  );
}
