/**
 * Decoding, latent by latent: each row of the decoder is fetched once, and added to the tokens that its latent is
 * active on.
 *
 * @module
 */
import type { LatentEntries } from "../entries.ts";
import type { Parameters } from "../parameters.ts";
import { fillRows } from "./rows.ts";
import type { Workspace } from "./workspace.ts";

/** Entries where kernels see them. */
export interface PlacedEntries {
  readonly entries: LatentEntries;
  readonly tokens: number;
  readonly values: number;
  readonly slopes: number;
}

/** Adds `values · wDec` of latents `from` to `to` to the rows of a matrix. */
export function decode(
  workspace: Workspace,
  { entries: { offsets }, tokens, values }: PlacedEntries,
  options: { matrix: number; row: number; wDec: Float32Array; from: number; to: number },
): void {
  const { matrix, row, wDec, from, to } = options;
  const { kernels, dModel, rowBytes } = workspace;
  const rowView = workspace.floats(row, dModel);
  for (let latent = from; latent < to; latent++) {
    const [start, end] = [offsets[latent], offsets[latent + 1]];
    if (end === start) continue;
    rowView.set(wDec.subarray(latent * dModel, (latent + 1) * dModel));
    kernels.scatter(matrix, row, tokens + 4 * start, values + 4 * start, end - start, rowBytes);
  }
}

/** Copies entries to where kernels see them. */
export function place(workspace: Workspace, entries: LatentEntries): PlacedEntries {
  const { length } = entries.pre;
  const [tokens, values, slopes] = [workspace.reserve(length), workspace.reserve(length), workspace.reserve(length)];
  workspace.integers(tokens, length).set(entries.tokens);
  workspace.floats(values, length).set(entries.values);
  return { entries, tokens, values, slopes };
}

/** Reconstruction by the latents of a batch, shape `[nTokens, dModel]`. */
export function reconstruct(
  options: { workspace: Workspace; parameters: Parameters; entries: LatentEntries; nTokens: number },
): Float32Array {
  const { workspace, parameters: { wDec, bDec }, entries, nTokens } = options;
  const { dModel, stride } = workspace;
  workspace.clear();
  const matrix = workspace.reserveRows(nTokens);
  const row = workspace.reserveRows(1);
  const placed = place(workspace, entries);
  const rows = workspace.floats(matrix, nTokens * stride);
  fillRows(rows, bDec, stride);
  decode(workspace, placed, { matrix, row, wDec, from: 0, to: entries.offsets.length - 1 });
  return Float32Array.from({ length: nTokens * dModel }, (_, i) => rows[Math.floor(i / dModel) * stride + i % dModel]);
}
