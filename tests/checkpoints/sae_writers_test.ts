import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeClipScope } from "../../lib/checkpoints/clip_scope_writer.ts";
import { writeSaev } from "../../lib/checkpoints/saev_writer.ts";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import type { ActivationRule, InputNormalization, SaeWeights } from "../../lib/compute/contract.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { randomWeights } from "../support/reference.ts";
import { loadWithTorch, python } from "../tensors/python_torch.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

const [dModel, dSae] = [5, 37];
const topK: ActivationRule = { kind: "topK", k: 4, relu: false };
const threshold = (value: number): ActivationRule => ({
  kind: "jumpRelu",
  threshold: new Float32Array(dSae).fill(value),
});
const weightsOf = (rule: ActivationRule, changes: Partial<SaeWeights> = {}): SaeWeights => ({
  ...randomWeights({ dModel, dSae }, { rule }),
  ...changes,
});
const forClipScope: Partial<SaeWeights> = { subtractBDec: true, bEnc: new Float32Array(dSae) };
const affine: InputNormalization = {
  kind: "affine",
  mean: new Float32Array(dModel),
  scale: new Float32Array(dModel).fill(2),
};

async function inFolder(body: (path: string, folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-writers-"));
  try {
    await body(join(folder, "sae.pt"), folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function headerOf(path: string) {
  const file = await openTensorFile(path);
  await file.close();
  return JSON.parse(file.headerLine!);
}

function assertSameWeights(weights: SaeWeights, expected: SaeWeights): void {
  for (const name of ["wEnc", "bEnc", "wDec", "bDec", "subtractBDec", "rule"] as const) {
    assert.deepEqual(weights[name], expected[name], name);
  }
}

Deno.test("writeSaev() writes what loadSae() reads, for every rule of the format", async () => {
  for (const rule of [{ kind: "relu" } as const, topK, threshold(0.25)]) {
    await inFolder(async (path) => {
      const weights = weightsOf(rule);
      await writeSaev(weights, path, { k: 8 });
      const read = await loadSae(path);
      assertSameWeights(read, weights);
      assert.equal(read.provenance.format, "saev, schema 5");
    });
  }
});

Deno.test("writeSaev() takes thresholds of 0 and below for a ReLU, and a bias of zeros for one that is not subtracted", async () => {
  await inFolder(async (path) => {
    const bDec = new Float32Array(dModel);
    await writeSaev(weightsOf(threshold(-1), { subtractBDec: true, bDec }), path);
    assertSameWeights(await loadSae(path), weightsOf({ kind: "relu" }, { bDec }));
  });
});

Deno.test("writeSaev() writes the header of saev itself", async () => {
  const cases = { TopK: { ...topK, k: 8 }, BatchTopK: threshold(0.25) };
  for (const [name, rule] of Object.entries(cases)) {
    await inFolder(async (path) => {
      await writeSaev(weightsOf(rule), path, { k: 8 });
      const { cfg: { d_model, d_sae, ...cfg }, ...header } = await headerOf(path);
      assert.deepEqual([d_model, d_sae, header.lib], [dModel, dSae, "sparsight"]);
      const { cfg: { d_model: _, d_sae: __, ...expectedCfg }, ...expected } = await headerOf(
        fixture(`saev/s5_HEAD_${name}.pt`),
      );
      assert.deepEqual(cfg, expectedCfg);
      assert.deepEqual({ ...header, lib: expected.lib }, expected);
    });
  }
});

Deno.test({
  name: "writeSaev() writes what torch.load opens, laid out as saev's own files are",
  ignore: python === undefined,
  fn: () =>
    inFolder(async (path) => {
      const weights = weightsOf(threshold(0.25));
      await writeSaev(weights, path, { k: 8 });
      const written = await loadWithTorch(path);
      const published = await loadWithTorch(fixture("saev/s5_HEAD_BatchTopK.pt"));
      assert.equal(written.root.class, published.root.class);
      assert.deepEqual(Object.keys(written.root.items), Object.keys(published.root.items));
      const { W_enc, W_dec, b_enc, "activation.threshold": theta } = written.root.items;
      assert.deepEqual([W_enc.shape, W_enc.stride, W_enc.numbers], [[dModel, dSae], [1, dModel], [...weights.wEnc]]);
      assert.deepEqual([W_dec.shape, W_dec.stride, W_dec.numbers], [[dSae, dModel], [dModel, 1], [...weights.wDec]]);
      assert.deepEqual([b_enc.stride, b_enc.numbers], [[1], [...weights.bEnc]]);
      assert.deepEqual([theta.shape, theta.stride, theta.numbers], [[], [], [0.25]]);
    }),
});

Deno.test("writeSaev() names all that the format cannot say at once, and writes nothing", async () => {
  const perLatent: ActivationRule = { kind: "jumpRelu", threshold: Float32Array.from({ length: dSae }, (_, i) => i) };
  const cases: [SaeWeights, string][] = [
    [
      weightsOf({ ...topK, relu: true }, { normalization: affine, subtractBDec: true }),
      "no normalization, current one is affine (an affine one can be folded: foldNormalization, --fold-normalization); " +
      "b_dec that is not subtracted from the input (it can be folded: foldInputBias, --fold-input-bias); " +
      "TopK that keeps negative values, current one drops them (they can be kept: drop relu, --drop relu)",
    ],
    [
      weightsOf(perLatent),
      "one finite threshold, current ones differ from latent to latent (it can be set: rule, --rule jumprelu=…)",
    ],
    [
      weightsOf({ kind: "batchTopK", k: 9 }),
      "BatchTopK with a threshold, current one looks at the whole batch (it can be set: rule, --rule jumprelu=…)",
    ],
  ];
  await inFolder(async (path, folder) => {
    for (const [weights, problems] of cases) {
      await assert.rejects(writeSaev(weights, path), {
        name: "TypeError",
        message: `Cannot write saev checkpoint: it must have ${problems}`,
      });
    }
    for (const k of [undefined, 0, dSae + 1]) {
      await assert.rejects(writeSaev(weightsOf(threshold(1)), path, { k }), {
        name: "RangeError",
        message:
          `Cannot write saev checkpoint: k must be given for BatchTopK (k, --batch-k), an integer between 1 and ${dSae}, ` +
          `current value is ${k}`,
      });
    }
    assert.deepEqual(await readdir(folder), []);
  });
});

Deno.test("writeClipScope() writes what loadSae() reads, its decoder by columns or by rows", async () => {
  const weights = weightsOf(topK, forClipScope);
  const training = { tokenCount: 2 ** 33, nIter: 12, logId: "22_resid-3a4511bd" };
  for (const contiguousDecoder of [false, true]) {
    await inFolder(async (path) => {
      await writeClipScope(weights, path, { contiguousDecoder, training });
      const read = await loadSae(path);
      assertSameWeights(read, weights);
      assert.deepEqual(read.provenance.training, {
        token_count: 2 ** 33,
        n_iter: 12,
        log_id: "22_resid-3a4511bd",
        k: 4,
      });
    });
  }
});

Deno.test({
  name: "writeClipScope() writes what torch.load opens, laid out as published files are",
  ignore: python === undefined,
  fn: () =>
    inFolder(async (path) => {
      const published = await loadWithTorch(fixture("clip_scope/1200013184.pt"));
      const sae = await loadSae(fixture("clip_scope/1200013184.pt"));
      const { token_count, n_iter, log_id } = sae.provenance.training as Record<string, never>;
      const known = { tokenCount: token_count, nIter: n_iter, logId: log_id };
      await writeClipScope(sae, path, { training: known });
      const written = await loadWithTorch(path);
      const { dead_latents: _, ...expected } = published.root.items;
      assert.deepEqual(written.root.items, expected);
      await writeClipScope(sae, path, { contiguousDecoder: true });
      const { model_state_dict, ...others } = (await loadWithTorch(path)).root.items;
      assert.deepEqual(others, { d_in: 16, n_features: 64, k: 4 });
      assert.deepEqual(model_state_dict.items.dec.stride, [16, 1]);
      assert.deepEqual(model_state_dict.items.dec.numbers, expected.model_state_dict.items.dec.numbers);
    }),
});

Deno.test("writeClipScope() names all that the format cannot say at once, and writes nothing", async () => {
  const cases: [SaeWeights, string][] = [
    [weightsOf({ kind: "relu" }, forClipScope), "the rule topK, current one is relu"],
    [
      weightsOf({ ...topK, relu: true }, { normalization: { kind: "layerNorm", epsilon: 1e-5 } }),
      "TopK that keeps negative values, current one drops them (they can be kept: drop relu, --drop relu); " +
      "normalization none or batch, current one is layerNorm (an affine one can be folded: foldNormalization, " +
      "--fold-normalization); no encoder bias, current b_enc is not 0 (nothing can take its place); " +
      "b_dec that is subtracted from the input, current one is not (nothing can take its place)",
    ],
  ];
  await inFolder(async (path, folder) => {
    for (const [weights, problems] of cases) {
      await assert.rejects(writeClipScope(weights, path), {
        name: "TypeError",
        message: `Cannot write CLIP-Scope checkpoint: it must have ${problems}`,
      });
    }
    assert.deepEqual(await readdir(folder), []);
  });
});

Deno.test("writeSaev() and writeClipScope() do not change the weights, and write the same bytes each time", async () => {
  await inFolder(async (path) => {
    const weights = weightsOf(topK, { ...forClipScope, bDec: new Float32Array(dModel) });
    const before = structuredClone(weights);
    for (const write of [writeSaev, writeClipScope]) {
      await write(weights, path);
      const first = await readFile(path);
      await write(weights, path);
      assert.deepEqual(await readFile(path), first);
      assert.deepEqual(weights, before);
    }
  });
});
