/**
 * Normalization sidecars: a small JSON file beside a checkpoint that says what the checkpoint leaves out, how its
 * activations were normalized, whether `b_dec` is subtracted, and which rule follows. `sae.pt` has
 * `sae.pt.normalization.json`, or one `normalization.json` for its folder. `sparsight doctor --write-sidecar` writes
 * them, `loadSae()` follows them.
 *
 * @module
 */
import { type ActivationRule, checkNormalization, type InputNormalization } from "../compute/contract.ts";

/** Rules that a sidecar can name: thresholds of a JumpReLU are weights. */
export type SidecarRule = Exclude<ActivationRule, { kind: "jumpRelu" }>;

/** What a sidecar says. */
export interface Sidecar {
  readonly normalization: InputNormalization;
  /**
   * Whether `bDec` is subtracted from the input.
   *
   * @default what the checkpoint's reader decides
   */
  readonly subtractBDec?: boolean;
  /**
   * Activation rule.
   *
   * @default what the checkpoint says
   */
  readonly rule?: SidecarRule;
  /**
   * Where it comes from, for people.
   *
   * @default {""}
   */
  readonly note?: string;
  /**
   * Name of the checkpoint it belongs to.
   *
   * @default any
   */
  readonly file?: string;
  /**
   * Size of that checkpoint in bytes: another one of the same name is refused.
   *
   * @default any
   */
  readonly fileBytes?: number;
}

/** Options of {@linkcode findSidecar}. */
export interface FindSidecarOptions {
  /** Name of the checkpoint. */
  readonly file: string;
  /** Width of its activations. */
  readonly dModel: number;
  /** Its size in bytes. */
  readonly fileBytes: number;
}

const formatName = "sparsight-normalization";
const formatVersion = 1;

/** Ending of a sidecar's name, after the name of its checkpoint. */
export const sidecarSuffix = ".normalization.json";

/** Name of a sidecar that is for a whole folder. */
export const folderSidecarName = "normalization.json";

/** Names on disk. */
const kinds = {
  none: "none",
  affine: "affine",
  layerNorm: "layer_norm",
  constantNorm: "constant_norm",
  batch: "batch",
} as const;
const ruleKinds = { relu: "relu", topK: "top_k", batchTopK: "batch_top_k" } as const;

/**
 * Looks for the sidecar of a checkpoint: `<file>.normalization.json`, then `normalization.json`. One of the folder that
 * names another file is left alone.
 *
 * @param sibling Bytes of a file beside the checkpoint, `undefined` where there is none.
 * @throws {SyntaxError} If it is damaged or of another format.
 * @throws {RangeError} If it is of a newer version, of another width, for a file of another size, or holds numbers that
 *   cannot be divided by.
 */
export async function findSidecar(
  sibling: (name: string) => Promise<Uint8Array | undefined>,
  options: FindSidecarOptions,
): Promise<(Sidecar & { readonly note: string }) | undefined> {
  const file = nameOf(options.file);
  for (const name of [file + sidecarSuffix, folderSidecarName]) {
    const bytes = await sibling(name);
    if (bytes === undefined) continue;
    const sidecar = parseSidecar(bytes, { name, dModel: options.dModel });
    if (name === folderSidecarName && sidecar.file !== undefined && sidecar.file !== file) continue;
    if (sidecar.fileBytes !== undefined && sidecar.fileBytes !== options.fileBytes) {
      throw new RangeError(
        `Cannot read ${name}: it belongs to a file of ${sidecar.fileBytes} bytes, current size of ${file} is ` +
          `${options.fileBytes}; make a new one with the doctor, or remove it`,
      );
    }
    return { ...sidecar, note: sidecar.note ?? "" };
  }
  return undefined;
}

/**
 * Reads a sidecar.
 *
 * @param options Its name, for messages, and the width of the activations.
 * @throws {SyntaxError | RangeError} As {@linkcode findSidecar} does.
 */
export function parseSidecar(bytes: Uint8Array, options: { name: string; dModel: number }): Sidecar {
  const { name, dModel } = options;
  const json = parseObject(new TextDecoder().decode(bytes), name);
  expect(name, json.format === formatName, "format", `"${formatName}"`, json.format);
  if (json.version !== formatVersion) {
    throw new RangeError(`Cannot read ${name}: version must be ${formatVersion}, current value is ${json.version}`);
  }
  const { subtract_b_dec: subtractBDec, note, file, file_bytes: fileBytes } = json;
  expect(name, isOptional(subtractBDec, "boolean"), "subtract_b_dec", "true or false", subtractBDec);
  expect(name, isOptional(note, "string"), "note", "text", note);
  expect(name, isOptional(file, "string"), "file", "text", file);
  expect(name, fileBytes === undefined || Number.isSafeInteger(fileBytes), "file_bytes", "an integer", fileBytes);
  const normalization = fromJson(json.normalization, name);
  inFile(name, () => checkNormalization(normalization, dModel));
  const fields: Record<string, unknown> = {
    subtractBDec,
    rule: json.rule === undefined ? undefined : ruleFromJson(json.rule, name),
    note,
    file,
    fileBytes,
  };
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return { normalization, ...Object.fromEntries(given) };
}

/**
 * Writes a sidecar in one step. Numbers are written so that each float32 reads back as it is.
 *
 * @throws {RangeError} If it could not be read back.
 * @throws {Error} If it cannot be written.
 */
export async function writeSidecar(path: string, sidecar: Sidecar): Promise<void> {
  const { normalization, subtractBDec, rule, note, file, fileBytes } = sidecar;
  inFile(path, () => checkNormalization(normalization, widthOf(normalization)), "write");
  if (rule !== undefined && !(rule.kind in ruleKinds)) {
    throw new RangeError(
      `Cannot write ${path}: rule must be one of ${Object.keys(ruleKinds).join(", ")}, current value is ` +
        `${(rule as ActivationRule).kind}; thresholds are weights`,
    );
  }
  const json = {
    format: formatName,
    version: formatVersion,
    file: file === undefined ? undefined : nameOf(file),
    file_bytes: fileBytes,
    note,
    subtract_b_dec: subtractBDec,
    rule: rule && { ...rule, kind: ruleKinds[rule.kind] },
    normalization: toJson(normalization),
  };
  // Only here, so that the module can be imported where there are no files.
  const { replaceFile } = await import("../runtime/files.ts");
  await replaceFile(path, JSON.stringify(json, undefined, 1).replace(/,\n\s+(?=-?[\d.])/g, ", ") + "\n");
}

/** The last part of a path. */
function nameOf(path: string): string {
  return path.split(/[\\/]/).at(-1)!;
}

function toJson(normalization: InputNormalization): Record<string, unknown> {
  const kind = kinds[normalization.kind];
  if (normalization.kind !== "affine") return { ...normalization, kind };
  const { mean, scale, clamp } = normalization;
  // JSON has no infinity: an open end of the clamp is null.
  const ends = clamp?.map((end) => Number.isFinite(end) ? end : null);
  return { kind, clamp: ends, mean: Array.from(mean), scale: Array.from(scale) };
}

function fromJson(value: unknown, name: string): InputNormalization {
  const json = (typeof value === "object" ? value : undefined) as Record<string, unknown> | null | undefined;
  expect(name, json !== undefined && json !== null, "normalization", "a JSON object", value);
  const { kind, epsilon, clamp, mean, scale } = json as Record<string, unknown>;
  const known = Object.entries(kinds).find(([, onDisk]) => onDisk === kind)?.[0] as keyof typeof kinds | undefined;
  expect(name, known !== undefined, "kind of the normalization", `one of ${Object.values(kinds).join(", ")}`, kind);
  if (known === "layerNorm" || known === "batch") {
    expect(name, typeof epsilon === "number", "epsilon of the normalization", "a number", epsilon);
    return { kind: known, epsilon: epsilon as number };
  }
  if (known !== "affine") return { kind: known as "none" | "constantNorm" };
  const numbers = (what: string, array: unknown): Float32Array => {
    const isNumeric = Array.isArray(array) && array.every((entry) => typeof entry === "number");
    expect(name, isNumeric, `${what} of the normalization`, "an array of numbers", typeof array);
    return Float32Array.from(array as number[]);
  };
  const affine = { kind: known, mean: numbers("mean", mean), scale: numbers("scale", scale) } as const;
  if (clamp === undefined) return affine;
  const isPair = Array.isArray(clamp) && clamp.length === 2 &&
    clamp.every((end) => end === null || typeof end === "number");
  expect(name, isPair, "clamp of the normalization", "a low and a high end", JSON.stringify(clamp));
  const [low, high] = clamp as [number | null, number | null];
  return { ...affine, clamp: [low ?? -Infinity, high ?? Infinity] };
}

function ruleFromJson(value: unknown, name: string): SidecarRule {
  const { kind, k, relu } = (value ?? {}) as Record<string, unknown>;
  expect(
    name,
    Object.values<unknown>(ruleKinds).includes(kind),
    "kind of the rule",
    "one of relu, top_k, batch_top_k",
    kind,
  );
  if (kind === ruleKinds.relu) return { kind: "relu" };
  expect(name, Number.isSafeInteger(k) && (k as number) >= 1, "k of the rule", "an integer of 1 or more", k);
  if (kind === ruleKinds.batchTopK) return { kind: "batchTopK", k: k as number };
  expect(name, typeof relu === "boolean", "relu of the rule", "true or false", relu);
  return { kind: "topK", k: k as number, relu: relu as boolean };
}

function parseObject(text: string, name: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`Cannot read ${name}: it must be JSON`, { cause: error });
  }
  expect(
    name,
    typeof json === "object" && json !== null && !Array.isArray(json),
    "it",
    "a JSON object",
    text.slice(0, 40),
  );
  return json as Record<string, unknown>;
}

function expect(name: string, holds: boolean, what: string, wanted: string, current: unknown): void {
  if (!holds) throw new SyntaxError(`Cannot read ${name}: ${what} must be ${wanted}, current value is ${current}`);
}

/** The error of a check, with the file's name in place of the SAE's. */
function inFile(name: string, check: () => void, verb: "read" | "write" = "read"): void {
  try {
    check();
  } catch (error) {
    const reason = (error as Error).message.replace(/^Cannot [^:]*: /, "");
    throw new RangeError(`Cannot ${verb} ${name}: ${reason}`, { cause: error });
  }
}

function widthOf(normalization: InputNormalization): number {
  return normalization.kind === "affine" ? normalization.mean.length : 1;
}

function isOptional(value: unknown, type: "boolean" | "string"): boolean {
  return value === undefined || typeof value === type;
}
