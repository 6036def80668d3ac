/**
 * The command line: `deno run -A cli.ts <command> --help`.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import process from "node:process";
import denoConfig from "./deno.json" with { type: "json" };
import { atlasCommand } from "./cli/atlas.ts";
import { convertCommand } from "./cli/convert.ts";
import { demoCommand } from "./cli/demo.ts";
import { describeCommand } from "./cli/describe.ts";
import { doctorCommand } from "./cli/doctor.ts";
import { encodeCommand } from "./cli/encode.ts";
import { evaluateCommand } from "./cli/evaluate.ts";
import { recordCommand } from "./cli/record.ts";
import { saesCommand } from "./cli/registry.ts";
import { type CommandContext, printJsonError, reportError } from "./cli/report.ts";
import { summarizeCommand } from "./cli/summarize.ts";
import { sweepCommand } from "./cli/sweep.ts";
import { trainCommand } from "./cli/train.ts";

const usageError = 2;

/** Commands that go on where they stopped. */
const resumable = new Set(["record", "train", "sweep", "demo"]);

/** In the order in which they are likely to be wanted. */
const commands = [
  demoCommand,
  recordCommand,
  trainCommand,
  sweepCommand,
  summarizeCommand,
  atlasCommand,
  saesCommand,
  describeCommand,
  doctorCommand,
  encodeCommand,
  evaluateCommand,
  convertCommand,
];

/** Columns of help texts where the terminal is wider: longer lines are hard to read. */
const maxHelpColumns = 100;

/** Runs the command line and returns its exit status: 0, 1 for an error, 2 for wrong usage, 130 when interrupted. */
export async function main(args: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort(new DOMException("interrupted", "AbortError"));
  process.once("SIGINT", onInterrupt);
  process.once("SIGTERM", onInterrupt);
  const { signal } = interrupt;
  const json = args.includes("--json");
  const context: CommandContext = { signal, steps: [] };
  try {
    await makeProgram(context).parseAsync(args as string[], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      if (json) printJsonError(error.message.replace(/^error: /, ""));
      return usageError;
    }
    for (const step of context.steps) await step.finish();
    return reportError(error, { signal, json, isResumable: resumable.has(args[0]) });
  } finally {
    process.off("SIGINT", onInterrupt);
    process.off("SIGTERM", onInterrupt);
  }
}

function makeProgram(context: CommandContext): Command {
  const program = new Command("sparsight")
    .description("Sparse autoencoders on vision transformers: record, summarize, look.")
    .version(denoConfig.version)
    .exitOverride()
    .showHelpAfterError("Run with --help to see what there is.")
    .configureOutput({ getOutHelpWidth: () => Math.min(process.stdout.columns ?? 80, maxHelpColumns) })
    .addHelpText("after", "\nStart with `demo`: it does all of it on embedded data and needs no options.");
  for (const make of commands) program.addCommand(make(context).copyInheritedSettings(program));
  return program;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
