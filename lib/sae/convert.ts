/**
 * Writes an SAE in the format of another toolkit, and says what had to change on the way. What a format has no word for
 * is folded into the weights where that gives the same function, and refused where it does not.
 *
 * @module
 */
import { rm, stat } from "node:fs/promises";
import { writeClipScope } from "../checkpoints/clip_scope_writer.ts";
import { writeSaev } from "../checkpoints/saev_writer.ts";
import { foldInputBias, foldNormalization } from "./fold.ts";
import { sidecarSuffix, writeSidecar } from "./normalization_file.ts";
import type { Sae } from "./sae.ts";
import { saveSae } from "./save.ts";

/** Formats that can be written: the folder of `saveSae()`, and checkpoints of saev and CLIP-Scope. */
export const convertTargets = ["own", "saev", "clip-scope"] as const;

/** One of the formats that can be written. */
export type ConvertTarget = (typeof convertTargets)[number];

/** Parts of an SAE that can be dropped where a format has no word for them. */
export const droppableParts = ["clamp", "relu"] as const;

/** Options of {@linkcode convertSae}. */
export interface ConvertOptions {
  /** Format to write. */
  to: ConvertTarget;
  /**
   * Fold an affine normalization into the weights.
   *
   * @default {false}
   */
  foldNormalization?: boolean;
  /**
   * Fold the bias that is subtracted from the input into that of the encoder. For saev this is done in any case, as it
   * subtracts none and the function stays the same.
   *
   * @default {false}
   */
  foldInputBias?: boolean;
  /**
   * What may be dropped although latents change: the `clamp` of a normalization that is folded, for activations beyond
   * its bounds; the `relu` after TopK, for tokens with fewer than k positive pre-activations.
   *
   * @default nothing
   */
  drop?: readonly (typeof droppableParts)[number][];
  /**
   * Active latents a token that a BatchTopK of saev names; it is a threshold here.
   *
   * @default what the SAE was trained with, if that is known
   */
  k?: number;
  /**
   * Store the decoder of CLIP-Scope row by row.
   *
   * @default {false}
   */
  contiguousDecoder?: boolean;
  /**
   * Stops the writing; what was there before stays.
   *
   * @default never
   */
  signal?: AbortSignal;
}

/** What was written. */
export interface ConvertedSae {
  readonly sae: Sae;
  /** What changed on the way, or is not in the file, a sentence each. */
  readonly changes: readonly string[];
}

/**
 * Writes an SAE.
 *
 * @param path A folder for the own format, a file for the others.
 * @throws {TypeError} If the format cannot say what the SAE does: the message names what helps.
 * @throws {RangeError} If a number is missing that the format needs.
 * @throws {Error} If it cannot be written.
 */
export async function convertSae(sae: Sae, path: string, options: ConvertOptions): Promise<ConvertedSae> {
  const { to, drop = [], contiguousDecoder, signal } = options;
  if (!convertTargets.includes(to)) {
    throw new RangeError(
      `Cannot convert SAE: to must be one of ${convertTargets.join(", ")}, current value is ${to}`,
    );
  }
  const unknown = drop.find((part) => !droppableParts.includes(part));
  if (unknown !== undefined) {
    throw new RangeError(
      `Cannot convert SAE: drop must be of ${droppableParts.join(", ")}, current value is ${unknown}`,
    );
  }
  signal?.throwIfAborted();
  const changes: string[] = [];
  const written = dropRelu(foldInput(sae, options, changes), options, changes);
  if (to === "own") {
    await saveSae(written, path);
  } else if (to === "saev") {
    await writeSaev(written, path, { k: options.k ?? trainedK(written), signal });
    // That of a file that was here before would be taken for this one's.
    await rm(path + sidecarSuffix, { force: true });
  } else {
    const { normalization = { kind: "none" } } = written;
    await writeClipScope(written, path, { contiguousDecoder, training: clipScopeTraining(written), signal });
    // Nothing in the file tells whether it takes activations as they are, or batches that are standardized.
    const { size } = await stat(path);
    await writeSidecar(path + sidecarSuffix, { normalization, file: path, fileBytes: size });
    changes.push(`The normalization, ${normalization.kind}, is beside the file; CLIP-Scope does not read it`);
  }
  return { sae: written, changes };
}

function foldInput(sae: Sae, options: ConvertOptions, changes: string[]): Sae {
  const { to, drop = [] } = options;
  const { normalization = { kind: "none" } } = sae;
  let folded = sae;
  if (options.foldNormalization && normalization.kind !== "none") {
    folded = foldNormalization(sae, { inputBias: "keep", dropClamp: drop.includes("clamp") });
    changes.push("The normalization is folded into the weights: it takes activations as they are");
    if (normalization.kind === "affine" && normalization.clamp !== undefined) {
      changes.push(`Activations are no longer clamped to ${normalization.clamp.join(" to ")}`);
    }
  }
  if (folded.subtractBDec && (options.foldInputBias || to === "saev")) {
    folded = foldInputBias(folded);
    changes.push("b_dec is folded into b_enc: it is not subtracted from the input any more");
  }
  return folded;
}

function dropRelu(sae: Sae, { drop = [] }: ConvertOptions, changes: string[]): Sae {
  if (!drop.includes("relu") || sae.rule.kind !== "topK" || !sae.rule.relu) return sae;
  changes.push("TopK keeps negative values now: tokens with fewer than k positive pre-activations get other latents");
  return { ...sae, rule: { ...sae.rule, relu: false } };
}

/** `k` as training wrote it down, in saev's words or ours. */
function trainedK({ provenance: { training = {} } }: Sae): number | undefined {
  const activation = training.activation as { params?: { top_k?: unknown } } | undefined;
  return [activation?.params?.top_k, training.top_k, training.k].find((k) => typeof k === "number");
}

function clipScopeTraining({ provenance: { training = {} } }: Sae) {
  const { token_count: tokenCount, n_iter: nIter, log_id: logId } = training;
  return {
    tokenCount: typeof tokenCount === "number" ? tokenCount : undefined,
    nIter: typeof nIter === "number" ? nIter : undefined,
    logId: typeof logId === "string" ? logId : undefined,
  };
}
