/**
 * `deno task bench`: our programs beside their peers, one table, and the numbers as JSON.
 * What the rows mean and what they showed is in `docs/performance.md`.
 *
 * @module
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { Command } from "commander";
import { checkEncode, checkSummary } from "./check.ts";
import { benchRules, fullSizes, quickSizes, writeBenchData } from "./data.ts";
import { findPython, measureRow, type RowResult } from "./measure.ts";
import { benchRows, findRow } from "./rows.ts";

interface Options {
  quick?: boolean;
  row?: string[];
  runs: number;
  busy?: boolean;
  out: string;
}

async function bench({ quick = false, row: names, runs: nRuns, busy = false, out }: Options): Promise<void> {
  const rows = names?.map(findRow) ?? benchRows;
  const python = await findPython();
  const sizes = quick ? quickSizes : fullSizes;
  const machine = { cpu: cpus()[0]?.model.trim(), nThreads: cpus().length, loadBefore: loadavg()[0] };
  console.log(`${machine.cpu}, ${machine.nThreads} threads, load ${machine.loadBefore.toFixed(2)} before`);
  if (busy) {
    console.log("One thread, and the processor's time in place of the clock's");
    process.env.BENCH_THREADS = "1";
    process.env.BENCH_CLOCK = "cpu";
  }
  if (python === undefined) {
    console.log("Peers in PyTorch are missing: install Python's torch and numpy (Debian: python3-torch) to compare");
  }
  const folder = await mkdtemp(join(tmpdir(), "sparsight-bench-"));
  try {
    await writeBenchData(folder, sizes);
    const results: RowResult[] = [];
    console.log(line(header));
    for (const row of rows) {
      const result = await measureRow(row, { folder, nRuns, python });
      results.push(result);
      for (const line of describeRow(result)) console.log(line);
    }
    const checks = await checkAnswers(folder, rows.map(({ name }) => name), python !== undefined);
    checks.forEach((line) => console.log(line));
    await mkdir(dirname(out), { recursive: true });
    await writeFile(
      out,
      JSON.stringify({ machine, sizes, nRuns, isBusy: busy, rows: results, checks }, undefined, 2) + "\n",
    );
    console.log(`Wrote ${out}`);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const columns = [32, 18, 16, 16, 9, 9] as const;
const header = ["", "peer", "ours", "peer's", "ratio", "target"];

function line(cells: readonly string[]): string {
  return cells.map((cell, i) => i < 2 ? cell.padEnd(columns[i]) : cell.padStart(columns[i])).join("").trimEnd();
}

function describeRow({ title, unit, rate, comparisons, missing }: RowResult): string[] {
  const lines = comparisons.map(({ peer, quantity, target, ours, theirs, ratio }) => {
    const show = (value: number) =>
      quantity === "rate"
        ? `${Math.round(value)} ${unit}`
        : quantity === "time"
        ? `${Math.round(value)} ms`
        : `${Math.round(value)} MB`;
    const verdict = ratio >= target ? "" : "  below";
    return line([title, peer, show(ours), show(theirs), `${ratio.toFixed(2)}×`, `${target}×`]) + verdict;
  });
  const ours = Number.isNaN(rate) ? "" : `${Math.round(rate)} ${unit}`;
  for (const [peer, reason] of Object.entries(missing)) lines.push(`${line([title, peer, ours])}  missing: ${reason}`);
  if (lines.length === 0) lines.push(line([title, "", ours]));
  return lines;
}

async function checkAnswers(folder: string, names: readonly string[], hasPeers: boolean): Promise<string[]> {
  const lines: string[] = [];
  for (const rule of benchRules) {
    const error = await checkEncode(folder, rule, { nTokens: 8 });
    lines.push(`Latents, ${rule}: within ${error.toExponential(1)} of float64`);
    if (!hasPeers || !names.includes(`summary_${rule}`)) continue;
    const { nTop, nSame } = await checkSummary(folder, rule);
    lines.push(`Top images, ${rule}: ${nSame} of ${nTop} as PyTorch has them, the others within rounding`);
  }
  return lines;
}

if (import.meta.main) {
  const command = new Command("bench")
    .description("Measure this kit beside PyTorch, each program in a process of its own.")
    .option("--quick", "tiny sizes: tries the programs, says nothing about speed")
    .option("--row <name...>", `only these of ${benchRows.map(({ name }) => name).join(", ")}`)
    .option("--runs <n>", "runs of each program, by turns; medians are shown", Number, 3)
    .option(
      "--busy",
      "for a machine that others use: one thread, and its time on the processor in place of the clock's",
    )
    .option("--out <file>", "where the numbers go", "out/bench.json");
  await command.parseAsync();
  await bench(command.opts<Options>());
  process.exit(0);
}
