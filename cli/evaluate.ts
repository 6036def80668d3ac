/**
 * `evaluate`: how good SAEs are on some activations, in every published convention side by side; a sweep's in one table.
 *
 * @module
 */
import process from "node:process";
import { Command, Option } from "commander";
import { paretoFront } from "../lib/figures/pareto_plot.ts";
import { openImages } from "../lib/images/open.ts";
import { textTable } from "../lib/notebook/table.ts";
import { replaceFile } from "../lib/runtime/files.ts";
import type { Activations } from "../lib/sae/activations.ts";
import { type Metrics, metricsTable, metricsToJson } from "../lib/sae/metrics/metrics.ts";
import { describeSae, type Sae } from "../lib/sae/sae.ts";
import { hookPoints } from "../lib/vit/hooks.ts";
import { openVit } from "../lib/vit/vit.ts";
import { addConventionOptions, loadNamedSae, saeSource } from "./conventions.ts";
import { openImageActivations } from "./image_activations.ts";
import { activationsSource, addMeasureOptions, measureParts, nonFiniteLines, openActivationsFor } from "./measure.ts";
import { type CommandContext, hubOptions, path, printResult } from "./report.ts";
import { findTrainedSaes } from "./trained_runs.ts";

const help = `
Numbers, over all tokens given; --json and --out have them in snake_case:
  MSE and its variants  squared units of the activations
  normalized MSE        share of the variance that is left over: 1 is no better than the mean
  explained variance    1 − normalized MSE; R² and the other variants are shares, too
  cosine, ratios        no unit
  norms                 units of the activations
  L0                    latents a token
  L1                    units of the latents, summed over the latents of a token
  dead, dense latents   number of latents; the dead share is 0 to 1
  coherence             largest |cosine| of two decoder directions
  density               share of tokens on which a latent is above zero; a histogram of its log10
Every row of the table has its formula and whose it is. A sweep gets one row a run, the rest is in
the file. A run or sweep is measured on the layer and the tokens that it was trained on, and with
its own dead window.

Examples:
  deno run -A cli.ts evaluate --sae out/run --shards out/held_out --out metrics.json
  deno run -A cli.ts evaluate --sae out/sweep --shards out/held_out
  deno run -A cli.ts evaluate --sae sae.pt --vit vit.onnx --images photos/ --layer 3
  deno run -A cli.ts evaluate --sae checkpoints/sae.pt --activations activations.npy --json`;

/** Makes the command. */
export function evaluateCommand(context: CommandContext): Command {
  const command = new Command("evaluate")
    .alias("metrics")
    .description("Measure SAEs on activations: every published metric with its formula and whose it is.")
    .requiredOption("--sae <source>", `${saeSource}; or the folder of a run or a sweep`, path)
    .option("--shards <dir>", "activations: folder made by record", path)
    .option("--activations <path>", `or: ${activationsSource}`, path)
    .option("--vit <file>", "or images: vision tower in ONNX, or hf:owner/repository/path", path)
    .option("--images <path>", "images for it: a folder, or an Arrow file", path)
    .addOption(new Option("--hook <where>", "where in each block, with --vit (default: the SAE's)").choices(hookPoints))
    .option("--out <file>", "write the numbers to this file, as JSON", path);
  addMeasureOptions(addConventionOptions(command));
  return command.addHelpText("after", help).action(async (options) => {
    const open = await opener(options, context);
    const found = await findTrainedSaes(options.sae);
    const [only] = found?.finished ?? [{ name: "", sae: options.sae, deadAfterTokens: undefined }];
    const { result, lines } = found?.kind === "sweep"
      ? await evaluateSweep(found, { options, context, open })
      : await evaluateOne(only, { options, context, open });
    if (options.out !== undefined) {
      await replaceFile(options.out, JSON.stringify(result, undefined, 2) + "\n");
      lines.push(`Saved to ${options.out}`);
    }
    printResult(result, { json: options.json, lines });
  });
}

/** What the options are parsed into; each command's are checked by it. */
// deno-lint-ignore no-explicit-any
type Options = any;

interface How {
  readonly options: Options;
  readonly context: CommandContext;
  readonly open: (sae: Sae) => Promise<Activations>;
}

interface Evaluation {
  readonly result: Record<string, unknown>;
  readonly lines: string[];
}

interface Evaluated {
  readonly sae: Sae;
  readonly metrics: Metrics;
  readonly device: string;
}

async function evaluate(
  one: { name: string; sae: string; deadAfterTokens?: number },
  { options, context, open }: How,
): Promise<Evaluated> {
  const sae = await loadNamedSae({ ...options, sae: one.sae }, context);
  const activations = await open(sae);
  try {
    const deadWindow = options.deadWindow ?? one.deadAfterTokens;
    const label = one.name === "" ? "Measure" : `Measure ${one.name}`;
    return { sae, ...await measureParts({ sae, activations }, { ...options, deadWindow }, { ...context, label }) };
  } finally {
    await activations.close();
  }
}

async function evaluateOne(
  one: { sae: string; deadAfterTokens?: number },
  how: How,
): Promise<Evaluation> {
  const { sae, metrics, device } = await evaluate({ ...one, name: "" }, how);
  const { nTokens, space, deadWindowTokens, densityHistogram } = metrics;
  const bins = densityHistogram.map(({ low, nLatents }) => `${low}: ${nLatents}`).join(", ");
  return {
    result: toJson(sae, metrics),
    lines: [
      describeSae(sae),
      `Measured ${nTokens} tokens of ${placeOf(how.options)} on ${device}, ${describeSpace(space)}`,
      ...nonFiniteLines(metrics),
      "",
      fittingTable(metricsTable(metrics), process.stdout.columns),
      "",
      `t: tokens, d: dimensions, x̂: reconstruction, δ: x − x̂, f: latents, dead_window_tokens: ${deadWindowTokens}`,
      `Latents by log10 of their density, from: ${bins}`,
    ],
  };
}

async function evaluateSweep(
  { finished, unfinished }: NonNullable<Awaited<ReturnType<typeof findTrainedSaes>>>,
  how: How,
): Promise<Evaluation> {
  const rows: { name: string; l0: number; normalizedMse: number; columns: Record<string, unknown> }[] = [];
  const results: Record<string, unknown>[] = [];
  let last: Evaluated | undefined;
  for (const run of finished) {
    last = await evaluate(run, how);
    const { sae, metrics } = last;
    const { normalizedMse, explainedVariance, cosineSimilarity, l0, l1, nDead, nDense } = metrics;
    const columns = {
      ...{ run: run.name, "d_sae": sae.dSae, "normalized MSE": normalizedMse, "L0": l0, "dead": nDead },
      ...{ "dense": nDense, "explained variance": explainedVariance, "cosine": cosineSimilarity, "L1": l1 },
    };
    rows.push({ name: run.name, l0, normalizedMse, columns });
    results.push({ run: run.name, ...toJson(sae, metrics) });
  }
  const front = paretoFront(rows).map(({ name }) => name);
  const { metrics, device } = last!;
  return {
    result: { sweep: how.options.sae, front, runs: results, unfinished },
    lines: [
      `Measured ${metrics.nTokens} tokens of ${placeOf(how.options)} on ${device}, ${describeSpace(metrics.space)}`,
      ...nonFiniteLines(metrics),
      "",
      fittingTable(rows.map(({ columns }) => columns), process.stdout.columns),
      "",
      `No other run is better at L0 and normalized MSE than: ${front.join(", ")}`,
      ...(unfinished.length > 0 ? [`Left out, as not finished: ${unfinished.join(", ")}`] : []),
    ],
  };
}

/** How activations are opened for an SAE: the model, where there is one, is opened once for all. */
async function opener(options: Options, context: CommandContext): Promise<How["open"]> {
  const { shards, activations, vit: model, images: folder, hook, layer, tokens, tensor, threads, json } = options;
  checkSource(options);
  const source = shards ?? activations;
  if (source !== undefined) return (sae) => openActivationsFor(sae, source, { layer, tokens, tensor });
  const images = await openImages(folder);
  const vit = await openVit(model, { threads, hub: hubOptions(context, { json }) });
  return (sae) => Promise.resolve(openImageActivations(sae, { vit, images, hook, layer, tokens }));
}

/** Throws unless activations are named once: a recording, a file, or a ViT and images. */
function checkSource({ shards, activations, vit, images }: Options): void {
  const given = Object.entries({ shards, activations, vit, images }).filter(([, value]) => value !== undefined)
    .map(([name]) => `--${name}`);
  if (["--shards", "--activations", "--vit --images"].includes(given.join(" "))) return;
  throw new TypeError(
    `Cannot evaluate: there must be --shards, --activations, or --vit and --images, current options are ${
      given.join(", ") || "none of them"
    }`,
  );
}

function toJson(sae: Sae, metrics: Metrics): Record<string, unknown> {
  return { ...metricsToJson(metrics), decisions: sae.provenance.decisions ?? [] };
}

function placeOf({ shards, activations, images }: Options): string {
  return shards ?? activations ?? images;
}

function describeSpace(space: Metrics["space"]): string {
  return space === "raw" ? "compared as they were given" : "compared as they were normalized";
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
