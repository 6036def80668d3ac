/**
 * Reads checkpoints of saev (https://github.com/OSU-NLP-Group/saev): one line of JSON, then a torch zip archive. Every
 * generation of the line is read. What changed between them without a word in the file is decided here:
 *
 * - until 31 July 2025 the encoder subtracted `b_dec` from its input, since then it does not;
 * - until 17 July 2025 activations were centered and scaled, by numbers that the file lacks;
 * - TopK keeps the largest pre-activations as they are, negative ones too;
 * - BatchTopK at inference is a threshold, which files have since November 2025. Before, it was a TopK of each token
 *   (from September 2025) or of the whole batch, which only the commit tells.
 *
 * @module
 */
import type { ActivationRule } from "../compute/contract.ts";
import type { Checkpoint, CheckpointDictionary, Decision } from "./dictionary.ts";
import { readShaped, readWeights } from "./raw_weights.ts";
import type { TensorFile } from "../tensors/tensor_file.ts";

/** Newest generation of the JSON line that is known. */
const newestSchema = 5;

// Commits on both sides of the change to the encoder wrote schema 1.
const subtractingCommits = new Set(["5951e84", "d991de3"]);
const plainCommits = new Set(["f5d892c"]);

// Commits whose BatchTopK keeps the k largest of the whole batch.
const batchWideCommits = new Set(["d991de3", "f5d892c", "8d38c23"]);

// Commits of schema 1 that take activations as they are.
const unscaledCommits = new Set(["d991de3", "f5d892c"]);

interface SaevHeader {
  readonly schema: number;
  readonly commit: string | undefined;
  readonly config: Readonly<Record<string, unknown>>;
}

/** Whether a checkpoint is one of saev. */
export function isSaev({ file }: Checkpoint): boolean {
  return file.headerLine?.startsWith("{") === true && file.entries.has("W_enc") && file.entries.has("W_dec");
}

/**
 * Reads a saev checkpoint.
 *
 * @throws {SyntaxError} If its JSON line is damaged.
 * @throws {RangeError} If it is of a newer generation, or its tensors do not fit each other.
 * @throws {TypeError} If its activation is not known.
 */
export async function readSaev({ file }: Checkpoint): Promise<CheckpointDictionary> {
  const header = parseHeader(file.headerLine ?? "");
  const weights = await readWeights(file, { wEnc: "W_enc", bEnc: "b_enc", wDec: "W_dec", bDec: "b_dec" });
  const decisions: Decision[] = [];
  const subtractBDec = decideInput(header, decisions);
  decideNormalization(header, decisions);
  const rule = await decideRule(file, header, weights.dSae, decisions);
  return {
    weights: { ...weights, subtractBDec, rule },
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
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new SyntaxError("Cannot read saev checkpoint: its first line must be a JSON object");
  }
  const schema = json.schema ?? 0;
  if (typeof schema !== "number" || !Number.isInteger(schema) || schema < 0 || schema > newestSchema) {
    throw new RangeError(
      `Cannot read saev checkpoint: schema must be none or an integer of at most ${newestSchema}, current value is ${schema}`,
    );
  }
  const config = asRecord(schema === 0 ? json : json.cfg);
  const commit = typeof json.commit === "string" ? json.commit : undefined;
  // Schema 1 names the activation beside the configuration.
  return { schema, commit, config: schema === 1 && json.cls !== undefined ? { cls: json.cls, ...config } : config };
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

function decideInput({ schema, commit = "" }: SaevHeader, decisions: Decision[]): boolean {
  const short = commit.slice(0, 7);
  const subtracts = schema === 0 || (schema === 1 && !plainCommits.has(short));
  const why = schema >= 2
    ? "schema 2 and later were trained so"
    : schema === 0
    ? "files without a schema were trained so"
    : plainCommits.has(short) || subtractingCommits.has(short)
    ? `commit ${short} trained so`
    : "most files of schema 1 were trained so, the last of July 2025 were not";
  decisions.push({ about: "bias", sentence: `b_dec is ${subtracts ? "" : "not "}subtracted from the input: ${why}` });
  return subtracts;
}

function decideNormalization({ schema, commit = "" }: SaevHeader, decisions: Decision[]): void {
  const short = commit.slice(0, 7);
  if (schema > 1 || unscaledCommits.has(short)) return;
  const isKnown = schema === 0 || subtractingCommits.has(short);
  decisions.push({
    about: "normalization",
    sentence: "Activations are taken as they are, but " +
      (isKnown ? "it was trained" : "files of schema 1 from before 17 July 2025 were trained") +
      " on (x − mean) / scalar, which the file lacks: give normalization, or put normalization.json beside it",
  });
}

async function decideRule(
  file: TensorFile,
  { schema, config, commit = "" }: SaevHeader,
  dSae: number,
  decisions: Decision[],
): Promise<ActivationRule> {
  const { name, params } = activationOf(schema, config);
  const decide = (sentence: string, rule: ActivationRule): ActivationRule => {
    decisions.push({ about: "rule", sentence });
    return rule;
  };
  if (name === "Relu") return { kind: "relu" };
  const given = params.top_k ?? config.top_k ?? 32;
  if (typeof given !== "number") {
    throw new TypeError(`Cannot read saev checkpoint: top_k must be a number, current value is ${given}`);
  }
  const k = Math.min(given, dSae);
  if (name === "TopK") {
    return decide(`TopK with k = ${k} keeps negative values, as saev does`, { kind: "topK", k, relu: false });
  }
  if (name !== "BatchTopK") {
    throw new TypeError(
      `Cannot read saev checkpoint: activation must be one of Relu, TopK, BatchTopK, current value is ${name}`,
    );
  }
  if (file.entries.has("activation.threshold")) {
    const [threshold] = await readShaped(file, "activation.threshold", []);
    return decide(
      `BatchTopK is a threshold at inference, ${threshold}`,
      threshold > 0 ? { kind: "jumpRelu", threshold: new Float32Array(dSae).fill(threshold) } : { kind: "relu" },
    );
  }
  const short = commit.slice(0, 7);
  if (batchWideCommits.has(short)) {
    return decide(`BatchTopK keeps the ${k} largest of the whole batch: commit ${short} did`, { kind: "batchTopK", k });
  }
  return decide(
    `BatchTopK without a threshold is taken as a TopK of each token, k = ${k}; set a rule of kind batchTopK if the ` +
      `batch shared k, as in July and August 2025`,
    { kind: "topK", k, relu: false },
  );
}

function activationOf(
  schema: number,
  config: Readonly<Record<string, unknown>>,
): { name: unknown; params: Record<string, unknown> } {
  if (schema === 0) return { name: "Relu", params: {} };
  if (schema === 1 && config.cls !== "SparseAutoencoderConfig") return { name: config.cls, params: {} };
  const activation = asRecord(config.activation);
  return { name: activation.cls, params: asRecord(activation.params) };
}
