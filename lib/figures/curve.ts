/**
 * Measured curves of any length, made ready to draw: cut where a value cannot be drawn, smoothed, and thinned to what
 * the pixels can show. Thinning keeps the first, lowest, highest and last point of each column of pixels, which draws
 * the same line as all points would, so a spike of one step in a million survives.
 *
 * @module
 */

/** A point in data values. */
export interface CurvePoint {
  /** Ascending along a curve. */
  readonly x: number;
  /** What was measured. */
  readonly y: number;
}

/** A curve without the values that cannot be drawn. */
export interface CutCurve {
  /** Runs of points that belong together, none of them empty. */
  readonly pieces: CurvePoint[][];
  /** Where the values were that cannot be drawn. */
  readonly gaps: number[];
}

/** Cuts a curve at each value that is not finite or, on a logarithmic axis, not above 0. */
export function cutCurve(points: Iterable<CurvePoint>, options: { isLog: boolean }): CutCurve {
  const pieces: CurvePoint[][] = [];
  const gaps: number[] = [];
  let piece: CurvePoint[] = [];
  for (const point of points) {
    if (Number.isFinite(point.y) && (!options.isLog || point.y > 0)) {
      if (piece.length === 0) pieces.push(piece);
      piece.push(point);
    } else {
      gaps.push(point.x);
      piece = [];
    }
  }
  return { pieces, gaps };
}

/** Options of {@linkcode thinCurve}. */
export interface ThinCurveOptions {
  /** Value of x at the left edge. */
  lower: number;
  /** Value of x at the right edge. */
  upper: number;
  /** Columns of pixels between the edges. */
  nColumns: number;
}

/** At most four points a column, in their order: the first, the lowest, the highest and the last. */
export function thinCurve(points: readonly CurvePoint[], options: ThinCurveOptions): CurvePoint[] {
  const { lower, upper, nColumns } = options;
  const columnOf = ({ x }: CurvePoint) => Math.floor((x - lower) / (upper - lower) * nColumns);
  const thinned: CurvePoint[] = [];
  for (let start = 0, end = 0; start < points.length; start = end) {
    const column = columnOf(points[start]);
    let lowest = start;
    let highest = start;
    for (end = start + 1; end < points.length && columnOf(points[end]) === column; end++) {
      if (points[end].y < points[lowest].y) lowest = end;
      if (points[end].y > points[highest].y) highest = end;
    }
    const kept = new Set([start, lowest, highest, end - 1]);
    for (const i of [...kept].sort((a, b) => a - b)) thinned.push(points[i]);
  }
  return thinned;
}

/** Options of {@linkcode smoothCurve}. */
export interface SmoothCurveOptions {
  /** Points on each side that count, as far as there are any. */
  halfWidth: number;
  /** Whether near the start only as many points count after a point as before it, so that a steep start stays steep. */
  hasSteepStart: boolean;
  /** Whether to take the geometric mean, which is the mean on a logarithmic axis. */
  isLog: boolean;
}

/** The running mean over a window around each point, all weighted alike. */
export function smoothCurve(points: readonly CurvePoint[], options: SmoothCurveOptions): CurvePoint[] {
  const { halfWidth, hasSteepStart, isLog } = options;
  const n = points.length;
  const sums = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) sums[i + 1] = sums[i] + (isLog ? Math.log(points[i].y) : points[i].y);
  return points.map(({ x }, i) => {
    const nBefore = Math.min(halfWidth, i);
    const nAfter = Math.min(hasSteepStart ? nBefore : halfWidth, n - 1 - i);
    const mean = (sums[i + nAfter + 1] - sums[i - nBefore]) / (nBefore + 1 + nAfter);
    return { x, y: isLog ? Math.exp(mean) : mean };
  });
}
