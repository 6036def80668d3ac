/**
 * Trains the embedded SAE: `deno task train-embedded`. Records the embedded ViT over the training split of the embedded
 * emoji, trains on the patches after block 3, and measures on emoji that neither the ViT nor the SAE has seen.
 *
 * @module
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  loadSae,
  measureReconstruction,
  openBackend,
  openImages,
  openShards,
  openVit,
  progressCallback,
  saveSae,
  selectImages,
  type Shards,
  trainSae,
  writeShards,
} from "../mod.ts";

const layer = 3;
const data = dirname(fileURLToPath(import.meta.url));
const target = join(data, "sae_layer_3");
const scratch = await mkdtemp(join(tmpdir(), "sparsight-train-"));
try {
  const vit = await openVit(join(data, "tiny_clip", "vision_model.onnx"));
  const images = await openImages(join(data, "emoji.arrow"));
  for (const split of ["train", "test"]) {
    await writeShards(vit, images, {
      directory: join(scratch, split),
      layers: [layer],
      imageIndices: selectImages(images, (info) => info.tags.split === split),
      onProgress: progressCallback(`record ${split}`),
    });
  }
  const shards = await openShards(join(scratch, "train"));
  const report = progressCallback("train");
  let last = 0;
  const sae = await trainSae(shards, {
    layer,
    dSae: 1536,
    k: 16,
    epochs: 3,
    kAux: 32,
    seed: 0,
    onStep({ step, nSteps, normalizedMse, nDead }) {
      report(step, nSteps);
      if (step - last < 100 && step !== nSteps) return;
      last = step;
      console.log(`step ${step}: normalized MSE ${normalizedMse.toFixed(4)}, dead latents ${nDead}`);
    },
  });
  await shards.close();
  await saveSae(sae, target);

  const heldOut = await openShards(join(scratch, "test"));
  const backend = await openBackend({ backend: "cpu" });
  const loaded = await backend.load(await loadSae(target));
  console.log(await measureReconstruction(loaded, activationsOf(heldOut)));
  await loaded.dispose();
  await backend.close();
  await heldOut.close();
} finally {
  await rm(scratch, { recursive: true, force: true });
}

async function* activationsOf(shards: Shards): AsyncIterable<Float32Array> {
  for await (const batch of shards.readBatches({ layer })) yield batch.activations;
}
