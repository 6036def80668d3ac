/**
 * Heat maps of the latents that are shown, on the images they are shown on: made on demand, never kept for all.
 *
 * @module
 */
import type { Backend, LoadedSae, SparseLatents } from "../compute/contract.ts";
import { checkSaeFits, type Sae } from "../sae/sae.ts";
import type { ShardBatch, Shards } from "../shards/read.ts";
import { checkPerToken } from "./pass.ts";

/** A latent on an image. */
export interface LatentOnImage {
  readonly latent: number;
  readonly imageIndex: number;
}

/**
 * Heat maps by latent and image: the latent on each patch, shape `[nPatches]`, row-major; `undefined` where it was not
 * wanted, or the recording does not hold the image.
 */
export type Heatmaps = (latent: number, imageIndex: number) => Float32Array | undefined;

/** Options of {@linkcode collectHeatmaps}. */
export interface CollectHeatmapsOptions {
  backend: Backend;
  /** A recorded layer. */
  layer: number;
  /** Which latents on which images. */
  wanted: Iterable<LatentOnImage>;
  signal?: AbortSignal;
  /** Called after each batch of images. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Collects the heat maps of some latents on some images in one pass. Only images that are wanted are encoded; memory
 * is one number a patch for each pair wanted.
 *
 * @throws {RangeError} If the SAE does not fit the recording, has no such latent or latents that depend on the batch, or
 * the layer was not recorded.
 */
export async function collectHeatmaps(shards: Shards, sae: Sae, options: CollectHeatmapsOptions): Promise<Heatmaps> {
  const { backend, layer, wanted, signal, onProgress } = options;
  const { metadata } = shards;
  checkSaeFits(sae, metadata.d_model, { what: shards.directory });
  checkPerToken(sae, "collect heat maps of latents");
  const byImage: MapsByImage = new Map();
  for (const { latent, imageIndex } of wanted) {
    if (!Number.isInteger(latent) || latent < 0 || latent >= sae.dSae) {
      throw new RangeError(
        `Cannot collect heat maps: latent must be an integer between 0 and ${sae.dSae - 1}, current value is ${latent}`,
      );
    }
    let latents = byImage.get(imageIndex);
    if (latents === undefined) byImage.set(imageIndex, latents = new Map());
    latents.set(latent, undefined);
  }
  const loaded = await backend.load(sae);
  try {
    const order = await shards.batchesOf(byImage.keys());
    let done = 0;
    for await (const batch of shards.readBatches({ layer, tokens: "patches", order, signal })) {
      await scatter(loaded, batch, byImage);
      onProgress?.(++done, order.length);
    }
  } finally {
    await loaded.dispose();
  }
  return (latent, imageIndex) => byImage.get(imageIndex)?.get(latent);
}

/** Maps by image and latent; made once the image is met. */
type MapsByImage = Map<number, Map<number, Float32Array | undefined>>;

async function scatter(loaded: LoadedSae, batch: ShardBatch, byImage: MapsByImage): Promise<void> {
  const { imageIndices, tokensPerImage, activations } = batch;
  const length = tokensPerImage * loaded.dModel;
  const positions = Array.from(imageIndices.keys()).filter((i) => byImage.has(imageIndices[i]));
  const x = new Float32Array(positions.length * length);
  positions.forEach((position, i) =>
    x.set(activations.subarray(position * length, (position + 1) * length), i * length)
  );
  const { offsets, indices, values }: SparseLatents = await loaded.encode(x);
  positions.forEach((position, i) => {
    const maps = byImage.get(imageIndices[position])!;
    for (const latent of maps.keys()) maps.set(latent, new Float32Array(tokensPerImage));
    for (let patch = 0; patch < tokensPerImage; patch++) {
      const row = i * tokensPerImage + patch;
      for (let entry = offsets[row]; entry < offsets[row + 1]; entry++) {
        const map = maps.get(indices[entry]);
        if (map !== undefined) map[patch] = values[entry];
      }
    }
  });
}
