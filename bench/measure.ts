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
import type { Measured, Missing } from "./clock.ts";
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
  /** NaN where this machine cannot run ours. */
  readonly rate: number;
  /** NaN where this machine cannot run ours, or does not tell. */
  readonly peakMb: number;
  /** Every run of every program, ours first. */
  readonly runs: Readonly<Record<string, readonly Measured[]>>;
  readonly comparisons: readonly ComparisonResult[];
  /** Programs that this machine cannot run, by the name of the peer, or `"ours"`, and why. */
  readonly missing: Readonly<Record<string, string>>;
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

/** Middle value, the lower of two; NaN of none. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? NaN;
}

/** Measures our task and its peers by turns, as far as this machine can run them. */
export async function measureRow(row: BenchRow, options: MeasureOptions): Promise<RowResult> {
  const { folder, nRuns, python } = options;
  const known = row.comparisons.filter(({ program }) => python !== undefined || !isPython(program));
  const ours = `ours ${row.task}`;
  const nameOf = ({ program }: Comparison) => program === "baseline" ? ours : programName(program);
  const commands = new Map([[ours, ourCommand(row.task, row, folder)]]);
  for (const { program } of known) {
    if (program === "baseline") continue;
    if ("task" in program) commands.set(programName(program), ourCommand(program.task, row, folder));
    else commands.set(programName(program), [python!, here(`peers/${program.python}`), folder, row.rule]);
  }
  const { runs, reasons } = await runByTurns(commands, nRuns);
  checkAgreement(row, runs);
  const ourRuns = runs[ours] ?? [];
  const rate = (measured: Measured) => measured.nDone / measured.seconds;
  const missing: Record<string, string> = ours in reasons ? { ours: reasons[ours] } : {};
  const comparisons: ComparisonResult[] = [];
  for (const comparison of known) {
    const { peer, quantity, target, program } = comparison;
    const name = nameOf(comparison);
    if (name in reasons && name !== ours) missing[peer] = reasons[name];
    if (ours in reasons || name in reasons) continue;
    const theirRuns = program === "baseline"
      ? ourRuns.map((measured) => ({ ...measured, seconds: measured.baselineSeconds! }))
      : runs[name];
    const value = (of: readonly Measured[]) =>
      median(of.map((m) => quantity === "rate" ? rate(m) : quantity === "time" ? 1e3 * m.seconds : m.peakMb));
    const [mine, theirs] = [value(ourRuns), value(theirRuns)];
    const ratio = quantity === "rate" ? mine / theirs : theirs / mine;
    comparisons.push({ peer, quantity, target, ours: mine, theirs, ratio });
  }
  return {
    name: row.name,
    title: row.title,
    unit: row.unit,
    rate: median(ourRuns.map(rate)),
    peakMb: median(ourRuns.map(({ peakMb }) => peakMb)),
    runs,
    comparisons,
    missing,
  };
}

/** What was measured, and why the others could not be, both by name. One that cannot run is not asked again. */
export async function runByTurns(
  commands: ReadonlyMap<string, readonly string[]>,
  nRuns: number,
): Promise<{ runs: Record<string, Measured[]>; reasons: Record<string, string> }> {
  const runs: Record<string, Measured[]> = {};
  const reasons: Record<string, string> = {};
  for (let i = 0; i < nRuns; i++) {
    for (const [name, command] of commands) {
      if (name in reasons) continue;
      const answer = await run(command);
      if ("missing" in answer) reasons[name] = answer.missing;
      else (runs[name] ??= []).push(answer);
    }
  }
  return { runs, reasons };
}

function isPython(program: Comparison["program"]): program is { python: string } {
  return program !== "baseline" && "python" in program;
}

function programName(program: Exclude<Comparison["program"], "baseline">): string {
  return "task" in program ? program.task : program.python;
}

function ourCommand(task: string, row: BenchRow, folder: string): string[] {
  return [process.execPath, "run", "-A", "--v8-flags=--expose-gc", here("ours.ts"), task, folder, row.rule];
}

async function run([command, ...args]: readonly string[]): Promise<Measured | Missing> {
  const { stdout } = await promisify(execFile)(command, args);
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

// Of losses: float32 sums in another order.
const LOSS_TOLERANCE = 1e-4;
// Of latents a token: pre-activations within rounding of the border.
const L0_TOLERANCE = 1e-3;
// Of products, relative to the largest number: float32 sums in another order.
const PRODUCT_TOLERANCE = 1e-5;

/**
 * Programs that count latents must count the same, those that train must begin with the same loss, and those that make a
 * product must make the same.
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
  const [first, ...others] = all.flatMap(({ sample }) => sample === undefined ? [] : [sample]);
  for (const other of others) {
    const largest = Math.max(...first.map(Math.abs));
    const difference = Math.max(...first.map((value, i) => Math.abs(value - other[i])));
    if (first.length === other.length && difference <= PRODUCT_TOLERANCE * largest) continue;
    throw new Error(
      `Cannot compare ${name}: products must be the same for all, current difference is ${difference}, of at most ${largest}`,
    );
  }
}
