/**
 * The clock of the measured programs on our side.
 *
 * @module
 */
import process from "node:process";

/** Threads that every measured program has. */
export const threads: number = Number(process.env.BENCH_THREADS ?? 2);

/** Seconds: of the processor's time where the machine is shared, of the wall clock else. */
export function clock(): number {
  if (process.env.BENCH_CLOCK !== "cpu") return performance.now() / 1e3;
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Measures work that says how much it did. */
export async function timed(work: () => Promise<number>): Promise<{ seconds: number; nDone: number }> {
  const start = clock();
  const nDone = await work();
  return { seconds: clock() - start, nDone };
}
