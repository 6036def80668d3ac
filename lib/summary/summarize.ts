/**
 * The pass over a recording that summarizes all latents of an SAE, and the merge of such summaries.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Backend } from "../compute/contract.ts";
import { checkSaeFits, type Sae } from "../sae/sae.ts";
import type { RecordingInfo } from "../shards/format.ts";
import { type Shards, type TokenKind, tokenRange } from "../shards/read.ts";
import { SummaryAccumulator, type SummarySource } from "./accumulate.ts";
import type { StoredSummary } from "./file.ts";
import { summarizeBatches } from "./pass.ts";

/** Options of {@linkcode summarize}. */
export interface SummarizeOptions {
  backend: Backend;
  /** A recorded layer; negative numbers count from the last recorded one. */
  layer: number;
  /**
   * Which tokens to count.
   *
   * @default {"patches"}
   */
  tokens?: TokenKind;
  /**
   * How many top images each latent keeps.
   *
   * @default {16}
   */
  imagesPerLatent?: number;
  /**
   * Where the SAE was opened from, to be written into the summary.
   *
   * @default {""}
   */
  saePath?: string;
  /** Stops between batches. */
  signal?: AbortSignal;
  /** Called after each batch with the number of images done. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Summarizes the latents of a recording in one pass, with memory that does not grow with the number of images.
 *
 * @throws {RangeError} If the SAE does not fit the recording, its latents depend on the batch, or the layer was not
 * recorded.
 */
export async function summarize(shards: Shards, sae: Sae, options: SummarizeOptions): Promise<StoredSummary> {
  const { backend, tokens = "patches", imagesPerLatent = 16, saePath = "", signal, onProgress } = options;
  const { metadata } = shards;
  const layer = shards.resolveLayer(options.layer);
  const { first } = tokenRange(metadata, tokens);
  checkSaeFits(sae, metadata.d_model, { what: shards.directory });
  const accumulated = await summarizeBatches(shards.readBatches({ layer, tokens, reuse: true, signal }), sae, {
    backend,
    imagesPerLatent,
    firstPatch: first - metadata.n_special_tokens,
    onBatch: (done) => onProgress?.(done, metadata.n_images),
  });
  const source = describeSource(metadata, { layer, tokens, sae, saePath });
  return { accumulated, source };
}

/** What a summary was made from, given what the recording holds or would hold. */
export function describeSource(
  { model, dataset: { kind, location, fingerprint }, grid_height, grid_width }: RecordingInfo,
  { layer, tokens, sae, saePath }: { layer: number; tokens: TokenKind; sae: Sae; saePath: string },
): SummarySource {
  return {
    model,
    layer,
    tokens,
    sae: { path: saePath, sha256: fingerprintSae(sae) },
    dataset: { kind, location, fingerprint },
    gridHeight: grid_height,
    gridWidth: grid_width,
  };
}

/** Hex SHA-256 over an SAE's weights and conventions: its thresholds and its normalization count, too. */
export function fingerprintSae(sae: Sae): string {
  // Thresholds are as long as the dictionary: they count by their bytes, as the weights do.
  const { normalization = { kind: "none" } } = sae;
  const thresholds = sae.rule.kind === "jumpRelu" ? [sae.rule.threshold] : [];
  const settings = JSON.stringify(
    [sae.rule, sae.subtractBDec, ...(normalization.kind === "none" ? [] : [normalization])],
    (name, value) => name === "threshold" ? undefined : ArrayBuffer.isView(value) ? [...value as Float32Array] : value,
  );
  const hash = createHash("sha256").update(settings);
  for (const { buffer, byteOffset, byteLength } of [sae.wEnc, sae.bEnc, sae.wDec, sae.bDec, ...thresholds]) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}

/**
 * Merges summaries of different images. The order does not matter: the result is the same to the last bit.
 *
 * @throws {Error} If they were made from different models, layers, SAEs or data sets.
 */
export function mergeSummaries(summaries: readonly StoredSummary[]): StoredSummary {
  const [first, ...rest] = summaries;
  if (first === undefined) throw new RangeError("Cannot merge summaries: there must be at least one, there is none");
  const { accumulated: { dSae, imagesPerLatent }, source } = first;
  const merged = new SummaryAccumulator(dSae, { imagesPerLatent });
  merged.merge(first.accumulated);
  const identity = (of: SummarySource) => ({
    model: of.model.sha256,
    layer: of.layer,
    tokens: of.tokens,
    sae: of.sae.sha256,
    dataset: of.dataset.fingerprint,
  });
  for (const other of rest) {
    for (const [name, value] of Object.entries(identity(source))) {
      const current = identity(other.source)[name as keyof ReturnType<typeof identity>];
      if (current !== value) {
        throw new Error(`Cannot merge summaries: ${name} must be ${value}, current value is ${current}`);
      }
    }
    merged.merge(other.accumulated);
  }
  return { accumulated: merged, source };
}
