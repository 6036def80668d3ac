/**
 * What `encode` and `evaluate` share: how activations and an SAE are opened, and one pass of the one over the other.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { type Command, Option } from "commander";
import { type BackendChoice, openBackend } from "../lib/compute/select.ts";
import { type Activations, openActivations } from "../lib/sae/activations.ts";
import {
  measureMetrics,
  type MeasureMetricsOptions,
  type Metrics,
  type MetricSpace,
} from "../lib/sae/metrics/metrics.ts";
import { checkSaeFits, type Sae } from "../lib/sae/sae.ts";
import type { TokenKind } from "../lib/shards/read.ts";
import type { ConventionFlags } from "./conventions.ts";
import { type CommandContext, computeOptions, count, jsonOption, layerNumber, stepProgress } from "./report.ts";

/** What `--activations` takes. */
export const activationsSource = ".npy, .safetensors, .pt or .npz file, or folder made by record";

/** Adds the options, but for those that name the SAE and the activations. */
export function addMeasureOptions(command: Command): Command {
  command
    .option("--tensor <name>", "tensor of the file, where it holds several")
    .option("--layer <n>", "layer of a recording or model; -1 is its last (default: the SAE's)", layerNumber)
    .addOption(
      new Option("--tokens <which>", "tokens of it (default: the SAE's, else patches)")
        .choices(["patches", "cls", "all"]),
    )
    .option("--tokens-per-image <n>", "tokens of an image, where the file does not tell", count)
    .option("--batch-size <n>", "tokens of a batch, at most", count, 4096)
    .addOption(
      new Option("--space <which>", "compare activations as given, or as the encoder takes them")
        .choices(["raw", "normalized"]).default("raw"),
    )
    .option(
      "--dead-window <n>",
      "tokens without activation after which a latent is dead (default: 10000000)",
      count,
    )
    .option("--no-coherence", "leave the dictionary's coherence out: it takes longest for large dictionaries");
  computeOptions().forEach((option) => command.addOption(option));
  return command.addOption(jsonOption());
}

/** What the options are parsed into. */
export interface MeasureFlags extends ConventionFlags {
  readonly tensor?: string;
  readonly layer?: number;
  readonly tokens?: TokenKind;
  readonly tokensPerImage?: number;
  readonly batchSize: number;
  readonly space: MetricSpace;
  readonly deadWindow?: number;
  readonly coherence: boolean;
  readonly backend: BackendChoice;
  readonly threads: number;
  readonly json?: boolean;
}

/** What a pass gives. */
export interface Measured {
  readonly metrics: Metrics;
  /** Name of the device. */
  readonly device: string;
}

/** An SAE and activations that fit it. */
export interface MeasureParts {
  readonly sae: Sae;
  readonly activations: Activations;
}

/** Opens activations for an SAE, and checks that they fit. What is not said of a recording is taken from the SAE. */
export async function openActivationsFor(
  sae: Sae,
  source: string,
  { layer, tokens, tensor }: Pick<MeasureFlags, "layer" | "tokens" | "tensor">,
): Promise<Activations> {
  const isRecording = (await stat(source).catch(() => undefined))?.isDirectory() ?? false;
  const own = isRecording ? sae.provenance : {};
  const activations = await openActivations(source, {
    layer: layer ?? own.layer,
    tokens: tokens ?? own.tokens,
    tensor,
  });
  try {
    checkSaeFits(sae, activations.dModel, { what: source });
    return activations;
  } catch (error) {
    await activations.close();
    throw error;
  }
}

/** Runs the SAE over the activations. */
export async function measureParts(
  { sae, activations }: MeasureParts,
  options: MeasureFlags,
  { signal, steps, label, onBatch }: CommandContext & { label: string } & Pick<MeasureMetricsOptions, "onBatch">,
): Promise<Measured> {
  const { batchSize, space, tokensPerImage, deadWindow, coherence, backend: choice, threads, json } = options;
  const backend = await openBackend({ backend: choice, threads });
  try {
    const progress = stepProgress(label, { steps, json, unit: "tokens" });
    const metrics = await measureMetrics(sae, activations.batches({ batchSize, signal }), {
      backend,
      space,
      tokensPerImage: tokensPerImage ?? activations.tokensPerImage,
      deadWindowTokens: deadWindow,
      coherenceLatents: coherence ? undefined : 0,
      threads,
      onBatch,
      onProgress: (nDone) => progress(nDone, activations.nTokens),
      signal,
    });
    await progress.finish();
    return { metrics, device: backend.device };
  } finally {
    await backend.close();
  }
}

/** A line about tokens that were left out, if there are any. */
export function nonFiniteLines({ nNonFinite, nTokens }: Metrics): string[] {
  if (nNonFinite === 0) return [];
  return [`Left out of the metrics: ${nNonFinite} of ${nTokens + nNonFinite} tokens hold NaN or an infinity`];
}
