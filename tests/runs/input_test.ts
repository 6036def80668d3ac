import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import type { SaeWeights } from "../../lib/compute/contract.ts";
import { normalizeInput } from "../../lib/compute/normalize.ts";
import { readTrainerState } from "../../lib/runs/checkpoint.ts";
import { trainRun } from "../../lib/runs/run.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { presets } from "../../lib/train/presets.ts";
import type { TrainInput, TrainRecipe } from "../../lib/train/recipe.ts";
import type { TrainerState } from "../../lib/train/start.ts";
import { toTokenSource } from "../../lib/train/source.ts";
import { dModel, tinyOptions, writeTokens } from "./tiny_run.ts";

const inputs: TrainInput[] = [
  { kind: "none" },
  { kind: "scale" },
  { kind: "unitNorm" },
  { kind: "constantNorm" },
  { kind: "standardize" },
  { kind: "standardize", clamp: [-1.5, 1.5] },
  { kind: "layerNorm", epsilon: 1e-5 },
  { kind: "batch", epsilon: 1e-6 },
];

const recipes: Record<string, TrainRecipe> = { "top-k": presets["top-k"], "jump-relu": presets["jump-relu"] };

async function withRecording(body: (shards: Shards, folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-input-"));
  try {
    await writeTokens(join(folder, "shards"));
    const shards = await openShards(join(folder, "shards"));
    await body(shards, folder).finally(() => shards.close());
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function encode(sae: SaeWeights, x: Float32Array): Promise<Float32Array[]> {
  const backend = await createCpuBackend({ threads: 1 });
  const loaded = await backend.load(sae);
  const { offsets, indices, values } = await loaded.encode(x);
  await loaded.dispose();
  await backend.close();
  return Array.from({ length: x.length / dModel }, (_, token) => {
    const latents = new Float32Array(sae.dSae);
    for (let i = offsets[token]; i < offsets[token + 1]; i++) latents[indices[i]] = values[i];
    return latents;
  });
}

/** Latents as training had them, from its parameters as they are, in its own units. */
function latentsInTraining(
  { parameters, input }: TrainerState,
  x: Float32Array,
  { activation, subtractBDec }: TrainRecipe,
): Float32Array[] {
  const { x: normalized } = normalizeInput(x, { dModel, normalization: input.normalization });
  const { wEnc, bEnc, bDec, logThreshold } = parameters;
  return Array.from({ length: x.length / dModel }, (_, token) => {
    const pre = Array.from(bEnc, (bias, latent) => {
      for (let d = 0; d < dModel; d++) {
        bias += wEnc[latent * dModel + d] * (normalized[token * dModel + d] - (subtractBDec ? bDec[d] : 0));
      }
      return bias;
    });
    if (logThreshold) return Float32Array.from(pre, (value, i) => value > Math.exp(logThreshold[i]) ? value : 0);
    assert.ok(activation.kind === "topK");
    const lowest = pre.toSorted((a, b) => b - a)[activation.k - 1];
    return Float32Array.from(pre, (value) => value >= lowest ? Math.max(0, value) : 0);
  });
}

for (const [name, recipe] of Object.entries(recipes)) {
  for (const input of inputs) {
    const what = `${name}, ${JSON.stringify(input)}`;
    Deno.test(`trainRun() keeps the input it measured with its SAE, whose latents are those of training: ${what}`, async () => {
      await withRecording(async (shards, folder) => {
        const { k: _, kAux: _aux, ...options } = { ...tinyOptions(join(folder, "run")), epochs: 1 };
        const small = {
          ...recipe,
          input,
          ...("k" in recipe.activation && { activation: { ...recipe.activation, k: 2 } }),
        };
        const { sae } = await trainRun(shards, { ...options, recipe: small as TrainRecipe });
        const x: Float32Array[] = [];
        for await (const { activations } of shards.readBatches({ layer: 3 })) x.push(activations);
        const [first] = x;
        const loaded = await encode(await loadSae(join(folder, "run/sae")), first);
        assert.deepEqual(loaded, await encode(sae, first));

        const state = await readTrainerState(join(folder, "run/checkpoint.safetensors"));
        const { foldedScale } = state.input;
        assert.equal(foldedScale !== 1, input.kind === "scale" || input.kind === "unitNorm");
        const expected = latentsInTraining(state, first, small as TrainRecipe);
        let [nActive, nSame] = [0, 0];
        for (const [token, latents] of expected.entries()) {
          for (const [latent, value] of latents.entries()) {
            const found = loaded[token][latent];
            if (value === 0 && found === 0) continue;
            nActive++;
            if (Math.abs(found / foldedScale - value) <= 1e-4 * Math.abs(value)) nSame++;
          }
        }
        assert.ok(nActive >= expected.length / 2, `${nActive} are active`);
        // Rounding may decide which of two equal latents is kept.
        assert.ok(nSame >= 0.995 * nActive, `${nSame} of ${nActive} are the same`);
      });
    });
  }
}

Deno.test("trainRun() measures the input once: a run that goes on takes it from its checkpoint", async () => {
  await withRecording(async (shards, folder) => {
    let nReads = 0;
    const source = toTokenSource(shards);
    const counted: typeof source = {
      ...source,
      readBatches(options) {
        nReads++;
        return source.readBatches(options);
      },
    };
    const { recipe: _, ...options } = { ...tinyOptions(join(folder, "run")), epochs: 1 };
    const controller = new AbortController();
    const stopped = trainRun(counted, {
      ...options,
      signal: controller.signal,
      onStep: ({ step }) => step === 3 && controller.abort(),
    });
    await assert.rejects(stopped, { name: "AbortError" });
    assert.equal(nReads, 2, "the look beforehand, and the pass");
    const path = join(folder, "run/checkpoint.safetensors");
    const { input } = await readTrainerState(path);
    assert.equal(input.normalization.kind, "affine");
    await trainRun(counted, options);
    assert.equal(nReads, 3, "the pass again");
    assert.deepEqual((await readTrainerState(path)).input, input);
    const config = JSON.parse(await readFile(join(folder, "run/sae/cfg.json"), "utf8"));
    assert.equal(config.normalize_activations, "none", "a scale is multiplied into the biases");
  });
});
