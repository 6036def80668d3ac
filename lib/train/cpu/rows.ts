/**
 * Passes over the rows of a batch: reconstructions become errors, errors become losses and slopes. Rows are `stride`
 * numbers apart in the kernels' memory.
 *
 * @module
 */
interface RowShape {
  readonly dModel: number;
  readonly stride: number;
}

/** Puts the same row into each. */
export function fillRows(rows: Float32Array, row: Float32Array, stride: number): void {
  for (let start = 0; start < rows.length; start += stride) rows.set(row, start);
}

/** Adds rows up into `sums`. */
export function sumRows(rows: Float32Array, sums: Float64Array, stride: number): void {
  for (let start = 0; start < rows.length; start += stride) {
    for (let d = 0; d < sums.length; d++) sums[d] += rows[start + d];
  }
}

/** What a reconstruction leaves over, shape `[nTokens, dModel]`. */
export function leftOver(
  reconstruction: Float32Array,
  target: Float32Array,
  { dModel, stride }: RowShape,
): Float32Array {
  const residual = new Float32Array(target.length);
  for (let start = 0, at = 0; start < target.length; start += dModel, at += stride) {
    for (let d = 0; d < dModel; d++) residual[start + d] = target[start + d] - reconstruction[at + d];
  }
  return residual;
}

/** Turns reconstructions into slopes of the loss along them, in place. @returns The loss, and the plain squares. */
export function toSlopes(
  rows: Float32Array,
  target: Float32Array,
  options: RowShape & { weights: Float64Array; factor: number },
): { weighted: number; squares: number } {
  const { weights, factor, dModel, stride } = options;
  let [weighted, squares] = [0, 0];
  for (let token = 0; token < weights.length; token++) {
    const [start, at] = [token * dModel, token * stride];
    const weight = factor * weights[token];
    let sum = 0;
    for (let d = 0; d < dModel; d++) {
      const error = rows[at + d] - target[start + d];
      sum += error * error;
      rows[at + d] = 2 * weight * error;
    }
    weighted += weight * sum;
    squares += sum;
  }
  return { weighted, squares };
}

/** Sum of squared distances from the mean. */
export function spread(x: Float32Array, dModel: number): number {
  const sums = new Float64Array(dModel);
  sumRows(x, sums, dModel);
  let squares = 0;
  for (let start = 0; start < x.length; start += dModel) {
    for (let d = 0; d < dModel; d++) squares += (x[start + d] - sums[d] * dModel / x.length) ** 2;
  }
  return squares || 1;
}
