/**
 * What every command shares: options that mean the same everywhere, progress, results as JSON, and errors in one line.
 *
 * @module
 */
import process from "node:process";
import { InvalidArgumentError, Option } from "commander";
import { backendChoices } from "../lib/compute/select.ts";
import { progressCallback } from "../lib/notebook/progress.ts";
import type { HubOptions } from "../lib/hub/hub.ts";
import type { ProgressCallback } from "../lib/notebook/progress.ts";

/** What a command gets from the program. */
export interface CommandContext {
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
  /** Steps begun so far: an error ends their bars before its line is printed. */
  readonly steps: ProgressCallback[];
}

/** More threads than this only wait for each other; a slip of the finger should not bring a machine down. */
const maxThreads = 256;

/** Parses a number of threads; 0 is every core. */
export function threadCount(text: string): number {
  if (!isInteger(text) || Number(text) < 0 || Number(text) > maxThreads) {
    throw new InvalidArgumentError(`It must be an integer from 0 to ${maxThreads}.`);
  }
  return Number(text);
}

/** Parses a path: an empty one comes from a variable that is not set, one like an option from a forgotten path. */
export function path(text: string): string {
  if (text === "" || text.startsWith("--")) throw new InvalidArgumentError("It must be a path.");
  return text;
}

/** Parses an integer option that must be above 0. */
export function count(text: string): number {
  if (!isInteger(text) || Number(text) < 1) throw new InvalidArgumentError("It must be an integer of 1 or more.");
  return Number(text);
}

/** Parses the number of a layer; -1 is the last. */
export function layerNumber(text: string): number {
  if (!isInteger(text)) throw new InvalidArgumentError("It must be an integer, such as 3, or -1 for the last.");
  return Number(text);
}

/** Parses a size in pixels: `518` for a square, `448x672` for width by height. */
export function pixelSize(text: string): { widthPx: number; heightPx: number } {
  const sides = /^(\d{1,5})(?:x(\d{1,5}))?$/.exec(text);
  const [widthPx, heightPx] = [Number(sides?.[1]), Number(sides?.[2] ?? sides?.[1])];
  if (!(widthPx > 0 && heightPx > 0)) {
    return refuse("It must be a size in pixels, such as 518, or 448x672 for width by height.");
  }
  return { widthPx, heightPx };
}

/** Parses layers separated by commas; -1 is the last. */
export function layerList(text: string): number[] {
  return integers(text) ?? refuse("It must be integers separated by commas, such as 3,5 or -1.");
}

/** Parses latents separated by commas. */
export function latentList(text: string): number[] {
  const latents = integers(text);
  if (latents === undefined || latents.some((latent) => latent < 0)) {
    return refuse("It must be integers of 0 or more separated by commas, such as 12,7.");
  }
  return latents;
}

function integers(text: string): number[] | undefined {
  const parts = text.split(",").map((part) => part.trim());
  return parts.every(isInteger) ? parts.map(Number) : undefined;
}

function isInteger(text: string): boolean {
  return /^-?\d+$/.test(text) && Number.isSafeInteger(Number(text));
}

function refuse(rule: string): never {
  throw new InvalidArgumentError(rule);
}

/** The options of commands that compute. */
export function computeOptions(): Option[] {
  return [
    new Option("--backend <name>", "where to compute").choices(backendChoices as unknown as string[])
      .env("SPARSIGHT_BACKEND").default("auto"),
    new Option("--threads <n>", "threads of the CPU back end, 0 for every core").argParser(threadCount).default(0),
  ];
}

/** The option that asks for a result as JSON. */
export function jsonOption(): Option {
  return new Option("--json", "print the result, or the error, as one JSON object, and no progress");
}

/** Progress for a step of a command; nothing is shown where the result is to be JSON. */
export function stepProgress(
  label: string,
  options: { steps: ProgressCallback[]; json?: boolean; unit?: string },
): ProgressCallback {
  const { steps, json, unit } = options;
  const step = progressCallback(label, { quiet: json, unit });
  steps.push(step);
  return step;
}

/** How a command fetches files of the Hub: with a bar for each that takes long, and so that Ctrl-C stops it. */
export function hubOptions({ signal, steps }: CommandContext, options: { json?: boolean }): HubOptions {
  const bars = new Map<string, ProgressCallback>();
  return {
    signal,
    onProgress(doneBytes, totalBytes, file) {
      if (totalBytes < smallFileBytes) return;
      let bar = bars.get(file);
      if (bar === undefined) {
        bar = stepProgress(`Fetch ${file.split("/").at(-1)}`, { steps, json: options.json, unit: "MB" });
        bars.set(file, bar);
      }
      bar(Math.round(doneBytes / 1e6), Math.round(totalBytes / 1e6));
    },
  };
}

/** Prints a command's result: as JSON, or as lines for people. */
export function printResult(
  result: Record<string, unknown>,
  options: { json?: boolean; lines: readonly string[] },
): void {
  console.log(options.json ? JSON.stringify(result) : options.lines.join("\n"));
}

/** Files that are there before a bar could be read. */
const smallFileBytes = 2e6;

const failed = 1;
const interrupted = 130;

/** Prints an error in one line, and as JSON where that is wanted. Returns the exit status. */
export function reportError(
  error: unknown,
  options: { signal: AbortSignal; json: boolean; isResumable: boolean },
): number {
  const { signal, json, isResumable } = options;
  const isInterrupt = signal.aborted && error === signal.reason;
  const message = isInterrupt
    ? `Stopped. ${isResumable ? "What is done is kept: run the same command again to go on" : "Nothing was written"}`
    : oneLine((error as Error)?.message || String(error));
  console.error(isInterrupt ? message : `error: ${message}`);
  if (json) printJsonError(message);
  if (process.env.SPARSIGHT_DEBUG) console.error(error);
  return isInterrupt ? interrupted : failed;
}

/** Prints an error for programs. */
export function printJsonError(message: string): void {
  console.log(JSON.stringify({ error: message }));
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, "; ");
}
