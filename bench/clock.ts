/**
 * The clock of the measured programs on our side, and what they report.
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

/** What a measured process reports. */
export interface Measured {
  readonly seconds: number;
  /** What was done, in units of the task: tokens, images, 1. */
  readonly nDone: number;
  readonly peakMb: number;
  /** Of tasks that are measured beside something in the same process. */
  readonly baselineSeconds?: number;
  /** Of tasks whose answer is one number. */
  readonly nLatents?: number;
  /** Of training: loss of the first step. */
  readonly firstLoss?: number;
  /** Of training: latents a token in that step. */
  readonly l0?: number;
  /** Of the WebGPU product: some of its numbers, the same places in all. */
  readonly sample?: readonly number[];
  /** Of the WebGPU product: the adapter, for people. */
  readonly device?: string;
}

/** What a process reports that cannot measure anything on this machine. */
export interface Missing {
  /** Why. */
  readonly missing: string;
}

/** Measures work that says how much it did. */
export async function timed(work: () => Promise<number>): Promise<{ seconds: number; nDone: number }> {
  const start = clock();
  const nDone = await work();
  return { seconds: clock() - start, nDone };
}
