import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { SummaryAccumulator, type SummarySource } from "../../lib/summary/accumulate.ts";
import { saveSummary, type StoredSummary } from "../../lib/summary/file.ts";
import { mergeSummaries } from "../../lib/summary/summarize.ts";
import { accumulate, anyImages, dSae, imagesPerLatent, source, type SyntheticImage } from "./synthetic_latents.ts";

/** The bytes that a summary is saved as: everything that it knows. */
async function savedBytes(stored: StoredSummary): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-merge-"));
  try {
    await saveSummary(stored, join(folder, "summary.arrow"));
    return await readFile(join(folder, "summary.arrow"));
  } finally {
    await rm(folder, { recursive: true });
  }
}

const stored = (images: readonly SyntheticImage[], batchSize?: number): StoredSummary => ({
  accumulated: accumulate(images, { batchSize }),
  source,
});

Deno.test("mergeSummaries() is the same to the last bit, however images are split, ordered and merged", async () => {
  const choices = fc.infiniteStream(fc.nat(1_000_000));
  await fc.assert(
    fc.asyncProperty(anyImages, fc.integer({ min: 1, max: 5 }), choices, async (images, nParts, stream) => {
      const choose = (n: number) => stream.next().value! % n;
      const split: SyntheticImage[][] = Array.from({ length: nParts }, () => []);
      // Each image into some part, at some place in it; parts may be empty.
      for (const image of images) {
        const part = split[choose(nParts)];
        part.splice(choose(part.length + 1), 0, image);
      }
      let parts = split.map((part) => stored(part, 1 + choose(3)));
      while (parts.length > 1) {
        const group = Array.from({ length: 1 + choose(parts.length) }, () => parts.splice(choose(parts.length), 1)[0]);
        parts = [...parts, mergeSummaries(group)];
      }
      assert.deepEqual(await savedBytes(parts[0]), await savedBytes(stored(images)));
    }),
    { seed: 1, numRuns: 150 },
  );
});

Deno.test("mergeSummaries() leaves its inputs as they are", async () => {
  const image = (imageIndex: number, value: number) => ({ imageIndex, tokens: [[[0, value] as const], [], []] });
  const parts = [stored([image(1, 2), image(8, 1)]), stored([image(2, 3)])];
  const before = await Promise.all(parts.map(savedBytes));
  const merged = mergeSummaries(parts);
  assert.deepEqual(await Promise.all(parts.map(savedBytes)), before);
  assert.deepEqual([merged.accumulated.nImages, merged.accumulated.sum(0)], [3, 6]);
  assert.deepEqual(await savedBytes(mergeSummaries([parts[0]])), before[0]);
});

Deno.test("mergeSummaries() refuses the same image twice", () => {
  const image = (imageIndex: number) => ({ imageIndex, tokens: [[[4, 1] as const], [], []] });
  assert.throws(
    () => mergeSummaries([stored([image(1), image(2)]), stored([image(5)]), stored([image(3), image(2)])]),
    {
      name: "Error",
      message: "Cannot merge summaries: they must cover different images, both hold image 2",
    },
  );
});

Deno.test("mergeSummaries() refuses summaries of different things, by name", () => {
  const others: [string, SummarySource, string | number, string | number][] = [
    ["model", { ...source, model: { path: "models/tiny.onnx", sha256: "ffff" } }, "0123", "ffff"],
    ["layer", { ...source, layer: 4 }, 3, 4],
    ["tokens", { ...source, tokens: "all" }, "patches", "all"],
    ["sae", { ...source, sae: { path: "sae", sha256: "eeee" } }, "89ab", "eeee"],
    ["dataset", { ...source, dataset: { ...source.dataset, fingerprint: "dddd" } }, "4567", "dddd"],
  ];
  for (const [name, other, required, current] of others) {
    assert.throws(() => mergeSummaries([stored([]), { ...stored([]), source: other }]), {
      name: "Error",
      message: `Cannot merge summaries: ${name} must be ${required}, current value is ${current}`,
    });
  }
});

Deno.test("mergeSummaries() takes the same things from another place", () => {
  const moved = {
    ...source,
    model: { ...source.model, path: "elsewhere" },
    sae: { ...source.sae, path: "elsewhere" },
    dataset: { ...source.dataset, location: "elsewhere" },
  };
  assert.deepEqual(mergeSummaries([stored([]), { ...stored([]), source: moved }]).source, source);
});

Deno.test("mergeSummaries() refuses other sizes, and nothing at all", () => {
  const sized = (nLatents: number, images: number) => ({
    accumulated: new SummaryAccumulator(nLatents, { imagesPerLatent: images }),
    source,
  });
  for (const [nLatents, images] of [[dSae + 1, imagesPerLatent], [dSae, imagesPerLatent + 1]]) {
    assert.throws(() => mergeSummaries([stored([]), sized(nLatents, images)]), {
      name: "RangeError",
      message: "Cannot merge summaries: both must have 7 latents and 3 images a latent, current ones are " +
        `${nLatents} and ${images}`,
    });
  }
  assert.throws(() => mergeSummaries([]), {
    name: "RangeError",
    message: "Cannot merge summaries: there must be at least one, there is none",
  });
});
