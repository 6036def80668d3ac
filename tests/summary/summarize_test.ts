import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { createSae } from "../../lib/sae/sae.ts";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { collectHeatmaps } from "../../lib/summary/heatmaps.ts";
import { fingerprintSae, mergeSummaries, summarize } from "../../lib/summary/summarize.ts";
import { viewSummary } from "../../lib/summary/summary.ts";
import { randomIntegers, randomWeights, referenceEncode, seededRandom } from "../support/reference.ts";
import { writeTinyRecording } from "./tiny_recording.ts";

const dModel = 5;
const dSae = 9;
const nImages = 11;
const nSpecialTokens = 2; // CLS and a register
const tokensPerImage = nSpecialTokens + 6;
const shape = { dModel, gridHeight: 2, gridWidth: 3, nSpecialTokens };
// Some images of the source could not be read.
const imageIndices = [0, 1, 3, 4, 5, 8, 9, 12, 13, 20, 21];

// Small integers, so that every sum is exact in float32 and the reference agrees to the last bit.
const activations = randomIntegers(nImages * tokensPerImage * dModel, seededRandom(5), { limit: 4 });
const sae = createSae(
  randomWeights({ dModel, dSae }, { rule: { kind: "topK", k: 4, relu: true }, integers: true, seed: 6 }),
);

async function withShards(body: (shards: Shards) => Promise<void>, options = {}): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-summarize-"));
  try {
    await writeTinyRecording(folder, activations, { ...shape, imageIndices, ...options });
    const shards = await openShards(folder);
    try {
      await body(shards);
    } finally {
      await shards.close();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The latent on every token of an image, special ones included, in plain loops. */
function reference(latent: number, image: number): number[] {
  const length = tokensPerImage * dModel;
  const { offsets, indices, values } = referenceEncode(sae, activations.subarray(image * length, (image + 1) * length));
  return Array.from({ length: tokensPerImage }, (_, token) => {
    const entry = indices.subarray(0, offsets[token + 1]).indexOf(latent, offsets[token]);
    return entry < 0 ? 0 : values[entry];
  });
}

Deno.test("summarize() agrees with plain loops, for patches, CLS and all tokens", async () => {
  const backend = await createCpuBackend({ threads: 1 });
  const ranges = { patches: [nSpecialTokens, tokensPerImage], cls: [0, 1], all: [0, tokensPerImage] } as const;
  await withShards(async (shards) => {
    for (const tokens of ["patches", "cls", "all"] as const) {
      const { accumulated, source } = await summarize(shards, sae, { backend, layer: 3, tokens, imagesPerLatent: 4 });
      const summary = viewSummary(accumulated, source);
      const [first, end] = ranges[tokens];
      assert.deepEqual([summary.nImages, summary.nTokens], [nImages, nImages * (end - first)]);
      for (let latent = 0; latent < dSae; latent++) {
        const rows = imageIndices.map((imageIndex, image) => {
          const values = reference(latent, image).slice(first, end);
          const value = Math.max(...values);
          return {
            imageIndex,
            value,
            patchIndex: Math.max(-1, first + values.indexOf(value) - nSpecialTokens),
            values,
          };
        });
        const found = summary.latent(latent);
        assert.equal(found.nActive, rows.flatMap(({ values }) => values).filter((value) => value > 0).length);
        assert.deepEqual(
          found.topImages,
          rows.filter(({ value }) => value > 0).sort((a, b) => b.value - a.value || a.imageIndex - b.imageIndex)
            .slice(0, 4).map(({ values: _, ...rest }) => rest),
        );
      }
    }
  });
  await backend.close();
});

Deno.test("summarize() says what the summary was made from", async () => {
  const backend = await createCpuBackend({ threads: 1 });
  await withShards(async (shards) => {
    const progress: [number, number][] = [];
    const onProgress = (done: number, total: number) => progress.push([done, total]);
    const { source, accumulated } = await summarize(shards, sae, { backend, layer: -1, saePath: "saes/a", onProgress });
    assert.deepEqual(source, {
      model: { path: "models/tiny.onnx", sha256: "0123" },
      layer: 3,
      tokens: "patches",
      sae: { path: "saes/a", sha256: fingerprintSae(sae) },
      dataset: { kind: "folder", location: "images", fingerprint: "4567" },
      gridHeight: 2,
      gridWidth: 3,
    });
    assert.equal(accumulated.imagesPerLatent, 16);
    assert.deepEqual(progress, [[4, 11], [8, 11], [11, 11]]);
  });
  await backend.close();
});

Deno.test("summarize() of parts, merged, is the summary of the whole", async () => {
  const backend = await createCpuBackend({ threads: 1 });
  const length = tokensPerImage * dModel;
  const parts = [[0, 4], [4, 5], [5, 11]].map(([first, end]) => async () => {
    const folder = await mkdtemp(join(tmpdir(), "sparsight-summarize-"));
    await writeTinyRecording(folder, activations.subarray(first * length, end * length), {
      ...shape,
      imageIndices: imageIndices.slice(first, end),
    });
    const shards = await openShards(folder);
    try {
      return await summarize(shards, sae, { backend, layer: 3 });
    } finally {
      await shards.close();
      await rm(folder, { recursive: true });
    }
  });
  await withShards(async (shards) => {
    const whole = await summarize(shards, sae, { backend, layer: 3 });
    const merged = mergeSummaries([await parts[2](), await parts[0](), await parts[1]()]);
    assert.deepEqual(merged.source, whole.source);
    const { sketch, ...numbers } = merged.accumulated;
    const { sketch: wholeSketch, ...wholeNumbers } = whole.accumulated;
    assert.deepEqual(numbers, wholeNumbers);
    for (let latent = 0; latent < dSae; latent++) {
      assert.deepEqual([...sketch.bins(latent)], [...wholeSketch.bins(latent)]);
    }
  });
  await backend.close();
});

Deno.test("summarize() refuses an SAE of another width, layers that were not recorded, and stops when told", async () => {
  const backend = await createCpuBackend({ threads: 1 });
  await withShards(async (shards) => {
    const wide = createSae(randomWeights({ dModel: 6, dSae: 2 }, { rule: { kind: "relu" } }));
    await assert.rejects(summarize(shards, wide, { backend, layer: 3 }), {
      name: "RangeError",
      message: /^Cannot use this SAE on .*: its dModel must be 5, current value is 6; choose an SAE/,
    });
    await assert.rejects(summarize(shards, sae, { backend, layer: 2 }), {
      name: "RangeError",
      message: /^Cannot read layer 2 of .*: layer must be one of 3$/,
    });
    await assert.rejects(summarize(shards, sae, { backend, layer: 3, signal: AbortSignal.abort() }), {
      name: "AbortError",
    });
  });
  await withShards(async (shards) => {
    await assert.rejects(summarize(shards, sae, { backend, layer: 3, tokens: "cls" }), {
      name: "RangeError",
      message: "Cannot read CLS: the model must have a CLS token, this one has only patches",
    });
  }, { nSpecialTokens: 0, gridWidth: 4 });
  await backend.close();
});

Deno.test("fingerprintSae() changes with the weights and the rule, and not with where the SAE belongs", () => {
  const { wDec } = sae;
  const fingerprint = fingerprintSae(sae);
  assert.match(fingerprint, /^[0-9a-f]{64}$/);
  assert.equal(fingerprintSae({ ...sae, provenance: { layer: 1 } }), fingerprint);
  const moved = new Float32Array(wDec.length + 1);
  moved.set(wDec, 1);
  assert.equal(fingerprintSae({ ...sae, wDec: moved.subarray(1) }), fingerprint);
  const others = [
    { ...sae, wDec: wDec.with(7, wDec[7] + 1) },
    { ...sae, subtractBDec: !sae.subtractBDec },
    { ...sae, rule: { kind: "topK", k: 3, relu: true } as const },
  ];
  for (const other of others) assert.notEqual(fingerprintSae(other), fingerprint);
});

Deno.test("fingerprintSae() of a JumpReLU changes with every threshold, and not with the buffer they are in", () => {
  const threshold = Float32Array.from({ length: dSae }, (_, latent) => latent / 2);
  const withThreshold = (threshold: Float32Array) => fingerprintSae({ ...sae, rule: { kind: "jumpRelu", threshold } });
  const fingerprint = withThreshold(threshold);
  const moved = new Float32Array(dSae + 2);
  moved.set(threshold, 1);
  assert.equal(withThreshold(moved.subarray(1, dSae + 1)), fingerprint);
  const others = Array.from({ length: dSae }, (_, latent) => withThreshold(threshold.with(latent, -1)));
  const relu = fingerprintSae({ ...sae, rule: { kind: "relu" } });
  assert.equal(new Set([fingerprint, relu, ...others]).size, dSae + 2);
});

Deno.test("fingerprintSae() of an SAE without thresholds is what stored summaries hold", () => {
  const zeros = createSae({
    dModel: 1,
    dSae: 2,
    wEnc: new Float32Array(2),
    bEnc: new Float32Array(2),
    wDec: new Float32Array(2),
    bDec: new Float32Array(1),
    subtractBDec: true,
    rule: { kind: "topK", k: 1, relu: true },
  });
  // Of the text and 28 zero bytes.
  const text = new TextEncoder().encode('[{"kind":"topK","k":1,"relu":true},true]');
  const expected = createHash("sha256").update(text).update(new Uint8Array(28)).digest("hex");
  assert.equal(fingerprintSae(zeros), expected);
});

Deno.test("collectHeatmaps() holds the latent on each patch of each image wanted", async () => {
  const backend = await createCpuBackend({ threads: 1 });
  await withShards(async (shards) => {
    const images = [9, 0, 10, 1];
    const wanted = images.flatMap((image) => [8, 2, 0].map((latent) => ({ latent, imageIndex: imageIndices[image] })));
    const heat = await collectHeatmaps(shards, sae, { backend, layer: 3, wanted: [...wanted, wanted[0]] });
    let nActive = 0;
    for (const image of images) {
      for (const latent of [8, 2, 0]) {
        const expected = Float32Array.from(reference(latent, image).slice(nSpecialTokens));
        nActive += expected.filter((value) => value > 0).length;
        assert.deepEqual(heat(latent, imageIndices[image]), expected);
      }
    }
    assert.ok(nActive > 5, "the latents must be active somewhere");
  });
  await backend.close();
});

Deno.test("collectHeatmaps() gives nothing for what was not wanted or not recorded", async () => {
  const backend = await createCpuBackend({ threads: 1 });
  await withShards(async (shards) => {
    const wanted = [{ latent: 1, imageIndex: 3 }, { latent: 1, imageIndex: 2 }];
    const heat = await collectHeatmaps(shards, sae, { backend, layer: 3, wanted });
    assert.equal(heat(1, 3)?.length, 6);
    assert.deepEqual([heat(1, 2), heat(2, 3), heat(1, 0)], [undefined, undefined, undefined]);
    for (const latent of [-1, dSae, 0.5]) {
      await assert.rejects(collectHeatmaps(shards, sae, { backend, layer: 3, wanted: [{ latent, imageIndex: 3 }] }), {
        name: "RangeError",
        message: `Cannot collect heat maps: latent must be an integer between 0 and 8, current value is ${latent}`,
      });
    }
  });
  await backend.close();
});

Deno.test("collectHeatmaps() reads only the batches that hold a wanted image", async () => {
  const backend = await createCpuBackend({ threads: 1 });
  await withShards(async (shards) => {
    const progress: [number, number][] = [];
    await collectHeatmaps(shards, sae, {
      backend,
      layer: 3,
      wanted: [{ latent: 0, imageIndex: 20 }, { latent: 0, imageIndex: 0 }],
      onProgress: (done, total) => progress.push([done, total]),
    });
    assert.deepEqual(progress, [[1, 2], [2, 2]]);
  });
  await backend.close();
});
