import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import type { DictionaryOptions } from "../../lib/checkpoints/dictionary.ts";
import { writeSafetensors } from "../../lib/tensors/safetensors.ts";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import { loadSae } from "../../lib/sae/load.ts";
import type { Sae } from "../../lib/sae/sae.ts";
import { fixturePath, readFixture, relativeError, run } from "./run_sae.ts";

const folder = (name: string) => fixturePath("dictionaries", name);

/** What the files of a case cannot tell. */
const given: Record<string, DictionaryOptions> = {
  overcomplete_topk: { k: 4 },
  overcomplete_batchtopk: { rule: { kind: "jumpRelu", threshold: new Float32Array(24).fill(0.9) } },
};

async function assertNumbers(name: string, sae: Sae): Promise<void> {
  const expected = await openTensorFile(fixturePath("dictionaries", `${name}.npz`));
  const [latents, reconstruction] = await run(sae, await expected.read("x"));
  const errors = [
    relativeError(latents, await expected.read("latents")),
    relativeError(reconstruction, await expected.read("reconstruction")),
  ];
  await expected.close();
  assert.ok(Math.max(...errors) <= 1e-5, `${name}: latents ${errors[0]}, reconstruction ${errors[1]}`);
}

const names = (await readdir(fixturePath("dictionaries"), { withFileTypes: true }))
  .filter((entry) => entry.isDirectory()).map((entry) => entry.name).sort();

for (const name of names) {
  Deno.test(`loadSae() gives the numbers of ${name}`, async () => {
    await assertNumbers(name, await loadSae(folder(name), given[name]));
  });
}

/** The weights of a case, without what is beside them. */
async function weightsOf(name: string): Promise<Uint8Array> {
  const files = (await readdir(folder(name))).filter((file) => /\.(pt|pth|safetensors)$/.test(file));
  const file = files.find((file) => !/^(mean|std|n_images_130003)/.test(file))!;
  return await readFile(fixturePath("dictionaries", name, file));
}

async function configOf(name: string): Promise<Record<string, unknown>> {
  const files = (await readdir(folder(name))).filter((file) => /^(cfg|config)\.json$/.test(file));
  return JSON.parse(await readFile(fixturePath("dictionaries", name, files[0]), "utf8"));
}

Deno.test("loadSae() reads bytes with the configuration that is given", async () => {
  for (const name of ["sae_lens_topk_rescaled", "vit_prisma_topk", "sparsify", "dictionary_learning_BatchTopKSAE"]) {
    await assertNumbers(name, await loadSae(await weightsOf(name), { config: await configOf(name) }));
  }
});

Deno.test("loadSae() tells the classes of dictionary_learning by their tensors", async () => {
  const classes = [
    "AutoEncoder",
    "AutoEncoderNew",
    "AutoEncoderTopK",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "MatryoshkaBatchTopKSAE",
  ];
  for (const className of classes) {
    const sae = await loadSae(await weightsOf(`dictionary_learning_${className}`));
    assert.equal(sae.provenance.format, `dictionary_learning, ${className}`);
    assert.ok(sae.provenance.decisions!.some((decision) => decision.startsWith(`Read as ${className}, by the names`)));
    await assertNumbers(`dictionary_learning_${className}`, sae);
  }
  const ambiguous = await loadSae(await weightsOf("dictionary_learning_BatchTopKSAE"));
  assert.match(
    ambiguous.provenance.decisions!.join("; "),
    /but BatchTopKSAE has the same ones: name the class in config/,
  );
});

Deno.test("loadSae() tells where an SAE belongs", async () => {
  const origin = async (name: string) => {
    const { model, layer, hook, tokens } = (await loadSae(folder(name), given[name])).provenance;
    return [model?.name, layer, hook, tokens];
  };
  assert.deepEqual(await origin("sae_lens_topk"), ["some-vit", 4, "mlpOut", undefined]);
  assert.deepEqual(await origin("sae_lens_old_topk"), ["old-vit", 7, "residPre", undefined]);
  assert.deepEqual(await origin("vit_prisma_relu"), ["open-clip:some/vit", 9, undefined, "patches"]);
  assert.deepEqual(await origin("vit_prisma_topk"), ["open-clip:some/vit", 9, "mlpOut", "cls"]);
  assert.deepEqual(await origin("dictionary_learning_AutoEncoder"), ["some-vit", 8, "mlpOut", undefined]);
});

Deno.test("loadSae() says what it decided, and what options overruled", async () => {
  const topK = await loadSae(folder("openai_topk"));
  assert.deepEqual(topK.normalization, { kind: "layerNorm", epsilon: 1e-5 });
  assert.deepEqual(topK.provenance.decisions, [
    "pre_bias is subtracted from the input and added to the output",
    "Each token is layer-normalized: OpenAI's TopK autoencoders are so",
  ]);
  const other = await loadSae(folder("openai_topk"), { k: 3, normalization: { kind: "none" }, subtractBDec: false });
  assert.deepEqual([other.rule, other.normalization, other.subtractBDec], [
    { kind: "topK", k: 3, relu: true },
    { kind: "none" },
    false,
  ]);
  assert.deepEqual(other.provenance.decisions, [
    "b_dec is not subtracted from the input: the options say so",
    "Input is taken as it is: the options say so",
    "TopK, k = 3: the options say so",
  ]);
  await assert.rejects(loadSae(folder("openai_relu_tied"), { k: 3 }), {
    name: "RangeError",
    message: `Cannot open SAE ${folder("openai_relu_tied")}: k must not be given for ReLU, current value is 3`,
  });
});

Deno.test("loadSae() takes ViT-Prisma's defaults for what its configuration leaves out", async () => {
  const bytes = await weightsOf("vit_prisma_relu");
  await assertNumbers("vit_prisma_relu", await loadSae(bytes, { config: { hook_point_layer: 9 } }));
  const forced = await loadSae(bytes, { format: "vit-prisma" });
  await assertNumbers("vit_prisma_relu", forced);
  assert.match(forced.provenance.decisions!.join("; "), /ReLU, ViT-Prisma's default: there is no config.json/);
  await assert.rejects(loadSae(bytes), {
    name: "TypeError",
    message: /its layout must be one of saev, .*, tensors are W_dec, .*; if it is one whose configuration is missing/,
  });
});

Deno.test("loadSae() says where SAELens's scale of activations is missing", async () => {
  const sae = await loadSae(await weightsOf("sae_lens_expected_average"), {
    config: await configOf("sae_lens_expected_average"),
  });
  assert.equal(sae.normalization, undefined);
  assert.match(
    sae.provenance.decisions!.join("; "),
    /scaled to a mean norm of √dModel, by a factor that the files lack/,
  );
});

Deno.test("loadSae() normalizes dictionaries of Overcomplete as config says", async () => {
  const bytes = await weightsOf("overcomplete_relu");
  const rowNorms = async (normalization: string, power: number): Promise<number[]> => {
    const { wDec, dSae, dModel } = await loadSae(bytes, { config: { dictionary_normalization: normalization } });
    return Array.from({ length: dSae }, (_, row) =>
      wDec.subarray(row * dModel, (row + 1) * dModel)
        .reduce((sum, value) => sum + Math.abs(value) ** power, 0) ** (1 / power));
  };
  const isOne = (value: number) => Math.abs(value - 1) < 1e-5;
  assert.ok((await rowNorms("l2", 2)).every(isOne));
  assert.ok((await rowNorms("l1", 1)).every(isOne));
  assert.ok(isOne(Math.max(...await rowNorms("max_l2", 2))) && !(await rowNorms("max_l2", 2)).every(isOne));
  assert.ok(isOne(Math.max(...await rowNorms("max_l1", 1))));
  assert.ok(!isOne(Math.max(...await rowNorms("identity", 2))));
});

Deno.test("loadSae() refuses what it does not compute, by name", async () => {
  const cases: [string, Record<string, unknown>, RegExp][] = [
    [
      "sae_lens_topk",
      { architecture: "transcoder" },
      /architecture in config must be one of standard, .* is transcoder$/,
    ],
    [
      "sae_lens_standard",
      { activation_fn: "tanh-relu" },
      /activation_fn in config must be one of relu, topk, .*tanh-relu/,
    ],
    ["sae_lens_standard", { normalize_activations: "batch" }, /normalize_activations in config must be one of none, /],
    ["vit_prisma_relu", { is_transcoder: true }, /must be an SAE, it is a transcoder$/],
    [
      "vit_prisma_relu",
      { activation_fn_str: "tanh-relu" },
      /activation_fn_str in config must be one of relu, topk, .*tanh/,
    ],
    [
      "vit_prisma_relu",
      { architecture: "jumprelu" },
      /architecture in config must be one of standard, gated, .*jumprelu/,
    ],
    [
      "dictionary_learning_AutoEncoder",
      { trainer: { dict_class: "CrossCoder" } },
      /dict_class in trainer in config .*CrossCoder/,
    ],
    ["sparsify", { transcode: true }, /transcode in config must be false, it is true/],
    ["sparsify", { skip_connection: true }, /skip_connection in config must be false, it is true/],
    ["sparsify", { activation: "groupmax" }, /activation in config must be one of topk, current value is groupmax/],
  ];
  for (const [name, changes, message] of cases) {
    const config = { ...await configOf(name), ...changes };
    await assert.rejects(loadSae(await weightsOf(name), { config }), { name: "TypeError", message }, name);
  }
});

Deno.test("loadSae() refuses pickled objects by their class, and says what to do", async () => {
  await assert.rejects(loadSae(folder("vit_prisma_legacy.pt")), {
    name: "TypeError",
    message: `Cannot open SAE ${folder("vit_prisma_legacy.pt")}: its pickle must be safe to read: objects must be ` +
      "tensors and plain data, current value is vit_prisma.sae.config.VisionModelSAERunnerConfig; open it in Python where " +
      "that class is known and save its state_dict() with torch.save, and its configuration as config.json beside it",
  });
});

Deno.test("loadSae() asks for what neither name nor file of an SAE of MSAE tells", async () => {
  const bytes = await weightsOf("msae_TopKReLU");
  await assert.rejects(loadSae(bytes), {
    name: "RangeError",
    message: /rule or k must be given, the file is not named/,
  });
  await assertNumbers("msae_TopKReLU", await loadSae(bytes, { k: 4 }));
});

Deno.test("loadSae() reads CLIP-Scope as it was trained unless the options say otherwise", async () => {
  const trained = await loadSae(fixturePath("clip_scope", "training.pt"), { k: 4 });
  assert.deepEqual(trained.normalization, { kind: "batch", epsilon: 1e-6 });
  const [latents, reconstruction] = await run(trained, await readFixture("clip_scope", "batch_x.npy"));
  assert.ok(relativeError(latents, await readFixture("clip_scope", "batch_latent.npy")) <= 1e-5);
  // The original stays in the space of the standardized batch.
  const [mean, std] = [
    await readFixture("clip_scope", "batch_mean.npy"),
    await readFixture("clip_scope", "batch_std.npy"),
  ];
  const standardized = await readFixture("clip_scope", "batch_reconstruction.npy");
  const expected = standardized.map((value, i) => value * (std[i % std.length] + 1e-6) + mean[i % mean.length]);
  assert.ok(relativeError(reconstruction, expected) <= 1e-5);
  await assert.rejects(loadSae(fixturePath("clip_scope", "training.pt")), {
    name: "RangeError",
    message: /k must be given, the file does not tell it; published ones have 32/,
  });
});

Deno.test("loadSae() refuses encoders and dictionaries of Overcomplete that are not plain, by name", async () => {
  const tensor = (...shape: number[]) => ({ shape, data: new Float32Array(shape.reduce((n, size) => n * size, 1)) });
  const plain = { "encoder.final_block.0.weight": tensor(6, 4), "dictionary._weights": tensor(6, 4) };
  assert.equal((await loadSae(writeSafetensors(plain))).dSae, 6);
  const cases: [Record<string, ReturnType<typeof tensor>>, RegExp][] = [
    [
      { "encoder.mlp_blocks.0.0.weight": tensor(4, 4) },
      /must be one linear layer, it is an MLP encoder with 2 weights/,
    ],
    [{ "encoder.attention_blocks.0.attn.in_proj_weight": tensor(12, 4) }, /it is an attention encoder with 2 weights/],
    [{ "encoder.resnet_blocks.0.conv1.weight": tensor(4, 4, 3, 3) }, /it is a ResNet encoder with 2 weights/],
    [{ "encoder.final_block.1.weight": tensor(6) }, /with batch norm at most, it has encoder.final_block.1.weight$/],
    [{ "dictionary.W": tensor(6, 9) }, /its dictionary must be a plain one, it has dictionary.W$/],
  ];
  for (const [others, message] of cases) {
    await assert.rejects(loadSae(writeSafetensors({ ...plain, ...others })), { name: "TypeError", message });
  }
});

Deno.test("loadSae() refuses transcoders by their tensors, and weights that lack what they need", async () => {
  const vector = (length: number) => ({ shape: [length], data: new Float32Array(length) });
  const matrix = (...shape: [number, number]) => ({ shape, data: new Float32Array(shape[0] * shape[1]).fill(0.1) });
  const sparsify = { "encoder.weight": matrix(6, 4), "encoder.bias": vector(6), W_dec: matrix(6, 4), b_dec: vector(4) };
  const config = { k: 2 };
  assert.equal((await loadSae(writeSafetensors(sparsify), { config })).dModel, 4);
  const { rule, provenance } = await loadSae(writeSafetensors(sparsify), { config: { k: 2, multi_topk: true } });
  assert.deepEqual(rule, { kind: "topK", k: 2, relu: true });
  assert.ok(provenance.decisions!.includes("multi_topk added a loss in training, latents are the TopK of k"));
  await assert.rejects(loadSae(writeSafetensors({ ...sparsify, W_skip: matrix(4, 4) }), { config }), {
    name: "TypeError",
    message: "Cannot open SAE from bytes: it must have no skip connection, it has W_skip",
  });
  await assert.rejects(loadSae(writeSafetensors(sparsify)), {
    name: "Error",
    message: "Cannot open SAE from bytes: it must hold cfg.json beside the weights, or config must be given",
  });
  await assert.rejects(loadSae(writeSafetensors({ ...sparsify, W_dec: matrix(4, 6) }), { config }), {
    name: "RangeError",
    message: "Cannot open SAE from bytes: tensor W_dec must have shape [6, 4], current shape is [4, 6]",
  });
  await assert.rejects(loadSae(writeSafetensors({ ...sparsify, "encoder.weight": matrix(6, 0) }), { config }), {
    name: "RangeError",
    message: "Cannot open SAE from bytes: tensor encoder.weight must have shape [any, any], current shape is [6, 0]",
  });
});
