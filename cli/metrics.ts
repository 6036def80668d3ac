/**
 * `metrics`: how good an SAE is on some activations, in every published convention side by side.
 *
 * @module
 */
import process from "node:process";
import { Command } from "commander";
import { metricsTable, metricsToJson } from "../lib/sae/metrics/metrics.ts";
import { describeSae } from "../lib/sae/sae.ts";
import { textTable } from "../lib/notebook/table.ts";
import { addMeasureOptions, measureParts, nonFiniteLines, openParts } from "./measure.ts";
import { type CommandContext, printResult } from "./report.ts";

const example = `
Examples:
  deno run -A cli.ts metrics --sae checkpoints/sae.pt --activations activations.npy
  deno run -A cli.ts metrics --sae my_sae/ --activations out/shards --layer 3 --tokens cls --json`;

/** Makes the command. */
export function metricsCommand(context: CommandContext): Command {
  const command = new Command("metrics")
    .description("Measure an SAE on activations: every published metric with its formula and whose it is.");
  return addMeasureOptions(command).addHelpText("after", example).action(async (options) => {
    await using open = new AsyncDisposableStack();
    const parts = await openParts(options, { ...context, open });
    const { metrics, device } = await measureParts(parts, options, { ...context, label: "Measure" });
    const { nTokens, space, deadWindowTokens, densityHistogram } = metrics;
    const bins = densityHistogram.map(({ low, nLatents }) => `${low}: ${nLatents}`).join(", ");
    printResult({ ...metricsToJson(metrics), decisions: parts.sae.provenance.decisions ?? [] }, {
      json: options.json,
      lines: [
        describeSae(parts.sae),
        `Measured ${nTokens} tokens of ${options.activations} on ${device}, ` +
        (space === "raw" ? "compared as they were given" : "compared as they were normalized"),
        ...nonFiniteLines(metrics),
        "",
        fittingTable(metricsTable(metrics), process.stdout.columns),
        "",
        `t: tokens, d: dimensions, x̂: reconstruction, δ: x − x̂, f: latents, dead_window_tokens: ${deadWindowTokens}`,
        `Latents by log10 of their density, from: ${bins}`,
      ],
    });
  });
}

/** The table, without the columns to the right that the terminal is too narrow for; the first two always. */
export function fittingTable(rows: readonly Record<string, unknown>[], columns: number | undefined): string {
  const names = Object.keys(rows[0]);
  for (let nShown = names.length; nShown > 2; nShown--) {
    const shown = rows.map((row) => Object.fromEntries(names.slice(0, nShown).map((name) => [name, row[name]])));
    const table = textTable(shown, { maxRows: rows.length });
    if (columns === undefined || table.split("\n").every((line) => line.length <= columns)) return table;
  }
  return textTable(rows.map((row) => Object.fromEntries(names.slice(0, 2).map((name) => [name, row[name]]))), {
    maxRows: rows.length,
  });
}
