import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSafetensors, writeSafetensors } from "../../lib/tensors/safetensors.ts";
import type { ActivationRule, InputNormalization } from "../../lib/compute/contract.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { saveSae } from "../../lib/sae/save.ts";
import { createSae, type Sae, type SaeProvenance } from "../../lib/sae/sae.ts";
import { randomWeights } from "../support/reference.ts";

const provenance: SaeProvenance = {
  model: { name: "vision_model.onnx", sha256: "ab12" },
  layer: 3,
  tokens: "patches",
  training: { epochs: 2, seed: 7 },
};

const topK: ActivationRule = { kind: "topK", k: 4, relu: true };
const jumpRelu: ActivationRule = { kind: "jumpRelu", threshold: Float32Array.of(0.5, 0, -1, 2, 0.1, Infinity, 3) };

const randomSae = (rule: ActivationRule, options: { subtractBDec?: boolean; provenance?: SaeProvenance } = {}): Sae =>
  createSae(randomWeights({ dModel: 5, dSae: 7 }, { rule, subtractBDec: options.subtractBDec }), options.provenance);

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-sae-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Saves an SAE and then puts other values into its `cfg.json`; `undefined` takes a value out. */
async function saveWithConfig(folder: string, changes: Record<string, unknown>, rule = topK): Promise<void> {
  await saveSae(randomSae(rule), folder);
  const config = JSON.parse(await readFile(join(folder, "cfg.json"), "utf8"));
  await writeFile(join(folder, "cfg.json"), JSON.stringify({ ...config, ...changes }));
}

Deno.test("loadSae() gives back what saveSae() was given, for every rule", async () => {
  const rules: ActivationRule[] = [{ kind: "relu" }, topK, { kind: "topK", k: 7, relu: false }, jumpRelu];
  for (const rule of rules) {
    for (const subtractBDec of [true, false]) {
      await inFolder(async (folder) => {
        const sae = randomSae(rule, { subtractBDec, provenance });
        await saveSae(sae, join(folder, "new", "sae"));
        assert.deepEqual(await loadSae(join(folder, "new", "sae")), sae);
        assert.deepEqual(await loadSae(join(folder, "new", "sae", "sae_weights.safetensors")), sae);
        assert.deepEqual(await loadSae(join(folder, "new", "sae", "cfg.json")), sae);
        assert.deepEqual((await readdir(join(folder, "new", "sae"))).sort(), ["cfg.json", "sae_weights.safetensors"]);
      });
    }
  }
});

Deno.test("loadSae() leaves open where an SAE belongs if that is not known", async () => {
  await inFolder(async (folder) => {
    await saveSae(randomSae(topK), folder);
    const { provenance } = await loadSae(folder);
    assert.deepEqual(Object.values(provenance).filter((value) => value !== undefined), []);
  });
});

Deno.test("saveSae() writes the same bytes each time, over what was there", async () => {
  await inFolder(async (folder) => {
    const read = () => Promise.all(["cfg.json", "sae_weights.safetensors"].map((name) => readFile(join(folder, name))));
    await saveSae(randomSae(topK, { provenance }), folder);
    const first = await read();
    await saveSae(randomSae({ kind: "relu" }), folder);
    assert.notDeepEqual(await read(), first);
    await saveSae(randomSae(topK, { provenance }), folder);
    assert.deepEqual(await read(), first);
  });
});

Deno.test("saveSae() writes SAELens's names", async () => {
  await inFolder(async (folder) => {
    await saveSae(randomSae(topK, { subtractBDec: true, provenance }), folder);
    assert.deepEqual(JSON.parse(await readFile(join(folder, "cfg.json"), "utf8")), {
      architecture: "topk",
      d_in: 5,
      d_sae: 7,
      k: 4,
      topk_relu: true,
      rescale_acts_by_decoder_norm: false,
      dtype: "float32",
      device: "cpu",
      apply_b_dec_to_input: true,
      normalize_activations: "none",
      reshape_activations: "none",
      sae_lens_version: "6.0.0",
      metadata: {
        sae_lens_training_version: null,
        model_name: "vision_model.onnx",
        model_sha256: "ab12",
        hook_name: "blocks.3.hook_resid_post",
        hook_layer: 3,
        tokens: "patches",
        training: { epochs: 2, seed: 7 },
      },
    });
    const tensors = readSafetensors(await readFile(join(folder, "sae_weights.safetensors")));
    assert.deepEqual(
      Object.entries(tensors).map(([name, { shape }]) => [name, shape]),
      [["W_enc", [5, 7]], ["b_enc", [7]], ["W_dec", [7, 5]], ["b_dec", [5]]],
    );
    await saveSae(randomSae({ kind: "relu" }), folder);
    const config = JSON.parse(await readFile(join(folder, "cfg.json"), "utf8"));
    assert.deepEqual([config.architecture, config.apply_b_dec_to_input, "k" in config], ["standard", false, false]);
    const { threshold } = readSafetensors(await readFile(join(folder, "sae_weights.safetensors")));
    assert.equal(threshold, undefined);
  });
});

Deno.test("saveSae() writes the thresholds of a JumpReLU as SAELens does", async () => {
  await inFolder(async (folder) => {
    await saveSae(randomSae(jumpRelu), folder);
    const config = JSON.parse(await readFile(join(folder, "cfg.json"), "utf8"));
    assert.deepEqual([config.architecture, "k" in config, "threshold" in config], ["jumprelu", false, false]);
    const tensors = readSafetensors(await readFile(join(folder, "sae_weights.safetensors")));
    assert.deepEqual(Object.keys(tensors), ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"]);
    assert.deepEqual(tensors.threshold, { shape: [7], data: Float32Array.of(0.5, 0, -1, 2, 0.1, Infinity, 3) });
  });
});

Deno.test("loadSae() refuses thresholds that are missing, of another length or NaN", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "sae_weights.safetensors");
    await saveSae(randomSae(jumpRelu), folder);
    const { threshold, ...others } = readSafetensors(await readFile(path));
    const cases: [Parameters<typeof writeSafetensors>[0], string][] = [
      [others, "tensor threshold must have shape [7], the file has none of that name"],
      [
        { ...others, threshold: { shape: [1], data: Float32Array.of(0.5) } },
        "tensor threshold must have shape [7], current shape is [1]",
      ],
      [
        { ...others, threshold: { ...threshold, data: threshold.data.with(2, NaN) } },
        "threshold of latent 2 must be a number, current value is NaN",
      ],
    ];
    for (const [tensors, requirement] of cases) {
      await writeFile(path, writeSafetensors(tensors));
      await assert.rejects(loadSae(folder), {
        name: "RangeError",
        message: `Cannot open SAE ${folder}: ${requirement}`,
      });
    }
  });
});

Deno.test("loadSae() takes SAELens's defaults where a name is left out", async () => {
  await inFolder(async (folder) => {
    await saveWithConfig(folder, {
      topk_relu: undefined,
      rescale_acts_by_decoder_norm: undefined,
      normalize_activations: undefined,
      apply_b_dec_to_input: undefined,
      metadata: undefined,
    });
    const sae = await loadSae(folder);
    assert.deepEqual([sae.rule, sae.subtractBDec, sae.provenance.format], [topK, true, "SAELens"]);
    assert.ok(
      sae.provenance.decisions!.includes(
        "b_dec is subtracted from the input: apply_b_dec_to_input is missing, and true by default",
      ),
    );
  });
});

Deno.test("loadSae() says what is missing", async () => {
  await inFolder(async (folder) => {
    const nowhere = join(folder, "nowhere");
    await assert.rejects(loadSae(nowhere), {
      name: "Error",
      message: `Cannot open SAE ${nowhere}: there must be a folder or a file of that name, there is none`,
    });
    await assert.rejects(loadSae(folder), {
      name: "Error",
      message: /^Cannot open SAE .*: it must hold sae_weights.safetensors, .* or one other checkpoint, it holds none$/,
    });
    await saveSae(randomSae(topK), folder);
    await rm(join(folder, "cfg.json"));
    await assert.rejects(loadSae(folder), {
      name: "Error",
      message: `Cannot open SAE ${folder}: it must hold cfg.json beside the weights, or config must be given`,
    });
  });
});

Deno.test("loadSae() refuses a configuration that is no JSON object", async () => {
  await inFolder(async (folder) => {
    await saveSae(randomSae(topK), folder);
    const path = join(folder, "cfg.json");
    await writeFile(path, (await readFile(path, "utf8")).slice(0, 40));
    await assert.rejects(loadSae(folder), {
      name: "SyntaxError",
      message: `Cannot open SAE ${folder}: cfg.json must be JSON`,
    });
    for (const value of ["null", "7"]) {
      await writeFile(path, value);
      await assert.rejects(loadSae(folder), {
        name: "SyntaxError",
        message: `Cannot open SAE ${folder}: cfg.json must be a JSON object, current value is ${value}`,
      });
    }
  });
});

Deno.test("loadSae() lists what it supports", async () => {
  const cases: [Record<string, unknown>, string][] = [
    [
      { architecture: "temporal" },
      "architecture in cfg.json must be one of standard, topk, jumprelu, gated, batchtopk, matryoshka_batchtopk, current " +
      "value is temporal",
    ],
    [
      { architecture: undefined },
      "architecture in cfg.json must be one of standard, topk, jumprelu, gated, batchtopk, matryoshka_batchtopk, it is " +
      "missing",
    ],
    [
      { normalize_activations: "whitening" },
      "normalize_activations in cfg.json must be one of none, layer_norm, constant_norm_rescale, " +
      "expected_average_only_in, affine, batch, current value is whitening",
    ],
    [{ apply_b_dec_to_input: 1 }, "apply_b_dec_to_input in cfg.json must be true or false, current value is 1"],
    [{ metadata: [] }, "metadata in cfg.json must be a JSON object, current value is []"],
    [{ d_in: "5" }, "d_in in cfg.json must be an integer of 1 or more, current value is 5"],
    [{ d_in: undefined }, "d_in in cfg.json must be an integer of 1 or more, it is missing"],
    [{ d_sae: -7 }, "d_sae in cfg.json must be an integer of 1 or more, current value is -7"],
    [{ k: 0 }, "k in cfg.json must be an integer of 1 or more, current value is 0"],
    [{ k: 2.5 }, "k in cfg.json must be an integer of 1 or more, current value is 2.5"],
    [{ k: undefined }, "k in cfg.json must be an integer of 1 or more, it is missing"],
  ];
  await inFolder(async (folder) => {
    for (const [changes, requirement] of cases) {
      await saveWithConfig(folder, changes);
      await assert.rejects(loadSae(folder), {
        name: "TypeError",
        message: `Cannot open SAE ${folder}: ${requirement}`,
      });
    }
  });
});

Deno.test("loadSae() refuses sizes that do not fit the weights", async () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ d_sae: 8 }, "tensor W_enc must have shape [5, 8], current shape is [5, 7]"],
    [{ d_in: 7, d_sae: 5 }, "tensor W_enc must have shape [7, 5], current shape is [5, 7]"],
    [{ k: 8 }, "k must be an integer between 1 and 7, current value is 8"],
  ];
  await inFolder(async (folder) => {
    for (const [changes, requirement] of cases) {
      await saveWithConfig(folder, changes);
      await assert.rejects(loadSae(folder), {
        name: "RangeError",
        message: `Cannot open SAE ${folder}: ${requirement}`,
      });
    }
  });
});

Deno.test("loadSae() refuses weights that are damaged, missing or of another kind", async () => {
  await inFolder(async (folder) => {
    await saveSae(randomSae(topK), folder);
    const path = join(folder, "sae_weights.safetensors");
    const whole = await readFile(path);
    const { b_dec: _, ...others } = readSafetensors(whole);
    await writeFile(path, writeSafetensors(others));
    await assert.rejects(loadSae(folder), {
      name: "RangeError",
      message: `Cannot open SAE ${folder}: tensor b_dec must have shape [5], the file has none of that name`,
    });
    await writeFile(path, whole.subarray(0, -1));
    await assert.rejects(loadSae(folder), {
      name: "SyntaxError",
      message: /^Cannot open SAE .*: tensor b_dec of shape \[5\] must lie within the file, its bytes are /,
    });
    const asU32 = Uint8Array.from(whole);
    asU32[whole.indexOf("F32")] = "U".charCodeAt(0);
    await writeFile(path, asU32);
    await assert.rejects(loadSae(folder), {
      name: "TypeError",
      message: /^Cannot open SAE .*: dtype of tensor W_enc must be one of F64, F32, .*, current value is U32$/,
    });
  });
});

Deno.test("loadSae() gives back every normalization that saveSae() was given, and asks for a sidecar that is gone", async () => {
  const mean = Float32Array.from({ length: 5 }, (_, i) => i / 3);
  const normalizations: InputNormalization[] = [
    { kind: "layerNorm", epsilon: 1e-5 },
    { kind: "layerNorm", epsilon: 0.25 },
    { kind: "constantNorm" },
    { kind: "affine", mean, scale: new Float32Array(5).fill(1.1), clamp: [-2, Infinity] },
    { kind: "batch", epsilon: 1e-6 },
  ];
  for (const normalization of normalizations) {
    await inFolder(async (folder) => {
      const { provenance, ...weights } = randomSae({ kind: "batchTopK", k: 9 }, {
        provenance: { layer: 2, hook: "mlpOut" },
      });
      const sae = createSae({ ...weights, normalization }, provenance);
      await saveSae(sae, folder);
      const loaded = await loadSae(folder);
      assert.deepEqual([loaded.normalization, loaded.rule, loaded.wEnc], [normalization, sae.rule, sae.wEnc]);
      assert.deepEqual([loaded.provenance.layer, loaded.provenance.hook], [2, "mlpOut"]);
      assert.equal(loaded.provenance.decisions, undefined);
      if (normalization.kind !== "affine") return;
      await rm(join(folder, "normalization.json"));
      await assert.rejects(loadSae(folder), {
        name: "Error",
        message: `Cannot open SAE ${folder}: it must hold normalization.json, as its normalization is affine`,
      });
      assert.equal((await loadSae(folder, { normalization: { kind: "none" } })).normalization?.kind, "none");
    });
  }
});

Deno.test("saveSae() says why it cannot write", async () => {
  await inFolder(async (folder) => {
    const file = join(folder, "file");
    await writeFile(file, "");
    await assert.rejects(saveSae(randomSae(topK), join(file, "sae")), {
      name: "Error",
      message: `Cannot write ${join(file, "sae")}: its parent is a file, choose another folder`,
    });
  });
});
