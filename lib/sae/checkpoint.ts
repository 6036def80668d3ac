/**
 * Reads SAEs that were published: finds out which project's format a checkpoint is, reads it as its authors trained it,
 * and lets sidecars and options overrule what was decided. Nothing in a file is ever executed.
 *
 * @module
 */
import { isClipScope, readClipScope } from "../checkpoints/clip_scope.ts";
import { CheckpointConfig, parseConfig } from "../checkpoints/config.ts";
import {
  type Checkpoint,
  type CheckpointDictionary,
  type CheckpointFormatName,
  checkpointFormats,
  type Decision,
  type DictionaryOptions,
} from "../checkpoints/dictionary.ts";
import { isDictionaryLearning, readDictionaryLearning } from "../checkpoints/dictionary_learning.ts";
import { isHugoFry, readHugoFry } from "../checkpoints/hugofry.ts";
import { isMsae, readMsae } from "../checkpoints/msae.ts";
import { isOpenAi, isSdxlUnbox, readOpenAi, readSdxlUnbox } from "../checkpoints/openai.ts";
import { isOvercomplete, readOvercomplete } from "../checkpoints/overcomplete.ts";
import { isSaeLens, readSaeLens } from "../checkpoints/sae_lens.ts";
import { isSaev, readSaev } from "../checkpoints/saev.ts";
import type { CheckpointSource } from "../checkpoints/source.ts";
import { isSparsify, readSparsify } from "../checkpoints/sparsify.ts";
import { readTensorFile, type TensorFile } from "../tensors/tensor_file.ts";
import { isVitPrisma, readVitPrisma } from "../checkpoints/vit_prisma.ts";
import type { ActivationRule, InputNormalization } from "../compute/contract.ts";
import { findSidecar } from "./normalization_file.ts";
import { createSae, describeNormalization, describeRule, type Sae } from "./sae.ts";

interface CheckpointFormat {
  is(checkpoint: Checkpoint): boolean | Promise<boolean>;
  read(checkpoint: Checkpoint, options: DictionaryOptions): Promise<CheckpointDictionary>;
}

/** In the order in which they are tried. */
const formats: Readonly<Record<CheckpointFormatName, CheckpointFormat>> = {
  "saev": { is: isSaev, read: readSaev },
  "clip-scope": { is: isClipScope, read: readClipScope },
  "sae-lens": { is: isSaeLens, read: readSaeLens },
  "dictionary-learning": { is: isDictionaryLearning, read: readDictionaryLearning },
  "vit-prisma": { is: isVitPrisma, read: readVitPrisma },
  "sparsify": { is: isSparsify, read: readSparsify },
  "sdxl-unbox": { is: isSdxlUnbox, read: readSdxlUnbox },
  "openai": { is: isOpenAi, read: readOpenAi },
  "msae": { is: isMsae, read: readMsae },
  "overcomplete": { is: isOvercomplete, read: readOvercomplete },
  "hugofry": { is: isHugoFry, read: readHugoFry },
};

// Enough names to recognize a layout by.
const SHOWN_NAMES = 8;

/**
 * Reads a checkpoint. Its bytes are closed when this is done.
 *
 * @throws {TypeError} If the file's layout is none that is known.
 */
export async function readCheckpoint(source: CheckpointSource, options: DictionaryOptions): Promise<Sae> {
  const file = await readTensorFile(source.bytes);
  try {
    const checkpoint = openCheckpoint(source, { file, options });
    const { read } = formats[options.format ?? await findFormat(checkpoint)];
    const dictionary = await read(checkpoint, options);
    return finish(await followSidecar(dictionary, { source, checkpoint, options }), options);
  } finally {
    await file.close();
  }
}

function openCheckpoint(
  source: CheckpointSource,
  { file, options }: { file: TensorFile; options: DictionaryOptions },
): Checkpoint {
  const { location, sibling } = source;
  // Projects that write safetensors call it the one, those that write torch files the other.
  const names = file.format === "safetensors" ? ["cfg.json", "config.json"] : ["config.json", "cfg.json"];
  let config: Promise<CheckpointConfig | undefined> | undefined;
  const find = async () => {
    if (options.config !== undefined) return new CheckpointConfig(options.config, "config");
    for (const name of names) {
      const bytes = await sibling(name);
      if (bytes !== undefined) return parseConfig(bytes, name);
    }
    return undefined;
  };
  return { file, location, sibling, config: () => config ??= find() };
}

async function findFormat(checkpoint: Checkpoint): Promise<CheckpointFormatName> {
  for (const name of Object.keys(formats) as CheckpointFormatName[]) {
    if (await formats[name].is(checkpoint)) return name;
  }
  const names = [...checkpoint.file.entries.keys()];
  throw new TypeError(
    `Cannot read SAE: its layout must be one of ${checkpointFormats.join(", ")}, tensors are ${
      names.slice(0, SHOWN_NAMES).join(", ")
    }${names.length > SHOWN_NAMES ? ", …" : ""}; if it is one whose configuration is missing, give format or config`,
  );
}

async function followSidecar(
  dictionary: CheckpointDictionary,
  { source, checkpoint, options }: {
    source: CheckpointSource;
    checkpoint: Checkpoint;
    options: DictionaryOptions;
  },
): Promise<CheckpointDictionary> {
  const { file, bytes, sibling } = source;
  const isOurs = dictionary.format === undefined;
  const sidecar = await findSidecar(sibling, { file, dModel: dictionary.weights.dModel, fileBytes: bytes.size });
  if (sidecar === undefined) {
    const named = isOurs && options.normalization === undefined &&
      (await checkpoint.config())?.get("normalize_activations");
    if (named === "affine" || named === "batch") {
      throw new Error(`Cannot read SAE: it must hold normalization.json, as its normalization is ${named}`);
    }
    return dictionary;
  }
  const { normalization, subtractBDec, rule, note } = sidecar;
  const followed = overrule(
    dictionary,
    { normalization, subtractBDec, rule },
    `its sidecar says so${note && ` (${note})`}`,
  );
  // What `saveSae()` wrote is no decision: only notes tell where a normalization came from.
  return isOurs && note === "" ? { ...followed, decisions: dictionary.decisions } : followed;
}

function finish(read: CheckpointDictionary, options: DictionaryOptions): Sae {
  const { subtractBDec, normalization, k } = options;
  const trained = read.weights.rule;
  if (k !== undefined && options.rule === undefined && trained.kind !== "topK" && trained.kind !== "batchTopK") {
    throw new RangeError(`Cannot read SAE: k must not be given for ${describeRule(trained)}, current value is ${k}`);
  }
  const rule = options.rule ?? (k === undefined ? undefined : { ...trained, k } as ActivationRule);
  const { weights, format, decisions, origin, training } = overrule(
    read,
    { subtractBDec, normalization, rule },
    "the options say so",
  );
  return createSae(weights, {
    ...origin,
    ...(format !== undefined && { format }),
    ...(decisions.length > 0 && { decisions: decisions.map(({ sentence }) => sentence) }),
    ...(training !== undefined && { training }),
  });
}

interface Conventions {
  readonly subtractBDec?: boolean;
  readonly normalization?: InputNormalization;
  readonly rule?: ActivationRule;
}

/** The dictionary with other conventions, which are told in place of what its reader decided. */
function overrule(dictionary: CheckpointDictionary, conventions: Conventions, why: string): CheckpointDictionary {
  const { subtractBDec, normalization, rule } = conventions;
  const said: Decision[] = [];
  if (subtractBDec !== undefined) {
    said.push({ about: "bias", sentence: `b_dec is ${subtractBDec ? "" : "not "}subtracted from the input: ${why}` });
  }
  if (normalization !== undefined) {
    said.push({ about: "normalization", sentence: `Input is taken ${describeNormalization(normalization)}: ${why}` });
  }
  if (rule !== undefined) said.push({ about: "rule", sentence: `${describeRule(rule)}: ${why}` });
  const kept = dictionary.decisions.filter(({ about }) => !said.some((decision) => decision.about === about));
  const changes = Object.entries(conventions).filter(([, value]) => value !== undefined);
  return {
    ...dictionary,
    weights: { ...dictionary.weights, ...Object.fromEntries(changes) },
    decisions: [...kept, ...said],
  };
}
