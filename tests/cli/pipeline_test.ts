import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openBackend } from "../../lib/compute/select.ts";
import { openImages } from "../../lib/images/open.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { openShards } from "../../lib/shards/read.ts";
import { openSummary } from "../../lib/summary/file.ts";
import { summarize } from "../../lib/summary/summarize.ts";
import { viewSummary } from "../../lib/summary/summary.ts";
import { recordActivations } from "../../lib/vit/record.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { type CliRun, makeImages, makeSae, modelPath, runCli, withFolder } from "./support.ts";

const resultOf = ({ status, stdout, stderr }: CliRun) => {
  assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
  return JSON.parse(stdout);
};

Deno.test("record, summarize and atlas agree with the library, number by number", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const images = await makeImages(at("images"));
    await makeSae(at("sae"));

    const recorded = resultOf(
      await runCli(
        "record",
        "--model",
        modelPath,
        "--images",
        images,
        "--layers",
        "2,-3",
        "--out",
        at("shards"),
        "--json",
      ),
    );
    assert.deepEqual(recorded, {
      out: at("shards"),
      n_images: 12,
      n_tokens: 12 * 65,
      layers: [2, 3],
      d_model: 192,
      n_shards: 1,
      skipped: [],
    });
    const shards = await openShards(at("shards"));
    const source = await openImages(images);
    assert.deepEqual([0, 11].map((i) => source.info(i).label), ["cats", "dogs"]);
    const [direct] = await Array.fromAsync(
      recordActivations(await openVit(modelPath), source, { layers: [2, 3] }),
    );
    for (const [i, layer] of [2, 3].entries()) {
      const [batch] = await Array.fromAsync(shards.readBatches({ layer, tokens: "all" }));
      assert.deepEqual(batch.imageIndices, direct.imageIndices);
      assert.deepEqual(batch.activations, direct.activations[i]);
    }

    const summarized = resultOf(
      await runCli(
        "summarize",
        "--shards",
        at("shards"),
        "--layer",
        "3",
        "--sae",
        at("sae"),
        "--out",
        at("summary"),
        "--backend",
        "cpu",
        "--json",
      ),
    );
    const backend = await openBackend({ backend: "cpu" });
    const expected = await summarize(shards, await loadSae(at("sae")), { backend, layer: 3 });
    await backend.close();
    await shards.close();
    const view = viewSummary(expected.accumulated, expected.source);
    const nDead = Array.from({ length: 40 }, (_, i) => view.latent(i)).filter(({ nActive }) => nActive === 0).length;
    assert.deepEqual(summarized, {
      out: at("summary/summary.arrow"),
      n_images: 12,
      n_tokens: 12 * 64,
      d_sae: 40,
      n_dead: nDead,
      mean_l0: view.meanL0,
    });
    const stored = await openSummary(at("summary/summary.arrow"));
    assert.deepEqual(stored.accumulated.nActive, expected.accumulated.nActive);
    assert.deepEqual(stored.accumulated.topImages, expected.accumulated.topImages);
    assert.deepEqual(stored.accumulated.topValues, expected.accumulated.topValues);

    const atlas = (...more: string[]) =>
      runCli(
        "atlas",
        "--shards",
        at("shards"),
        "--summary",
        at("summary"),
        "--sae",
        at("sae"),
        "--out",
        at("atlas"),
        "--backend",
        "cpu",
        ...more,
      );
    const { topImages } = view.latent(7);
    const written = resultOf(
      await atlas("--latents", "7", "--images-per-page", "5", "--title", "Cats & dogs", "--json"),
    );
    assert.deepEqual(written, {
      index: at("atlas/index.html"),
      n_pages: 1,
      n_images: Math.min(5, topImages.length),
    });
    assert.match(await readFile(written.index, "utf8"), /<title>Cats &amp; dogs/);
    const page = await readFile(at("atlas/latents/0007.html"), "utf8");
    assert.ok(page.includes(source.info(topImages[0].imageIndex).name));

    // A second atlas takes the place of the first, and says for people where it is.
    const { status, stdout, stderr } = await atlas();
    assert.equal(status, 0);
    assert.equal(
      stdout,
      `Wrote ${40 - nDead} pages about latents, with 12 images\nOpen the atlas: file://${at("atlas/index.html")}\n`,
    );
    assert.match(stderr, /^Heat maps …\nHeat maps: 1\/1 batches.*\nAtlas …\nAtlas: \d+\/\d+ images and pages, .*\n$/);
    assert.deepEqual((await readdir(at("atlas/latents"))).length, 40 - nDead);
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(stdout + stderr, /\x1b/);
  });
});

Deno.test("summarize takes images as well as a recording, and counts those that it leaves out", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const images = await makeImages(at("images"));
    await writeFile(join(images, "cats", "torn.png"), "no picture");
    await makeSae(at("sae"));
    const shared = ["--layer", "3", "--sae", at("sae"), "--backend", "cpu", "--json"];
    const record = [
      "record",
      "--model",
      modelPath,
      "--images",
      images,
      "--layers",
      "3",
      "--out",
      at("shards"),
      "--json",
    ];
    assert.equal(resultOf(await runCli(...record)).skipped.length, 1);
    resultOf(await runCli("summarize", "--shards", at("shards"), ...shared, "--out", at("recorded")));
    const straight = ["summarize", "--vit", modelPath, "--images", images, ...shared, "--out", at("straight")];
    const { n_images, n_skipped } = resultOf(await runCli(...straight));
    assert.deepEqual({ n_images, n_skipped }, { n_images: 12, n_skipped: 1 });
    const bytes = (name: string) => readFile(join(at(name), "summary.arrow"));
    assert.deepEqual(await bytes("straight"), await bytes("recorded"));

    for (const wrong of [["--vit", modelPath], ["--shards", at("shards"), "--images", images], []]) {
      const { status, stdout } = await runCli("summarize", ...wrong, ...shared, "--out", at("none"));
      assert.equal(status, 1);
      assert.match(
        JSON.parse(stdout).error,
        /^Cannot summarize: there must be --shards, or --vit and --images, current/,
      );
    }
    assert.equal((await readdir(folder)).includes("none"), false);
  });
});
