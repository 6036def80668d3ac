/**
 * Saves and opens SAEs as a folder of `sae_weights.safetensors` and `cfg.json`, with the names that SAELens gives
 * them (https://github.com/decoderesearch/SAELens), so that its readers find their way. What is particular to vision
 * is under `metadata`.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { DictionaryOptions } from "../checkpoints/dictionary.ts";
import { readSafetensors, writeSafetensors } from "../checkpoints/safetensors.ts";
import type { ActivationRule } from "../compute/contract.ts";
import { makeFolder, replaceFile } from "../runtime/files.ts";
import { loadCheckpoint } from "./checkpoint.ts";
import { createSae, type Sae, type SaeProvenance } from "./sae.ts";

/** Name of the weights within an SAE's folder. */
export const weightsFileName = "sae_weights.safetensors";

/** Name of the configuration within an SAE's folder. */
export const configFileName = "cfg.json";

// SAELens's names of the rules.
const architectures = { relu: "standard", topK: "topk", jumpRelu: "jumprelu" } as const;

/** Saves an SAE into `directory`, which is made if it is missing. The weights come last, so no half is ever opened. */
export async function saveSae(sae: Sae, directory: string): Promise<void> {
  const { dModel, dSae, wEnc, bEnc, wDec, bDec, rule } = sae;
  const weights = writeSafetensors({
    W_enc: { shape: [dModel, dSae], data: wEnc },
    b_enc: { shape: [dSae], data: bEnc },
    W_dec: { shape: [dSae, dModel], data: wDec },
    b_dec: { shape: [dModel], data: bDec },
    ...(rule.kind === "jumpRelu" ? { threshold: { shape: [dSae], data: rule.threshold } } : {}),
  });
  await makeFolder(directory);
  await replaceFile(join(directory, configFileName), JSON.stringify(toConfig(sae), undefined, 2) + "\n");
  await replaceFile(join(directory, weightsFileName), weights);
}

/**
 * Opens an SAE: one of ours, or a checkpoint of saev or CLIP-Scope.
 *
 * @param path Its folder, a file in it, or a checkpoint.
 * @param options Decisions to overrule. By default the SAE is read as it was trained; `describeSae()` says how.
 * @throws {Error} If it is not there.
 * @throws {SyntaxError} If a file is damaged.
 * @throws {TypeError} If it is of an architecture that is not supported.
 * @throws {RangeError} If weights, thresholds or `k` do not fit its sizes.
 */
export async function loadSae(path: string, options: DictionaryOptions = {}): Promise<Sae> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    throw new Error(
      `Cannot open SAE ${path}: there must be a folder or a file of that name, there is none`,
    );
  }
  if (found.isFile() && !/\.(safetensors|json)$/.test(path)) return await loadCheckpoint(path, options);
  const folder = found.isDirectory() ? path : dirname(path);
  const isWeights = found.isFile() && basename(path) !== configFileName;
  const weightsPath = isWeights ? path : join(folder, weightsFileName);
  const configPath = join(folder, configFileName);
  const bytes = await readPart(weightsPath, path);
  const config = parseConfig(new TextDecoder().decode(await readPart(configPath, path)), configPath);
  const tensors = rethrow(path, () => readSafetensors(bytes));
  const take = (name: string, shape: number[]): Float32Array => {
    const tensor = tensors[name];
    if (String(tensor?.shape) !== String(shape)) {
      throw new RangeError(
        `Cannot open SAE ${path}: ${name} must have shape [${shape}], ` +
          `${tensor ? `current shape is [${tensor.shape}]` : `tensors are ${Object.keys(tensors).join(", ")}`}`,
      );
    }
    return tensor.data;
  };
  const { dModel, dSae, subtractBDec, rule, provenance } = config;
  const weights = {
    dModel,
    dSae,
    wEnc: take("W_enc", [dModel, dSae]),
    bEnc: take("b_enc", [dSae]),
    wDec: take("W_dec", [dSae, dModel]),
    bDec: take("b_dec", [dModel]),
    subtractBDec: options.subtractBDec ?? subtractBDec,
    rule: options.rule ??
      (rule.kind === "jumpRelu"
        ? { ...rule, threshold: take("threshold", [dSae]) }
        : rule.kind === "topK"
        ? { ...rule, k: options.k ?? rule.k }
        : rule),
  };
  return rethrow(path, () => createSae(weights, provenance));
}

async function readPart(path: string, sae: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new Error(
      `Cannot open SAE ${sae}: it must hold ${basename(path)} (${(error as { code?: string }).code})`,
      { cause: error },
    );
  }
}

function rethrow<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const { message, constructor } = error as Error;
    throw new (constructor as ErrorConstructor)(`Cannot open SAE ${path}: ${message.replace(/^Cannot [^:]*: /, "")}`, {
      cause: error,
    });
  }
}

/** What `cfg.json` says. Names on disk and names in code meet here and in {@linkcode parseConfig} only. */
function toConfig(sae: Sae): Record<string, unknown> {
  const { rule, provenance } = sae;
  return {
    architecture: architectures[rule.kind],
    d_in: sae.dModel,
    d_sae: sae.dSae,
    ...(rule.kind === "topK" ? { k: rule.k, topk_relu: rule.relu, rescale_acts_by_decoder_norm: false } : {}),
    dtype: "float32",
    device: "cpu",
    apply_b_dec_to_input: sae.subtractBDec,
    normalize_activations: "none",
    reshape_activations: "none",
    metadata: {
      model_name: provenance.model?.name,
      model_sha256: provenance.model?.sha256,
      hook_name: provenance.layer === undefined ? undefined : `blocks.${provenance.layer}.hook_resid_post`,
      hook_layer: provenance.layer,
      tokens: provenance.tokens,
      training: provenance.training,
    },
  };
}

interface SaeConfig {
  dModel: number;
  dSae: number;
  subtractBDec: boolean;
  /** Thresholds are with the weights. */
  rule: Exclude<ActivationRule, { kind: "jumpRelu" }> | { kind: "jumpRelu" };
  provenance: SaeProvenance;
}

function parseConfig(text: string, path: string): SaeConfig {
  let config: Record<string, unknown>;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`Cannot read ${path}: it must be JSON`, { cause: error });
  }
  if (typeof config !== "object" || config === null) {
    throw new SyntaxError(`Cannot read ${path}: it must be a JSON object, current value is ${config}`);
  }
  const demand = (name: string, allowed: readonly unknown[], value: unknown) => {
    if (!allowed.includes(value)) {
      throw new TypeError(
        `Cannot read ${path}: ${name} must be one of ${allowed.join(", ")}, current value is ${value}`,
      );
    }
  };
  const integer = (name: string): number => {
    const value = config[name];
    if (!Number.isSafeInteger(value) || (value as number) < 1) {
      throw new TypeError(`Cannot read ${path}: ${name} must be an integer of 1 or more, current value is ${value}`);
    }
    return value as number;
  };
  demand("architecture", Object.values(architectures), config.architecture);
  // What is not written has SAELens's default.
  demand("normalize_activations", ["none"], config.normalize_activations ?? "none");
  demand("rescale_acts_by_decoder_norm", [false], config.rescale_acts_by_decoder_norm ?? false);
  demand("apply_b_dec_to_input", [true, false], config.apply_b_dec_to_input);
  const rule: SaeConfig["rule"] = config.architecture === "topk"
    ? { kind: "topK", k: integer("k"), relu: config.topk_relu !== false }
    : { kind: config.architecture === "jumprelu" ? "jumpRelu" : "relu" };
  const metadata = (config.metadata ?? {}) as Record<string, unknown>;
  const name = metadata.model_name;
  return {
    dModel: integer("d_in"),
    dSae: integer("d_sae"),
    subtractBDec: config.apply_b_dec_to_input as boolean,
    rule,
    provenance: {
      model: typeof name === "string" ? { name, sha256: metadata.model_sha256 as string | undefined } : undefined,
      layer: metadata.hook_layer as number | undefined,
      tokens: metadata.tokens as SaeProvenance["tokens"],
      training: metadata.training as SaeProvenance["training"],
    },
  };
}
