/**
 * Trains the embedded SAEs: `deno task train-embedded`, or with some layers only, `deno task train-embedded 3 5`. Records
 * the embedded ViT over the training split of the embedded emoji, trains one SAE a layer on patches and CLS together, all
 * after one recipe, and measures each on emoji that neither the ViT nor the SAE has seen. Prints the tables of
 * `data/README.md`. The same bits come out every time, with any number of threads.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import {
  type Backend,
  loadSae,
  measureMetrics,
  openBackend,
  openImages,
  openShards,
  openVit,
  presets,
  progressCallback,
  saveSae,
  selectImages,
  type Shards,
  type TrainRecipe,
  trainSae,
  writeShards,
} from "../mod.ts";

const recipe: TrainRecipe = {
  ...presets["top-k"],
  // A latent of lower density might not fire once on the 74,750 tokens of the test split.
  biasRise: { afterTokens: 8192, learningRates: 10 },
  optimizer: { kind: "adam", learningRate: 5e-4 },
  length: { epochs: 1 },
};
const dSae = 1536;

// One token of 65 is CLS, and it varies far less than patches do: seen once, it would be left to latents of patches.
const clsRepeats = 32;

const data = dirname(fileURLToPath(import.meta.url));
const layers = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [0, 1, 2, 3, 4, 5];
const measured = ["| layer | tokens | explained variance | normalized MSE | L0 | never active |", rule(6)];
const files = ["| file | bytes | SHA-256 |", rule(3)];
const scratch = await mkdtemp(join(tmpdir(), "sparsight-train-"));
try {
  const vit = await openVit(join(data, "tiny_clip", "vision_model.onnx"));
  const images = await openImages(join(data, "emoji.arrow"));
  for (const split of ["train", "test"]) {
    await writeShards(vit, images, {
      directory: join(scratch, split),
      layers,
      imageIndices: selectImages(images, (info) => info.tags.split === split),
      onProgress: progressCallback(`record ${split}`),
    });
  }
  const [shards, heldOut] = [await openShards(join(scratch, "train")), await openShards(join(scratch, "test"))];
  const backend = await openBackend({ backend: "cpu" });
  for (const layer of layers) {
    const name = `sae_layer_${layer}`;
    const target = join(data, name);
    await train(shards, { layer, target });
    measured.push(...await measure(heldOut, { layer, target, backend }));
    for (const file of ["sae_weights.safetensors", "cfg.json"]) {
      const bytes = await readFile(join(target, file));
      const hash = createHash("sha256").update(bytes).digest("hex");
      files.push(row([`\`${name}/${file}\``, bytes.length.toLocaleString("en-US"), `\`${hash}\``]));
    }
  }
  await backend.close();
  await shards.close();
  await heldOut.close();
  console.log(`\n${measured.join("\n")}\n\n${files.join("\n")}`);
} finally {
  await rm(scratch, { recursive: true, force: true });
}

async function train(shards: Shards, { layer, target }: { layer: number; target: string }): Promise<void> {
  const report = progressCallback(`train layer ${layer}`);
  const start = performance.now();
  const sae = await trainSae(repeatCls(shards), {
    layer,
    dSae,
    tokens: "all",
    recipe,
    // A GPU takes its sums in another order.
    backend: "cpu",
    onStep: ({ step, nSteps }) => report(step, nSteps),
  });
  console.log(`layer ${layer}: trained for ${((performance.now() - start) / 1000).toFixed(0)} s`);
  const { provenance } = sae;
  const training = { ...provenance.training, cls_repeats: clsRepeats };
  await saveSae({ ...sae, provenance: { ...provenance, training } }, target);
}

/** A recording in which CLS, the first token of each image, comes `clsRepeats` times. */
function repeatCls(shards: Shards): Shards {
  const { metadata } = shards;
  const { d_model: dModel, tokens_per_image: tokensPerImage, n_special_tokens: nSpecial } = metadata;
  const more = clsRepeats - 1;
  const [imageLength, longerLength] = [tokensPerImage * dModel, (tokensPerImage + more) * dModel];
  return {
    ...shards,
    metadata: { ...metadata, tokens_per_image: tokensPerImage + more, n_special_tokens: nSpecial + more },
    async *readBatches(options) {
      for await (const batch of shards.readBatches(options)) {
        const { imageIndices: { length: nImages } } = batch;
        const activations = new Float32Array(nImages * longerLength);
        for (let image = 0; image < nImages; image++) {
          const tokens = batch.activations.subarray(image * imageLength, (image + 1) * imageLength);
          const at = image * longerLength;
          activations.set(tokens, at + more * dModel);
          for (let i = 0; i < more; i++) activations.set(tokens.subarray(0, dModel), at + i * dModel);
        }
        yield { ...batch, tokensPerImage: tokensPerImage + more, activations };
      }
    },
  };
}

/** Rows of the table: the SAE as it was saved, on patches, on CLS, and on both. */
async function measure(
  shards: Shards,
  { layer, target, backend }: { layer: number; target: string; backend: Backend },
): Promise<string[]> {
  const sae = await loadSae(target);
  const rows: string[] = [];
  for (const tokens of ["patches", "cls", "all"] as const) {
    const activations = (async function* () {
      for await (const batch of shards.readBatches({ layer, tokens })) yield batch.activations;
    })();
    const { explainedVariance, normalizedMse, l0, nDead } = await measureMetrics(sae, activations, {
      backend,
      coherenceLatents: 0,
    });
    rows.push(row([layer, tokens, explainedVariance.toFixed(4), normalizedMse.toFixed(4), l0.toFixed(2), nDead]));
  }
  return rows;
}

function row(cells: readonly (string | number)[]): string {
  return `| ${cells.join(" | ")} |`;
}

function rule(nColumns: number): string {
  return row(Array(nColumns).fill("---"));
}
