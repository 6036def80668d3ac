/**
 * Recording beside the bare model run on ready pixels: what decoding, preprocessing and batching cost.
 *
 * @module
 */
import { embeddedPaths } from "../lib/embedded.ts";
import { openImages } from "../lib/images/open.ts";
import { recordActivations } from "../lib/vit/record.ts";
import { openVit } from "../lib/vit/vit.ts";

const nImages = 256;
const batchSize = 32;
const paths = embeddedPaths();
const vit = await openVit(paths.vit);
const images = await openImages(paths.images);
const imageIndices = Array.from({ length: nImages }, (_, i) => 3 * i);
const layers = [paths.layer];
const opened = await vit.openLayers(layers);
const pixels = new Float32Array(batchSize * 3 * vit.heightPx * vit.widthPx);
const group = `${nImages} emoji, blocks 0 to ${paths.layer} of the embedded ViT`;

Deno.bench({
  name: "bare model run",
  group,
  baseline: true,
  fn: async () => {
    for (let i = 0; i < nImages; i += batchSize) await opened.run(pixels);
  },
});

Deno.bench({
  name: "recordActivations()",
  group,
  fn: async () => {
    for await (const batch of recordActivations(vit, images, { layers, imageIndices, batchSize })) void batch;
  },
});
