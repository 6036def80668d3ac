/**
 * The command line: `deno run -A cli.ts <command> --help`.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import process from "node:process";
import denoConfig from "./deno.json" with { type: "json" };
import { atlasCommand } from "./cli/atlas.ts";
import { demoCommand } from "./cli/demo.ts";
import { recordCommand } from "./cli/record.ts";
import { reportError } from "./cli/report.ts";
import { summarizeCommand } from "./cli/summarize.ts";

const USAGE_ERROR = 2;

/** Runs the command line and returns its exit status: 0, 1 for an error, 2 for wrong usage, 130 when interrupted. */
export async function main(args: readonly string[]): Promise<number> {
  const program = new Command("sparsight")
    .description("Sparse autoencoders on vision transformers: record, summarize, look.")
    .version(denoConfig.version)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .addHelpText("after", "\nStart with `demo`: it does all of it on embedded data and needs no options.");
  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort(new DOMException("interrupted", "AbortError"));
  process.once("SIGINT", onInterrupt);
  process.once("SIGTERM", onInterrupt);
  const context = { signal: interrupt.signal };
  for (const make of [demoCommand, recordCommand, summarizeCommand, atlasCommand]) {
    program.addCommand(make(context).exitOverride().showHelpAfterError("Run with --help to see all options."));
  }
  try {
    await program.parseAsync(args as string[], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_ERROR;
    return reportError(error, { interrupted: interrupt.signal.aborted, json: args.includes("--json") });
  } finally {
    process.off("SIGINT", onInterrupt);
    process.off("SIGTERM", onInterrupt);
  }
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
