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
import type { Measured } from "./ours.ts";
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
  return [process.execPath, "run", "-A", here("ours.ts"), task, folder, row.rule];
}

async function run([command, ...args]: readonly string[]): Promise<Measured> {
  const { stdout } = await promisify(execFile)(command, args);
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

/** Programs that count latents must count the same. */
function checkAgreement(row: BenchRow, runs: Readonly<Record<string, readonly Measured[]>>): void {
  const counts = new Set(Object.values(runs).flat().map(({ nLatents }) => nLatents).filter((n) => n !== undefined));
  if (counts.size > 1) {
    throw new Error(
      `Cannot compare ${row.name}: all must find as many latents, they find ${[...counts].join(" and ")}`,
    );
  }
}
