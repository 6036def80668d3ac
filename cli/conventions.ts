/**
 * The options of every command that opens an SAE: what a checkpoint leaves out, or says wrongly, can be said on the
 * command line. Without them an SAE is read as it was trained.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { checkpointFormats, type DictionaryOptions } from "../lib/checkpoints/dictionary.ts";
import type { HubOptions } from "../lib/hub/hub.ts";
import type { ActivationRule, InputNormalization } from "../lib/compute/contract.ts";
import { openActivations } from "../lib/sae/activations.ts";
import { fixNormalization } from "../lib/sae/fix_normalization.ts";
import type { TokenKind } from "../lib/shards/read.ts";
import { loadSae } from "../lib/sae/load.ts";
import type { Sae } from "../lib/sae/sae.ts";
import { parseSidecar } from "../lib/sae/normalization_file.ts";
import { type CommandContext, count, hubOptions, path } from "./report.ts";

/** A rule as it is said on the command line: without what belongs to the SAE. */
export type RuleFlag =
  | { kind: "relu" }
  | { kind: "topK"; relu: boolean }
  | { kind: "batchTopK" }
  | { kind: "jumpRelu"; threshold: number };

/** What the options of {@linkcode addConventionOptions} are parsed into. */
export interface ConventionFlags {
  readonly k?: number;
  readonly rule?: RuleFlag;
  readonly subtractBDec?: boolean;
  /** A normalization, or the path of a sidecar that says one. */
  readonly normalization?: InputNormalization | string;
  readonly format?: DictionaryOptions["format"];
}

const ruleFlags: Readonly<Record<string, RuleFlag>> = {
  relu: { kind: "relu" },
  topk: { kind: "topK", relu: false },
  "topk-relu": { kind: "topK", relu: true },
  "batch-topk": { kind: "batchTopK" },
};

// The epsilons that SAELens and ViT-Prisma, and CLIP-Scope, have.
const normalizationFlags: Readonly<Record<string, InputNormalization>> = {
  none: { kind: "none" },
  "layer-norm": { kind: "layerNorm", epsilon: 1e-5 },
  "constant-norm": { kind: "constantNorm" },
  batch: { kind: "batch", epsilon: 1e-6 },
};

/** What may stand where an SAE is asked for. */
export const saeSource = "SAE: a folder, a file, a URL, or hf:owner/repository/path on the Hugging Face Hub";

/** Adds the option that names the SAE, and those that say how it is to be read. */
export function addSaeOptions(command: Command): Command {
  return addConventionOptions(command.requiredOption("--sae <source>", saeSource, path));
}

/** Opens the SAE that the options name. */
export async function loadNamedSae(
  options: ConventionFlags & { sae: string; json?: boolean },
  context: CommandContext,
): Promise<Sae> {
  const hub = hubOptions(context, options);
  return await loadSae(options.sae, {
    ...await conventionOptions(options, { ...options, hub }),
    hub,
    signal: context.signal,
  });
}

/** Opens the SAE that the options name for a recording: what it was trained to measure on each batch is measured once. */
export async function loadSaeForShards(
  options: ConventionFlags & { sae: string; shards: string; json?: boolean },
  context: CommandContext & { layer: number; tokens: TokenKind },
): Promise<Sae> {
  const { signal, ...which } = context;
  const sae = await loadNamedSae(options, context);
  if (sae.normalization?.kind !== "batch") return sae;
  const activations = await openActivations(options.shards, { layer: which.layer, tokens: which.tokens });
  try {
    return await fixNormalization(sae, () => activations.batches({ signal }), { signal });
  } finally {
    await activations.close();
  }
}

/** Adds the options that say how an SAE is to be read. */
export function addConventionOptions(command: Command): Command {
  return command
    .addOption(new Option("--k <n>", "active latents a token (topk), or a batch (batch-topk)").argParser(count))
    .addOption(
      new Option("--rule <rule>", "relu, topk (keeps negative values), topk-relu, batch-topk or jumprelu=<threshold>")
        .argParser(parseRule),
    )
    .option("--subtract-b-dec", "subtract the decoder bias from the input")
    .option("--no-subtract-b-dec", "do not subtract it")
    .addOption(
      new Option("--normalization <how>", "of the input: none, layer-norm, constant-norm, batch, or a sidecar's path")
        .argParser(parseNormalization),
    )
    .addOption(
      new Option("--format <name>", "format of the checkpoint, where its tensors do not show it")
        .choices(checkpointFormats),
    );
}

/**
 * What the options say, for `loadSae()`.
 *
 * @param options The SAE: some rules need its sizes, or its own `k`.
 * @throws {RangeError} If a rule needs a `k` that nobody says.
 */
export async function conventionOptions(
  flags: ConventionFlags,
  options: { sae: string; hub?: HubOptions },
): Promise<DictionaryOptions> {
  const { normalization: asked, subtractBDec, k, format } = flags;
  const sidecar = typeof asked === "string" ? await readSidecarFile(asked) : undefined;
  const normalization = sidecar?.normalization ?? (asked as InputNormalization | undefined);
  const given: DictionaryOptions = {
    subtractBDec: subtractBDec ?? sidecar?.subtractBDec,
    k,
    normalization,
    format,
    rule: sidecar?.rule,
    hub: options.hub,
  };
  const rule = flags.rule === undefined ? given.rule : await completeRule(flags.rule, given, options.sae);
  const wanted = Object.entries({ ...given, rule }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(wanted);
}

/** Parses a rule. */
export function parseRule(text: string): RuleFlag {
  const [name, value] = text.split("=", 2);
  if (name === "jumprelu" && value !== undefined && value.trim() !== "" && !Number.isNaN(Number(value))) {
    return { kind: "jumpRelu", threshold: Number(value) };
  }
  if (!Object.hasOwn(ruleFlags, text)) {
    throw new InvalidArgumentError(`It must be one of ${Object.keys(ruleFlags).join(", ")}, jumprelu=<threshold>.`);
  }
  return ruleFlags[text];
}

/** Parses a normalization: its name, or the path of a sidecar. */
export function parseNormalization(text: string): InputNormalization | string {
  if (Object.hasOwn(normalizationFlags, text)) return normalizationFlags[text];
  if (text.endsWith(".json") && !text.startsWith("--")) return text;
  const names = Object.keys(normalizationFlags).join(", ");
  throw new InvalidArgumentError(`It must be one of ${names}, or the path of a sidecar that ends in .json.`);
}

/** The rule with what belongs to the SAE; the SAE is only opened where it has to be asked. */
async function completeRule(flag: RuleFlag, options: DictionaryOptions, sae: string): Promise<ActivationRule> {
  if (flag.kind === "relu") return flag;
  if (flag.kind === "jumpRelu") {
    const { dSae } = await loadSae(sae, { ...options, rule: { kind: "relu" } });
    return { kind: flag.kind, threshold: new Float32Array(dSae).fill(flag.threshold) };
  }
  const k = options.k ?? await ownK(sae, options);
  return flag.kind === "topK" ? { kind: flag.kind, k, relu: flag.relu } : { kind: flag.kind, k };
}

async function ownK(path: string, options: DictionaryOptions): Promise<number> {
  const { rule } = await loadSae(path, options);
  if (rule.kind === "topK" || rule.kind === "batchTopK") return rule.k;
  throw new RangeError(`Cannot open SAE ${path}: k must be given, as its own rule is ${rule.kind}; add --k`);
}

async function readSidecarFile(path: string) {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    throw new Error(`Cannot read ${path}: the file must be readable (${code ?? message})`, { cause: error });
  }
  // The width is checked when the SAE is opened: here it is whatever the sidecar says.
  return parseSidecar(bytes, { name: basename(path), dModel: widthIn(bytes) });
}

function widthIn(bytes: Uint8Array): number {
  try {
    const { mean } = JSON.parse(new TextDecoder().decode(bytes)).normalization;
    return Array.isArray(mean) ? mean.length : 1;
  } catch {
    return 1;
  }
}
