import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tableFromArrays, tableFromIPC, tableToIPC } from "apache-arrow";
import fc from "fast-check";
import { SummaryAccumulator } from "../../lib/summary/accumulate.ts";
import { openSummary, saveSummary, type StoredSummary, summaryFormatVersion } from "../../lib/summary/file.ts";
import { viewSummary } from "../../lib/summary/summary.ts";
import { accumulate, anyImages, dSae, imagesPerLatent, source } from "./synthetic_latents.ts";

const images = Array.from({ length: 5 }, (_, i) => ({
  imageIndex: 10 * i,
  tokens: [[[0, 1 + i], [3, 2.5]], [], [[1, 1 / (1 + i)]]] as [number, number][][],
}));

async function withFile(body: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-summary-"));
  try {
    await body(join(folder, "summary.arrow"));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Everything that can be asked of a summary. */
function facts({ accumulated, source }: StoredSummary) {
  const summary = viewSummary(accumulated, source);
  return Array.from({ length: summary.dSae }, (_, latent) => {
    const { quantile, histogram, ...rest } = summary.latent(latent);
    return { ...rest, histogram: histogram(), quantiles: [0, 0.3, 1].map((p) => quantile(p)) };
  });
}

Deno.test("openSummary() gives back what saveSummary() was given, and saving that gives the same bytes", async () => {
  await withFile(async (path) => {
    await fc.assert(
      fc.asyncProperty(anyImages, async (images) => {
        const stored = { accumulated: accumulate(images), source };
        await saveSummary(stored, path);
        const bytes = await readFile(path);
        const opened = await openSummary(path);
        assert.deepEqual(opened.source, source);
        assert.deepEqual(facts(opened), facts(stored));
        await saveSummary(opened, path);
        assert.deepEqual(await readFile(path), bytes);
        assert.deepEqual(await readdir(join(path, "..")), ["summary.arrow"]);
      }),
      { seed: 1, numRuns: 40 },
    );
  });
});

Deno.test("openSummary() goes on where the saved summary stopped", async () => {
  await withFile(async (path) => {
    await saveSummary({ accumulated: accumulate(images.slice(0, 3)), source }, path);
    const { accumulated } = await openSummary(path);
    accumulated.merge(accumulate(images.slice(3)));
    assert.deepEqual(facts({ accumulated, source }), facts({ accumulated: accumulate(images), source }));
  });
});

Deno.test("saveSummary() saves any number of latents, and a summary of nothing", async () => {
  await withFile(async (path) => {
    for (const nLatents of [1, 2, 3, 5, 8, 129]) {
      const accumulated = new SummaryAccumulator(nLatents, { imagesPerLatent: 1 });
      await saveSummary({ accumulated, source }, path);
      assert.deepEqual((await openSummary(path)).accumulated.nActive, new Float64Array(nLatents));
    }
  });
});

Deno.test("saveSummary() writes readable columns, one row a latent", async () => {
  await withFile(async (path) => {
    await saveSummary({ accumulated: accumulate(images), source }, path);
    const table = tableFromIPC(await readFile(path));
    assert.equal(table.numRows, dSae);
    assert.deepEqual(table.schema.fields.map((field) => `${field.name}: ${field.type}`), [
      "latent: Uint32",
      "density: Float64",
      "mean_active: Float64",
      "max_activation: Float32",
      "n_active: Float64",
      "n_images_active: Uint32",
      "top_count: Uint16",
      "top_values: FixedSizeList[3]<Float32>",
      "top_images: FixedSizeList[3]<Uint32>",
      "top_patches: FixedSizeList[3]<Int32>",
      "sum_high: Float64",
      "sum_low: Float64",
      "histogram_bins: List<Uint32>",
      "histogram_counts: List<Uint32>",
    ]);
    const row = table.get(0)!;
    assert.deepEqual([row.latent, row.density, row.mean_active, row.max_activation], [0, 1 / 3, 3, 5]);
    assert.deepEqual([...row.top_images], [40, 30, 20]);
    assert.ok(Number.isNaN(table.get(dSae - 1)!.mean_active));
  });
});

Deno.test("openSummary() refuses a file that was cut short anywhere", async () => {
  await withFile(async (path) => {
    await saveSummary({ accumulated: accumulate(images), source }, path);
    const bytes = await readFile(path);
    for (let length = 0; length < bytes.length; length += 41) {
      await writeFile(path, bytes.subarray(0, length));
      await assert.rejects(openSummary(path), {
        name: "SyntaxError",
        message: `Cannot open summary ${path}: it must be a whole Arrow file made by summarize`,
      }, `${length} of ${bytes.length} bytes`);
    }
  });
});

Deno.test("openSummary() refuses other Arrow files, other bytes, and rows that are missing", async () => {
  await withFile(async (path) => {
    await saveSummary({ accumulated: accumulate(images), source }, path);
    const table = tableFromIPC(await readFile(path));
    const wrong = [
      tableToIPC(tableFromArrays({ latent: Uint32Array.of(0, 1) }), "file"),
      new TextEncoder().encode("not Arrow at all"),
      tableToIPC(table.slice(0, dSae - 1), "file"),
      tableToIPC(table.slice(0, 3).concat(table.slice(3)), "file"),
      tableToIPC(table.select(["latent", "density", "mean_active"]), "file"),
    ];
    for (const bytes of wrong) {
      await writeFile(path, bytes);
      await assert.rejects(openSummary(path), {
        name: "SyntaxError",
        message: `Cannot open summary ${path}: it must be a whole Arrow file made by summarize`,
      });
    }
  });
});

Deno.test("openSummary() refuses a newer format, and says what helps", async () => {
  await withFile(async (path) => {
    await saveSummary({ accumulated: accumulate(images), source }, path);
    const table = tableFromIPC(await readFile(path));
    const [[key, text]] = table.schema.metadata;
    table.schema.metadata.set(key, JSON.stringify({ ...JSON.parse(text), format_version: summaryFormatVersion + 1 }));
    await writeFile(path, tableToIPC(table, "file"));
    await assert.rejects(openSummary(path), {
      name: "RangeError",
      message:
        `Cannot open summary ${path}: format version must be at most 1, current value is 2; update sparsight to ` +
        "read it",
    });
  });
});

Deno.test("openSummary() and saveSummary() say what is wrong with a path", async () => {
  await withFile(async (path) => {
    await assert.rejects(openSummary(path), {
      name: "Error",
      message: `Cannot open summary ${path}: the file must be readable (ENOENT)`,
    });
    const nowhere = join(path, "..", "nowhere", "summary.arrow");
    const accumulated = new SummaryAccumulator(dSae, { imagesPerLatent });
    await assert.rejects(saveSummary({ accumulated, source }, nowhere), {
      name: "Error",
      message: `Cannot write ${nowhere}: its folder does not exist`,
    });
  });
});
