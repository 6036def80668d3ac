import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { readNpy } from "../../lib/tensors/npy.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { embeddedPaths } from "../../lib/embedded.ts";
import { type ActivationVariant, diagnoseSae, type Diagnosis } from "../../lib/sae/doctor/doctor.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { measureReconstruction } from "../../lib/sae/metrics/reconstruction.ts";
import { createSae, type Sae } from "../../lib/sae/sae.ts";
import { dModel, hiddenNormalizations, hideConvention } from "./hidden_conventions.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

async function readArray(name: string): Promise<{ shape: number[]; data: Float32Array }> {
  const { shape, data } = readNpy(await readFile(fixture(name)));
  return { shape, data: data as Float32Array };
}

const variantOf = (name: string, ...batches: Float32Array[]): ActivationVariant => ({
  name,
  async *batches() {
    yield* batches;
  },
});

async function diagnose(
  sae: Sae,
  variants: ActivationVariant[],
  options: Partial<Parameters<typeof diagnoseSae>[2]> = {},
): Promise<Diagnosis> {
  return await diagnoseSae(sae, variants, { backend: await createCpuBackend({ threads: 1 }), ...options });
}

async function explainedVariance(sae: Sae, x: Float32Array): Promise<number> {
  const backend = await createCpuBackend({ threads: 1 });
  const loaded = await backend.load(sae);
  const { explainedVariance } = await measureReconstruction(
    loaded,
    async function* () {
      yield x;
    }(),
  );
  await loaded.dispose();
  return explainedVariance;
}

for (const normalization of hiddenNormalizations) {
  for (const subtractBDec of [true, false]) {
    const convention = `${normalization}, b_dec ${subtractBDec ? "subtracted" : "not subtracted"}`;
    Deno.test(`diagnoseSae() finds a hidden convention: ${convention}`, async () => {
      const { sae, x } = hideConvention({ normalization, subtractBDec });
      const half = Math.floor(x.length / dModel / 2) * dModel;
      const found = await diagnose(sae, [variantOf("patches", x.subarray(0, half), x.subarray(half))]);
      const { best } = found;
      assert.equal(found.verdict, "fitsOtherwise", found.text);
      assert.deepEqual([best.normalization.name, best.subtractBDec], [normalization, subtractBDec]);
      assert.ok(best.explainedVariance > 0.999, `${best.explainedVariance}`);
      assert.equal(best.nTokens, 700);

      // Nothing else comes near, but for standardizing batch by batch, which is the same on one batch.
      const others = found.candidates.filter(({ normalization: { name } }) => name !== "batch").slice(1);
      assert.ok(others.length >= 9);
      assert.ok(others.every(({ score }) => score > best.score + 0.5), JSON.stringify(others[0]));

      assert.equal(found.options.subtractBDec, subtractBDec);
      assert.equal("normalization" in found.options, normalization !== "none");
      assert.equal("rule" in found.options, false);
      assert.ok(await explainedVariance(createSae({ ...sae, ...found.options }), x) > 0.999);
      assert.deepEqual(found.sidecar?.normalization, best.normalization.normalization);
    });
  }
}

Deno.test("diagnoseSae() says that an SAE fits as it was read, and asks for nothing", async () => {
  const hidden = hideConvention({ normalization: "none", subtractBDec: true });
  const found = await diagnose({ ...hidden.sae, subtractBDec: true }, [variantOf("patches", hidden.x)]);
  assert.equal(found.verdict, "fits");
  assert.match(found.text, /^Fits as it was read: explains 100.0 % of the variance with 2.0 latents a token$/);
  assert.deepEqual(found.options, {});
  assert.deepEqual(found.sidecar?.normalization, { kind: "none" });
});

Deno.test("diagnoseSae() finds that a TopK has to keep negative values, and that a TopK was a ReLU", async () => {
  const kept = hideConvention({
    normalization: "none",
    subtractBDec: true,
    shownRule: { kind: "topK", k: 9, relu: true },
    negative: true,
  });
  const negative = await diagnose(kept.sae, [variantOf("patches", kept.x)]);
  assert.deepEqual(negative.options, { subtractBDec: true, rule: { kind: "topK", k: 9, relu: false } });
  assert.deepEqual(negative.sidecar?.rule, { kind: "topK", k: 9, relu: false });

  const dense = hideConvention({
    normalization: "none",
    subtractBDec: true,
    shownRule: { kind: "topK", k: 1, relu: true },
  });
  const relu = await diagnose(dense.sae, [variantOf("patches", dense.x)]);
  assert.deepEqual(relu.options, { subtractBDec: true, rule: { kind: "relu" } });
});

Deno.test("diagnoseSae() finds the same under a fixed normalization that was read", async () => {
  const { sae, x } = hideConvention({ normalization: "mean, scalar", subtractBDec: false });
  const { options } = await diagnose(sae, [variantOf("patches", x)]);
  const again = await diagnose(createSae({ ...sae, ...options }), [variantOf("patches", x)]);
  assert.equal(again.verdict, "fits");
  assert.equal(again.best.normalization.name, "as read");
  assert.deepEqual(again.options, {});
  const bug = again.candidates.find(({ normalization: { name } }) => name === "clamp bug");
  assert.equal(bug === undefined || bug.explainedVariance < 0.9, true);
});

Deno.test("diagnoseSae() tells the embedded SAE's layer from those below and above, and its tokens", async () => {
  const sae = await loadSae(embeddedPaths().sae);
  const { shape: [nImages, nStages, tokensPerImage], data } = await readArray("tiny_clip/residual_stream.npy");
  const variant = (layer: number, tokens: "patches" | "cls"): ActivationVariant => ({
    name: `layer ${layer}, ${tokens}`,
    layer,
    async *batches() {
      for (let image = 0; image < nImages; image++) {
        // The first stage is what enters layer 0.
        const start = (image * nStages + layer + 1) * tokensPerImage;
        const [first, end] = tokens === "cls" ? [start, start + 1] : [start + 1, start + tokensPerImage];
        yield data.subarray(first * sae.dModel, end * sae.dModel);
      }
    },
  });
  const fits = await diagnose(sae, [variant(3, "patches")], { nScreenTokens: 64 });
  assert.equal(fits.verdict, "fits");
  assert.deepEqual(fits.warnings, []);
  assert.deepEqual([fits.best.nTokens, fits.best.meanL0], [512, 16]);
  assert.ok(fits.best.explainedVariance > 0.95);

  const neighbours = [variant(2, "patches"), variant(3, "patches"), variant(4, "patches"), variant(3, "cls")];
  const wrong = await diagnose(sae, neighbours, { nTokens: 128, nScreenTokens: 32 });
  assert.equal(wrong.verdict, "fitsOtherwise");
  assert.match(wrong.text, /^Belongs to layer 3, patches: .* On layer 2, patches, as it was read, it explains 8/);
  assert.deepEqual([wrong.best.variant, wrong.options, wrong.nTried], ["layer 3, patches", {}, 216]);

  const below = await diagnose(sae, [variant(2, "patches")], { nScreenTokens: 64 });
  assert.deepEqual(below.warnings, [
    "These are activations of layer 2, the SAE says that it belongs to layer 3",
  ]);

  const cls = await diagnose(sae, [variant(3, "cls")]);
  assert.equal(cls.verdict, "fitsNothing");
  assert.match(cls.text, /^Fits nothing: of 54 conventions the best explains .*GELU \(exact or quick\)/);
  assert.match(cls.warnings[0], /^8 tokens are few/);
  assert.equal(cls.sidecar, undefined);
});

Deno.test("diagnoseSae() finds what saev's checkpoint of February 2025 was trained with, by its numbers", async () => {
  const name = "saev/v0_feb2025_Relu";
  const { data: x } = await readArray("saev/x.npy");
  const { data: latents } = await readArray(`${name}.f_x.npy`);
  const { data: reconstruction } = await readArray(`${name}.x_hat.npy`);
  const expected = {
    l0: latents.filter((value) => value > 0).length / 16,
    mse: x.reduce((total, value, i) => total + (value - reconstruction[i]) ** 2, 0) / x.length,
  };
  assert.equal(expected.l0, 61.9375);
  const sae = await loadSae(fixture(`${name}.pt`), { subtractBDec: false });
  const found = await diagnose(sae, [variantOf("x", x)], { expected });
  assert.equal(found.verdict, "fitsOtherwise", found.text);
  assert.deepEqual(found.options, { subtractBDec: true });
  assert.equal(found.best.meanL0, expected.l0);
  assert.ok(found.warnings.includes(
    "The card's numbers come out, but these activations are hardly reconstructed: check both",
  ));
  assert.ok(Math.abs(found.best.mse / expected.mse - 1) < 1e-5);
});

Deno.test("diagnoseSae() finds that CLIP-Scope was trained on standardized batches, by its training's numbers", async () => {
  const { data: x } = await readArray("doctor/clip_scope_batch_x.npy");
  const sae = await loadSae(fixture("clip_scope/1200013184.pt"));
  // What upstream's training_step logs of this batch.
  const expected = { l0: 4, mse: 0.5520838499069214 };
  const found = await diagnose({ ...sae, normalization: undefined }, [variantOf("x", x)], { expected });
  assert.ok(["mean, std", "batch"].includes(found.best.normalization.name), found.best.normalization.name);
  assert.equal(found.best.subtractBDec, true);
  assert.ok(Math.abs(found.best.mse / expected.mse - 1) < 1e-4, `${found.best.mse}`);
  assert.equal(found.sidecar?.normalization.kind, "affine");
  assert.ok(found.warnings.includes("L0 tells nothing here: TopK keeps 4 latents whatever the activations are"));

  const asTrained = await diagnose({ ...sae, normalization: { kind: "batch", epsilon: 1e-6 } }, [variantOf("x", x)], {
    expected,
  });
  assert.deepEqual([asTrained.verdict, asTrained.options], ["fits", {}]);
});

Deno.test("diagnoseSae() does not take biases, silence or what is not finite for a fit", async () => {
  const { sae, x } = hideConvention({ normalization: "none", subtractBDec: true });
  const cases: [Partial<Sae>, RegExp][] = [
    [{ bEnc: new Float32Array(9).fill(-1e6) }, /has no active latent on 700 tokens/],
    [{ bEnc: new Float32Array(9).fill(NaN) }, /has no active latent on 700 tokens/],
    [{ wDec: sae.wDec.with(0, NaN) }, /gives no finite numbers/],
    [{ wDec: new Float32Array(9 * dModel) }, /reconstructs worse than the mean would/],
  ];
  for (const [changes, numbers] of cases) {
    const found = await diagnose({ ...sae, ...changes }, [variantOf("patches", x)]);
    assert.equal(found.verdict, "fitsNothing", found.text);
    assert.match(found.text, numbers);
    assert.equal(found.sidecar, undefined);
  }
  // Tokens of one direction: layer norm gives most of each back with no latent at all.
  const ramp = Array.from({ length: dModel }, (_, d) => d - 6 + (d % 3));
  const scales = Array.from({ length: 300 }, (_, t) => 1 + t % 17);
  const tokens = Float32Array.from(scales.flatMap((scale) => ramp.map((value) => scale * value)));
  const mean = ramp.reduce((total, value) => total + value, 0) / dModel;
  const std = Math.sqrt(ramp.reduce((total, value) => total + (value - mean) ** 2, 0) / (dModel - 1));
  const bDec = Float32Array.from(ramp, (value) => (value - mean) / std);
  const biased = await diagnose({ ...sae, bDec, wDec: sae.wDec.map((value) => value / 1e4) }, [variantOf("x", tokens)]);
  assert.equal(biased.verdict, "fitsNothing", biased.text);
  assert.ok(biased.best.explainedVariance > 0.99);
  assert.match(biased.text, /most of it by its biases alone/);
});

Deno.test("diagnoseSae() refuses what it cannot measure", async () => {
  const { sae, x } = hideConvention({ normalization: "none", subtractBDec: true });
  const cases: [ActivationVariant[], string][] = [
    [[], "Cannot diagnose SAE: there must be activations, there are none"],
    [[variantOf("x")], "Cannot measure activations: there must be tokens, there are none"],
    [
      [variantOf("x", x.subarray(0, 14))],
      "Cannot measure activations: batches must have shape [nTokens, 13], current length is 14",
    ],
    [
      [variantOf("x", x.subarray(0, 26), x.subarray(0, 26).with(15, NaN))],
      "Cannot measure activations: they must be finite, current value at token 3, dimension 2 is NaN",
    ],
  ];
  for (const [variants, message] of cases) {
    await assert.rejects(diagnose(sae, variants), { name: "RangeError", message });
  }
  await assert.rejects(diagnose(sae, [variantOf("x", x)], { nTokens: 0 }), {
    name: "RangeError",
    message: "Cannot diagnose SAE: nTokens must be an integer of 1 or more, current value is 0",
  });
  const one = await diagnose(sae, [variantOf("x", x.subarray(0, 13))]);
  assert.equal(one.verdict, "fitsNothing");
});

Deno.test("diagnoseSae() reports progress up to the end, stops when told, and changes nothing it was given", async () => {
  const { sae, x } = hideConvention({ normalization: "mean", subtractBDec: true });
  const before = [x.slice(), sae.bDec.slice(), sae.wEnc.slice()];
  const steps: [number, number][] = [];
  await diagnose(sae, [variantOf("x", x)], { onProgress: (done, total) => steps.push([done, total]) });
  assert.deepEqual(steps.at(-1), [steps[0][1], steps[0][1]]);
  assert.deepEqual(steps.map(([done]) => done).toSorted((a, b) => a - b), steps.map(([done]) => done));
  assert.deepEqual([x, sae.bDec, sae.wEnc], before);

  const reason = new Error("enough");
  await assert.rejects(diagnose(sae, [variantOf("x", x)], { signal: AbortSignal.abort(reason) }), reason);
});
