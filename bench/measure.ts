/**
 * Runs measured programs, each in a process of its own, ours and the peers' by turns so that a busy machine is busy for
 * all of them, and takes medians.
 *
 * @module
 */
import { execFile } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Measured } from "./clock.ts";
import type { BenchRow, Comparison, Quantity } from "./rows.ts";

/** Medians of one comparison. */
export interface ComparisonResult {
  readonly peer: string;
  readonly quantity: Quantity;
  readonly target: number;
  readonly ours: number;
  readonly theirs: number;
  /** How many times better ours is. */
  readonly ratio: number;
}

/** Medians of one row. */
export interface RowResult {
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  readonly rate: number;
  readonly peakMb: number;
  /** Every run of every program, ours first. */
  readonly runs: Readonly<Record<string, readonly Measured[]>>;
  readonly comparisons: readonly ComparisonResult[];
}

/** Options of {@linkcode measureRow}. */
export interface MeasureOptions {
  /** Folder of the data. */
  readonly folder: string;
  /** Runs of each program. */
  readonly nRuns: number;
  /** A Python that has torch; without one, its comparisons are left out. */
  readonly python: string | undefined;
}

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** A Python that has torch, if there is one. */
export async function findPython(): Promise<string | undefined> {
  for (const candidate of ["python3", "/usr/bin/python3"]) {
    const works = await promisify(execFile)(candidate, ["-c", "import torch, numpy"]).then(() => true, () => false);
    if (works) return candidate;
  }
  return undefined;
}

/** Middle value; the lower of two. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}

/** Measures our task and its peers by turns. */
export async function measureRow(row: BenchRow, options: MeasureOptions): Promise<RowResult> {
  const { folder, nRuns, python } = options;
  const comparisons = row.comparisons.filter(({ program }) => python !== undefined || !isPython(program));
  const ours = `ours ${row.task}`;
  const commands = new Map([[ours, ourCommand(row.task, row, folder)]]);
  for (const { program } of comparisons) {
    if (program === "baseline") continue;
    if ("task" in program) commands.set(programName(program), ourCommand(program.task, row, folder));
    else commands.set(programName(program), [python!, here(`peers/${program.python}`), folder, row.rule]);
  }
  const runs: Record<string, Measured[]> = {};
  for (let i = 0; i < nRuns; i++) {
    for (const [name, command] of commands) (runs[name] ??= []).push(await run(command));
  }
  checkAgreement(row, runs);
  const rate = (measured: Measured) => measured.nDone / measured.seconds;
  return {
    name: row.name,
    title: row.title,
    unit: row.unit,
    rate: median(runs[ours].map(rate)),
    peakMb: median(runs[ours].map(({ peakMb }) => peakMb)),
    runs,
    comparisons: comparisons.map(({ peer, quantity, target, program }) => {
      const theirRuns = program === "baseline"
        ? runs[ours].map((measured) => ({ ...measured, seconds: measured.baselineSeconds! }))
        : runs[programName(program)];
      const value = (of: readonly Measured[]) =>
        median(of.map((m) => quantity === "rate" ? rate(m) : quantity === "time" ? 1e3 * m.seconds : m.peakMb));
      const [mine, theirs] = [value(runs[ours]), value(theirRuns)];
      return { peer, quantity, target, ours: mine, theirs, ratio: quantity === "rate" ? mine / theirs : theirs / mine };
    }),
  };
}

function isPython(program: Comparison["program"]): program is { python: string } {
  return program !== "baseline" && "python" in program;
}

function programName(program: Exclude<Comparison["program"], "baseline">): string {
  return "task" in program ? `ours ${program.task}` : program.python;
}

function ourCommand(task: string, row: BenchRow, folder: string): string[] {
  return [process.execPath, "run", "-A", "--v8-flags=--expose-gc", here("ours.ts"), task, folder, row.rule];
}

async function run([command, ...args]: readonly string[]): Promise<Measured> {
  const { stdout } = await promisify(execFile)(command, args);
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

// Of losses: float32 sums in another order.
const LOSS_TOLERANCE = 1e-4;
// Of latents a token: pre-activations within rounding of the border.
const L0_TOLERANCE = 1e-3;

/**
 * Programs that count latents must count the same, and those that train must begin with the same loss.
 *
 * @throws {Error} If two differ.
 */
export function checkAgreement({ name }: BenchRow, runs: Readonly<Record<string, readonly Measured[]>>): void {
  const all = Object.values(runs).flat();
  const check = (what: string, values: readonly (number | undefined)[], tolerance: number) => {
    const found = values.filter((value) => value !== undefined);
    const [least, most] = [Math.min(...found), Math.max(...found)];
    // Written so that NaN fails.
    if (found.length === 0 || most - least <= tolerance * most) return;
    throw new Error(
      `Cannot compare ${name}: ${what} must be the same for all, current values are ${[...new Set(found)].join(", ")}`,
    );
  };
  check("the number of latents", all.map(({ nLatents }) => nLatents), 0);
  check("the loss of the first step", all.map(({ firstLoss }) => firstLoss), LOSS_TOLERANCE);
  check("latents a token", all.map(({ l0 }) => l0), L0_TOLERANCE);
}
