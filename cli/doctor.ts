/**
 * `doctor`: does this SAE fit these activations, and under which conventions?
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { Command, InvalidArgumentError } from "commander";
import { findPublicCheckpoint } from "../lib/registry/registry.ts";
import { openBackend } from "../lib/compute/select.ts";
import { type Candidate, diagnoseSae, type Diagnosis } from "../lib/sae/doctor/doctor.ts";
import { folderSidecarName, sidecarSuffix, writeSidecar } from "../lib/sae/normalization_file.ts";
import { configFileName } from "../lib/sae/save.ts";
import type { TokenKind } from "../lib/shards/read.ts";
import { addConventionOptions, loadNamedSae, saeSource } from "./conventions.ts";
import { openVariants } from "./doctor_variants.ts";
import { fittingTable } from "./evaluate.ts";
import {
  type CommandContext,
  computeOptions,
  count,
  jsonOption,
  layerList,
  path,
  printResult,
  stepProgress,
} from "./report.ts";

const help = `
Checkpoints leave out how activations were normalized, whether b_dec is subtracted, and which rule
follows. All of it is tried, on every kind of activations that is given; what reconstructs them best
is what the SAE was trained with. The table marks what the SAE was read with by *.

Examples:
  deno run -A cli.ts doctor --sae sae.pt --activations x.npy
  deno run -A cli.ts doctor --sae sae.pt --shards out/shards --expected-l0 412.7 --write-sidecar
  deno run -A cli.ts doctor --sae sae.pt --vit vision_model.onnx --images photos/ --layer 10`;

/** Makes the command. */
export function doctorCommand({ signal, steps }: CommandContext): Command {
  const command = new Command("doctor")
    .description("Find out what an SAE was trained on: layer, tokens, normalization, bias and activation rule.")
    .requiredOption("--sae <source>", saeSource, path)
    .option("--activations <file>", "activations in an npy, npz, safetensors or torch file", path)
    .option("--tensor <name>", "tensor of that file, where it holds several")
    .option("--shards <dir>", "folder made by record", path)
    .option("--vit <file>", "vision tower in ONNX, to record from", path)
    .option("--images <path>", "images for the vision tower", path)
    .option("--layer <list>", "layers to try; default all recorded, or the SAE's own and those next to it", layerList)
    .option("--tokens <list>", "tokens to try, of patches,cls,all; default patches and CLS", tokenList)
    .option("--n-images <n>", "images to record with --vit", count, 64)
    .option("--n-tokens <n>", "tokens to measure the best conventions on", count, 2048)
    .option(
      "--expected-l0 <x>",
      "active latents a token that the SAE's card gives; default what is known of public SAEs",
      positive,
    )
    .option("--expected-mse <x>", "mean squared error that the card gives, in the space of training", positive)
    .option("--expected-normalized-mse <x>", "squared error over variance that the card gives", positive)
    .option("--write-sidecar", "write what was found beside the SAE, where loading follows it");
  addConventionOptions(command);
  computeOptions().forEach((option) => command.addOption(option));
  return command.addOption(jsonOption()).addHelpText("after", help).action(async (options) => {
    const { json } = options;
    await using open = new AsyncDisposableStack();
    const sae = await loadNamedSae(options, { signal, steps });
    const variants = await openVariants(sae, { ...options, layers: options.layer }, {
      open,
      signal,
      startProgress: () => stepProgress("Record", { steps, json, unit: "images" }),
    });
    const { backend: choice, threads, expectedL0, expectedMse, expectedNormalizedMse } = options;
    const backend = open.adopt(await openBackend({ backend: choice, threads }), (backend) => backend.close());
    // What its authors published, unless told otherwise.
    const card = await findPublicCheckpoint(options.sae, { signal });
    const progress = stepProgress("Diagnose", { steps, json, unit: "conventions" });
    const diagnosis = await diagnoseSae(sae, variants, {
      backend,
      nTokens: options.nTokens,
      expected: {
        l0: expectedL0 ?? card?.expected?.l0,
        mse: expectedMse ?? card?.expected?.mse,
        normalizedMse: expectedNormalizedMse,
      },
      onProgress: progress,
      signal,
    });
    await progress.finish();
    const written = options.writeSidecar ? await saveSidecar(options.sae, diagnosis) : undefined;
    printResult(toJson(diagnosis, written), {
      json,
      lines: [
        diagnosisTable(diagnosis.candidates, { columns: process.stdout.columns }),
        "",
        diagnosis.text,
        ...diagnosis.warnings.map((warning) => `- ${warning}`),
        ...advice(diagnosis, { sae: options.sae, written }),
      ],
    });
  });
}

/** The candidates as a table, without the columns to the right that a terminal is too narrow for. */
export function diagnosisTable(candidates: readonly Candidate[], options: { columns: number | undefined }): string {
  const hasVariants = candidates.some(({ variantIndex }) => variantIndex > 0);
  const rows = candidates.map((candidate) => {
    const { variant, normalization, subtractBDec, rule, normalizedMse, explainedVariance, meanL0, deadFraction } =
      candidate;
    return {
      " ": candidate.nDepartures === 0 ? "*" : "",
      ...(hasVariants ? { activations: variant } : {}),
      normalization: normalization.name,
      "−b_dec": subtractBDec ? "yes" : "no",
      rule: rule.name,
      "n.MSE": Number(normalizedMse.toPrecision(3)),
      L0: Number(meanL0.toFixed(1)),
      "explained %": Number((100 * explainedVariance).toFixed(1)),
      "dead %": Number((100 * deadFraction).toFixed(1)),
      tokens: candidate.nTokens,
    };
  });
  return fittingTable(rows, options.columns);
}

/** What to do with it. */
function advice(diagnosis: Diagnosis, options: { sae: string; written: string | undefined }): string[] {
  const { verdict, options: { normalization, subtractBDec, rule } } = diagnosis;
  if (options.written !== undefined) return [`Wrote ${options.written}: loading the SAE follows it from now on`];
  const departs = normalization !== undefined || subtractBDec !== undefined || rule !== undefined;
  if (verdict === "fitsNothing" || !departs) return [];
  const code = [
    ...(normalization === undefined
      ? []
      : [normalization.kind === "affine" ? "normalization" : `normalization: ${JSON.stringify(normalization)}`]),
    ...(subtractBDec === undefined ? [] : [`subtractBDec: ${subtractBDec}`]),
    ...(rule === undefined ? [] : [`rule: ${JSON.stringify(rule)}`]),
  ].join(", ");
  return [
    "Keep this beside the SAE, where loading follows it: run again with --write-sidecar",
    `In code: loadSae(${JSON.stringify(options.sae)}, { ${code} })`,
  ];
}

/** Writes what was found beside the SAE, and says where. */
async function saveSidecar(sae: string, { sidecar, text }: Diagnosis): Promise<string> {
  if (sidecar === undefined) throw new Error(`Cannot write sidecar: the SAE must fit some activations. ${text}`);
  const found = await stat(sae).catch(() => undefined);
  if (found === undefined) {
    throw new Error(`Cannot write sidecar: the SAE must be a file or a folder of this machine, current one is ${sae}`);
  }
  const folder = found.isDirectory() ? sae : basename(sae) === configFileName ? dirname(sae) : undefined;
  const target = folder === undefined ? sae + sidecarSuffix : join(folder, folderSidecarName);
  const origin = folder === undefined ? { file: basename(sae), fileBytes: found.size } : {};
  await writeSidecar(target, { ...sidecar, ...origin });
  return target;
}

function toJson(diagnosis: Diagnosis, written: string | undefined): Record<string, unknown> {
  const { verdict, text, warnings, candidates, nTried } = diagnosis;
  return { verdict, text, warnings, n_tried: nTried, candidates: candidates.map(candidateToJson), sidecar: written };
}

function candidateToJson(candidate: Candidate): Record<string, unknown> {
  const { normalization: { name, normalization }, rule: { rule } } = candidate;
  return {
    activations: candidate.variant,
    normalization: name,
    normalization_kind: normalization.kind,
    subtract_b_dec: candidate.subtractBDec,
    rule: rule.kind === "jumpRelu" ? { kind: rule.kind } : rule,
    is_as_read: candidate.nDepartures === 0,
    n_tokens: candidate.nTokens,
    normalized_mse: candidate.normalizedMse,
    explained_variance: candidate.explainedVariance,
    mse: candidate.mse,
    l0: candidate.meanL0,
    dead_fraction: candidate.deadFraction,
  };
}

function tokenList(text: string): TokenKind[] {
  const kinds = text.split(",").map((part) => part.trim());
  if (kinds.some((kind) => !["patches", "cls", "all"].includes(kind))) {
    throw new InvalidArgumentError("It must be of patches, cls and all, separated by commas.");
  }
  return [...new Set(kinds)] as TokenKind[];
}

function positive(text: string): number {
  const value = Number(text);
  if (!(Number.isFinite(value) && value > 0)) throw new InvalidArgumentError("It must be a number above 0.");
  return value;
}
