import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ActivationRule, InputNormalization } from "../../lib/compute/contract.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { findSidecar } from "../../lib/sae/normalization_file.ts";
import { createSae, type Sae, type SaeProvenance } from "../../lib/sae/sae.ts";
import { saveSae } from "../../lib/sae/save.ts";
import type { HookPoint } from "../../lib/vit/hooks.ts";
import { randomWeights } from "../support/reference.ts";

const [dModel, dSae] = [5, 7];
const topK: ActivationRule = { kind: "topK", k: 4, relu: true };

const randomSae = (
  options: { rule?: ActivationRule; normalization?: InputNormalization; provenance?: SaeProvenance } = {},
): Sae => {
  const { rule = topK, normalization, provenance } = options;
  return createSae({ ...randomWeights({ dModel, dSae }, { rule }), normalization }, provenance);
};

const affine: InputNormalization = {
  kind: "affine",
  mean: Float32Array.from({ length: dModel }, (_, d) => d / 3),
  scale: Float32Array.from({ length: dModel }, (_, d) => 0.1 + d),
  clamp: [-1e5, 1e5],
};

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-save-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const readConfig = async (folder: string) => JSON.parse(await readFile(join(folder, "cfg.json"), "utf8"));

async function sidecarOf(folder: string) {
  const file = "sae_weights.safetensors";
  const fileBytes = (await readFile(join(folder, file))).length;
  const sibling = (name: string) => readFile(join(folder, name)).catch(() => undefined);
  return await findSidecar(sibling, { file, dModel, fileBytes });
}

Deno.test("saveSae() writes the version without which SAELens 6 drops the metadata", async () => {
  await inFolder(async (folder) => {
    await saveSae(randomSae(), folder);
    const { sae_lens_version, metadata } = await readConfig(folder);
    assert.equal(sae_lens_version, "6.0.0");
    assert.deepEqual(metadata, { sae_lens_training_version: null });
  });
});

Deno.test("saveSae() names hook points as TransformerLens does", async () => {
  const hooks: [HookPoint | undefined, string][] = [
    [undefined, "blocks.3.hook_resid_post"],
    ["residPost", "blocks.3.hook_resid_post"],
    ["residPre", "blocks.3.hook_resid_pre"],
    ["attnOut", "blocks.3.hook_attn_out"],
    ["mlpOut", "blocks.3.hook_mlp_out"],
  ];
  await inFolder(async (folder) => {
    for (const [hook, name] of hooks) {
      await saveSae(randomSae({ provenance: { layer: 3, hook } }), folder);
      const { metadata } = await readConfig(folder);
      assert.deepEqual([metadata.hook_name, metadata.hook_layer], [name, 3]);
    }
  });
});

Deno.test("saveSae() writes the normalizations that SAELens knows by its names, without a sidecar", async () => {
  const cases: [InputNormalization | undefined, string][] = [
    [undefined, "none"],
    [{ kind: "none" }, "none"],
    [{ kind: "layerNorm", epsilon: 1e-5 }, "layer_norm"],
    [{ kind: "constantNorm" }, "constant_norm_rescale"],
  ];
  await inFolder(async (folder) => {
    for (const [normalization, name] of cases) {
      await saveSae(randomSae({ normalization }), folder);
      const { normalize_activations, metadata } = await readConfig(folder);
      assert.deepEqual([normalize_activations, metadata.notes], [name, undefined]);
      assert.equal(await sidecarOf(folder), undefined);
    }
  });
});

Deno.test("saveSae() writes other normalizations to a sidecar, and cfg.json says so", async () => {
  const cases: [InputNormalization, string][] = [
    [affine, "affine"],
    [{ kind: "batch", epsilon: 1e-6 }, "batch"],
    [{ kind: "layerNorm", epsilon: 1e-6 }, "layer_norm"],
  ];
  await inFolder(async (folder) => {
    for (const [normalization, name] of cases) {
      await saveSae(randomSae({ normalization }), folder);
      const { normalize_activations, metadata } = await readConfig(folder);
      assert.equal(normalize_activations, name);
      assert.deepEqual(metadata.notes, [
        "Activations are normalized as normalization.json says; SAELens does not read it",
      ]);
      assert.deepEqual((await sidecarOf(folder))?.normalization, normalization);
    }
  });
});

Deno.test("saveSae() removes the sidecars of an SAE that it writes over", async () => {
  await inFolder(async (folder) => {
    await saveSae(randomSae({ normalization: affine }), folder);
    await writeFile(join(folder, "sae_weights.safetensors.normalization.json"), "{}");
    await saveSae(randomSae(), folder);
    assert.deepEqual((await readdir(folder)).sort(), ["cfg.json", "sae_weights.safetensors"]);
  });
});

Deno.test("saveSae() says where SAELens would compute something else", async () => {
  const cases: [ActivationRule, string, string][] = [
    [
      { kind: "topK", k: 4, relu: false },
      "topk",
      "TopK keeps negative values (topk_relu is false); SAELens does not read that and drops them",
    ],
    [{ kind: "batchTopK", k: 9 }, "batchtopk", "The k largest of the whole batch are kept, negative ones too"],
  ];
  await inFolder(async (folder) => {
    for (const [rule, architecture, note] of cases) {
      await saveSae(randomSae({ rule }), folder);
      const config = await readConfig(folder);
      assert.deepEqual([config.architecture, config.metadata.notes], [architecture, [note]]);
      assert.equal(config.k, (rule as { k: number }).k);
    }
  });
});

Deno.test("loadSae() gives back what saveSae() was given, for every normalization and hook point", async () => {
  const normalizations: InputNormalization[] = [
    affine,
    { kind: "batch", epsilon: 1e-6 },
    { kind: "layerNorm", epsilon: 1e-5 },
    { kind: "layerNorm", epsilon: 1e-6 },
    { kind: "constantNorm" },
  ];
  const rules: ActivationRule[] = [{ kind: "topK", k: 4, relu: false }, { kind: "batchTopK", k: 9 }];
  await inFolder(async (folder) => {
    for (const normalization of normalizations) {
      for (const rule of rules) {
        const provenance: SaeProvenance = { layer: 3, hook: "mlpOut", training: { epochs: 2 } };
        await saveSae(randomSae({ rule, normalization, provenance }), folder);
        const loaded = await loadSae(folder);
        assert.deepEqual([loaded.normalization, loaded.rule], [normalization, rule]);
        const { layer, hook, training } = loaded.provenance;
        assert.deepEqual({ layer, hook, training }, provenance);
      }
    }
  });
});
