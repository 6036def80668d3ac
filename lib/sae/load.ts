/**
 * Opens SAEs: folders of `sae_weights.safetensors` and `cfg.json` as `saveSae()` and SAELens write them, and checkpoints
 * of other projects.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { DictionaryOptions } from "../checkpoints/dictionary.ts";
import { readSafetensors } from "../checkpoints/safetensors.ts";
import type { ActivationRule } from "../compute/contract.ts";
import { loadCheckpoint } from "./checkpoint.ts";
import { architectures, configFileName, weightsFileName } from "./save.ts";
import { createSae, type Sae, type SaeProvenance } from "./sae.ts";

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
