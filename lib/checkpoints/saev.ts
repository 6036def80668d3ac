/**
 * Reads checkpoints of saev (https://github.com/OSU-NLP-Group/saev): one line of JSON, then a torch zip archive. Every
 * generation of the line is read. What changed between them without a word in the file is decided here:
 *
 * - until 31 July 2025 the encoder subtracted `b_dec` from its input, since then it does not;
 * - TopK keeps the largest pre-activations as they are, negative ones too;
 * - BatchTopK at inference is a threshold, which files have since November 2025. Before, it was a TopK of each token
 *   (from September 2025) or of the whole batch, which depends on the batch and cannot be told from the file.
 *
 * @module
 */
import type { ActivationRule } from "../compute/contract.ts";
import { type CheckpointDictionary, type DictionaryOptions, readShaped } from "./dictionary.ts";
import type { TensorFile } from "./tensor_file.ts";

/** Newest generation of the JSON line that is known. */
const newestSchema = 5;

// Commits on both sides of the change to the encoder wrote schema 1.
const subtractingCommits = new Set(["5951e84", "d991de3"]);
const plainCommits = new Set(["f5d892c"]);

interface SaevHeader {
  readonly schema: number;
  readonly commit: string | undefined;
  readonly config: Readonly<Record<string, unknown>>;
}

/** Whether a file is a saev checkpoint. */
export function isSaev(file: TensorFile): boolean {
  return file.headerLine?.startsWith("{") === true && file.entries.has("W_enc") && file.entries.has("W_dec");
}

/**
 * Reads a saev checkpoint.
 *
 * @throws {SyntaxError} If its JSON line is damaged.
 * @throws {RangeError} If it is of a newer generation, or its tensors do not fit each other.
 * @throws {TypeError} If its activation is not known.
 */
export async function readSaev(file: TensorFile, options: DictionaryOptions = {}): Promise<CheckpointDictionary> {
  const header = parseHeader(file.headerLine ?? "");
  const { data: wEnc, shape: [dModel, dSae] } = await readShaped(file, "W_enc", [undefined, undefined]);
  const { data: bEnc } = await readShaped(file, "b_enc", [dSae]);
  const { data: wDec } = await readShaped(file, "W_dec", [dSae, dModel]);
  const { data: bDec } = await readShaped(file, "b_dec", [dModel]);
  const decisions: string[] = [];
  const subtractBDec = options.subtractBDec ?? decideInput(header, decisions);
  const rule = options.rule ?? await decideRule(file, header, dSae, options, decisions);
  return {
    weights: { dModel, dSae, wEnc, bEnc, wDec, bDec, subtractBDec, rule },
    format: header.schema === 0 ? "saev, before schemas" : `saev, schema ${header.schema}`,
    decisions,
    training: header.config,
  };
}

function parseHeader(line: string): SaevHeader {
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(line);
  } catch (error) {
    throw new SyntaxError("Cannot read saev checkpoint: its first line must be JSON", { cause: error });
  }
  const schema = json.schema ?? 0;
  if (typeof schema !== "number" || !Number.isInteger(schema) || schema < 0 || schema > newestSchema) {
    throw new RangeError(
      `Cannot read saev checkpoint: schema must be none or an integer of at most ${newestSchema}, current value is ${schema}`,
    );
  }
  const config = (schema === 0 ? json : json.cfg ?? {}) as Record<string, unknown>;
  const commit = typeof json.commit === "string" ? json.commit : undefined;
  // Schema 1 names the activation beside the configuration.
  return { schema, commit, config: schema === 1 && json.cls !== undefined ? { cls: json.cls, ...config } : config };
}

function decideInput({ schema, commit = "" }: SaevHeader, decisions: string[]): boolean {
  if (schema >= 2) {
    decisions.push("b_dec is not subtracted from the input: schema 2 and later were trained so");
    return false;
  }
  if (schema === 1 && plainCommits.has(commit.slice(0, 7))) {
    decisions.push(`b_dec is not subtracted from the input: commit ${commit.slice(0, 7)} trained so`);
    return false;
  }
  const why = schema === 0
    ? "files without a schema were trained so"
    : subtractingCommits.has(commit.slice(0, 7))
    ? `commit ${commit.slice(0, 7)} trained so`
    : "most files of schema 1 were trained so, the last of July 2025 were not";
  decisions.push(`b_dec is subtracted from the input: ${why}`);
  return true;
}

async function decideRule(
  file: TensorFile,
  { schema, config }: SaevHeader,
  dSae: number,
  options: DictionaryOptions,
  decisions: string[],
): Promise<ActivationRule> {
  const { name, params } = activationOf(schema, config);
  if (name === "Relu") return { kind: "relu" };
  const k = options.k ?? params.top_k ?? config.top_k ?? 32;
  if (typeof k !== "number") {
    throw new TypeError(`Cannot read saev checkpoint: top_k must be a number, current value is ${k}`);
  }
  const topK: ActivationRule = { kind: "topK", k: Math.min(k, dSae), relu: false };
  if (name === "TopK") {
    decisions.push(`TopK with k = ${topK.k} keeps negative values, as saev does`);
    return topK;
  }
  if (name !== "BatchTopK") {
    throw new TypeError(
      `Cannot read saev checkpoint: activation must be one of Relu, TopK, BatchTopK, current value is ${name}`,
    );
  }
  if (!file.entries.has("activation.threshold")) {
    decisions.push(
      `BatchTopK without a threshold is taken as a TopK of each token, k = ${topK.k}; set a rule if the batch shared k`,
    );
    return topK;
  }
  const { data: [threshold] } = await readShaped(file, "activation.threshold", []);
  decisions.push(`BatchTopK is a threshold at inference, ${threshold}`);
  return threshold > 0 ? { kind: "jumpRelu", threshold: new Float32Array(dSae).fill(threshold) } : { kind: "relu" };
}

function activationOf(
  schema: number,
  config: Readonly<Record<string, unknown>>,
): { name: unknown; params: Record<string, unknown> } {
  if (schema === 0) return { name: "Relu", params: {} };
  if (schema === 1 && config.cls !== "SparseAutoencoderConfig") return { name: config.cls, params: {} };
  const activation = config.activation as { cls?: unknown; params?: Record<string, unknown> } | undefined;
  return { name: activation?.cls, params: activation?.params ?? {} };
}
