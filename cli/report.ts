/**
 * What every command shares: options that mean the same everywhere, results as JSON, and errors in one line.
 *
 * @module
 */
import process from "node:process";
import { InvalidArgumentError, Option } from "commander";
import { backendChoices } from "../lib/compute/select.ts";
import { progressCallback } from "../lib/notebook/progress.ts";
import type { ProgressCallback } from "../lib/notebook/progress.ts";

/** What a command gets from the program. */
export interface CommandContext {
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
}

/** Parses an integer option. */
export function integer(text: string): number {
  if (!/^-?\d+$/.test(text)) throw new InvalidArgumentError("It must be an integer.");
  return Number(text);
}

/** Parses an integer option that must be above 0. */
export function count(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) < 1) throw new InvalidArgumentError("It must be an integer of 1 or more.");
  return Number(text);
}

/** Parses a comma-separated list of integers. */
export function integerList(text: string): number[] {
  if (!/^-?\d+(,-?\d+)*$/.test(text)) {
    throw new InvalidArgumentError("It must be integers separated by commas, such as 3,5 or -1.");
  }
  return text.split(",").map(Number);
}

/** The options of commands that compute. */
export function computeOptions(): Option[] {
  return [
    new Option("--backend <name>", "where to compute").choices(backendChoices as unknown as string[])
      .env("SPARSIGHT_BACKEND").default("auto"),
    new Option("--threads <n>", "threads of the CPU back end, 0 for every core").argParser(integer).default(0),
  ];
}

/** The option that asks for a result as JSON. */
export function jsonOption(): Option {
  return new Option("--json", "print the result as one JSON object and no progress").default(false);
}

/** Progress for a step of a command; nothing is shown where the result is to be JSON. */
export function stepProgress(label: string, options: { json: boolean; unit?: string }): ProgressCallback {
  return progressCallback(label, { quiet: options.json, unit: options.unit });
}

/** Prints a command's result: as JSON, or as lines for people. */
export function printResult(
  result: Record<string, unknown>,
  options: { json: boolean; lines: readonly string[] },
): void {
  console.log(options.json ? JSON.stringify(result) : options.lines.join("\n"));
}

const FAILED = 1;
const INTERRUPTED = 130;

/** Prints an error in one line and returns the exit status. */
export function reportError(error: unknown, options: { interrupted: boolean; json: boolean }): number {
  const message = options.interrupted
    ? "Stopped. What was done is kept: run the same command again to go on"
    : (error as Error).message ?? String(error);
  const line = message.replace(/\s*\n\s*/g, " ");
  if (options.json) console.log(JSON.stringify({ error: line }));
  else console.error(options.interrupted ? line : `error: ${line}`);
  if (process.env.SPARSIGHT_DEBUG) console.error(error);
  return options.interrupted ? INTERRUPTED : FAILED;
}
