/**
 * How figures and the atlas write numbers: few digits, no trailing zeros, thousands in groups.
 *
 * @module
 */

/** An activation: three significant digits, `"0.0123"`, `"4.57"`, `"1,230"`; powers of ten below 0.001. */
export function formatValue(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (magnitude < 0.001) {
    const exponent = Math.floor(Math.log10(magnitude));
    return `${Number((value / 10 ** exponent).toPrecision(2))}×${formatPowerOfTen(exponent)}`;
  }
  return Number(value.toPrecision(3)).toLocaleString("en-US", { maximumFractionDigits: 6 });
}

/** A count: `"1,234"`. */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString("en-US");
}

/** A share in [0, 1] as percent: `"12.3 %"`, `"0.0047 %"`. */
export function formatShare(share: number): string {
  if (!Number.isFinite(share)) return "–";
  const percent = share * 100;
  // A share close to one says more by what is missing: keep the digits that differ from 100.
  if (percent > 99 && percent < 100) {
    return `${percent.toFixed(Math.min(6, Math.ceil(1 - Math.log10(100 - percent))))} %`;
  }
  return `${formatValue(percent)} %`;
}

/** `10` to a whole exponent: `"10⁻⁴"`. */
export function formatPowerOfTen(exponent: number): string {
  const digits = [...String(exponent)].map((digit) => digit === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]);
  return `10${digits.join("")}`;
}

/** The usual name of a percentile for `p` in [0, 1]: `"p99.9"`. */
export function formatPercentile(p: number): string {
  return `p${Number((p * 100).toFixed(4))}`;
}

/** Whole numbers from 0 to `most`, evenly spaced, at most `nSteps` steps. */
export function countTicks(most: number, nSteps = 5): number[] {
  return evenTicks(0, most, { nSteps, leastStep: 1 });
}

/** Round marks on a logarithmic axis: decades; 2 and 5 between them within three decades; evenly spaced if very short. */
export function logTicks(lower: number, upper: number): number[] {
  const ticks: number[] = [];
  const steps = Math.log10(upper / lower) < 3 ? [1, 2, 5] : [1];
  for (let exponent = Math.floor(Math.log10(lower)); exponent <= Math.ceil(Math.log10(upper)); exponent++) {
    for (const step of steps) {
      const tick = Number(`${step}e${exponent}`);
      if (tick >= lower && tick <= upper) ticks.push(tick);
    }
  }
  return ticks.length > 1
    ? ticks
    : evenTicks(lower, upper, { nSteps: 4, leastStep: 10 ** Math.floor(Math.log10(lower) - 3) });
}

/** Multiples of 1, 2 or 5 times a power of ten, which `leastStep` must be. */
function evenTicks(lower: number, upper: number, options: { nSteps: number; leastStep: number }): number[] {
  let step = options.leastStep;
  for (let i = 0; Math.floor((upper - lower) / step) > options.nSteps; i++) step *= [2, 2.5, 2][i % 3];
  const ticks: number[] = [];
  for (let i = Math.ceil(lower / step); i * step <= upper; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}
