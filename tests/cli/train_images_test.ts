import assert from "node:assert/strict";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openRunData, type RunFlags } from "../../cli/runs.ts";
import { condition } from "../../cli/where.ts";
import { openImages } from "../../lib/images/open.ts";
import { trainRun } from "../../lib/runs/run.ts";
import { openShards } from "../../lib/shards/read.ts";
import { imageTokens, type TokenSource, toTokenSource } from "../../lib/train/source.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { saeBytes } from "../runs/tiny_run.ts";
import { makeImages, modelPath, runCli, withFolder } from "./support.ts";

const recipe = { layer: 1, dSae: 40, k: 4, epochs: 2, batchSize: 100 };
const args = [
  ...["--layer", "1", "--d-sae", "40", "--k", "4", "--epochs", "2", "--batch-size", "100", "--threads", "1"],
  "--json",
];
const patches = 64;

/** Runs a command that must not fail; gives its result. */
async function result(...args: string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await runCli(...args);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

async function error(...args: string[]): Promise<string> {
  const { status, stdout } = await runCli(...args);
  assert.notEqual(status, 0);
  return JSON.parse(stdout).error;
}

Deno.test("train --vit --images gives the SAE of trainRun() on those that --where chooses, and measures on others", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await makeImages(at("images"), { count: 10 });
    const data = ["--vit", modelPath, "--images", at("images")];
    const where = ["--where", "label=cats", "--held-out-where", "label=dogs"];
    const first = await result("train", ...data, ...where, ...args, "--out", at("run"));
    assert.equal(first.n_tokens, 2 * 5 * patches);
    assert.equal((first.metrics as Record<string, unknown>).n_tokens, 5 * patches);
    const vit = await openVit(modelPath, { threads: 1 });
    const images = await openImages(at("images"));
    const cats = imageTokens(vit, images, { imageIndices: [0, 1, 2, 3, 4] });
    await trainRun(cats, { ...recipe, directory: at("library"), threads: 1 });
    assert.deepEqual(await saeBytes(at("run")), await saeBytes(at("library")));

    // The same images may be named otherwise; other ones are another run.
    await cp(at("images/dogs"), at("dogs"), { recursive: true });
    const moved = await result(
      "train",
      ...data,
      ...args,
      ...where.slice(0, 2),
      "--held-out",
      at("dogs"),
      "--out",
      at("run"),
    );
    assert.deepEqual([moved.was_finished, moved.metrics], [false, first.metrics]);
    const other = await error("train", ...data, ...args, "--where", "label=dogs", "--out", at("run"));
    assert.match(other, /differs in source\.selection \("\w{64}" there, "\w{64}" now\)/);

    const shown = await runCli("train", ...data, ...args.slice(0, -1), "--pool-mb", "1", "--out", at("shown"));
    assert.match(shown.stderr, /^Look at images …\nLook at images: 10\/10 images.*\nTrain …\nTrain: 14\/14 steps/);
  });
});

Deno.test("train --shards --where finds the labels in the images that were recorded, held-out ones among them", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await makeImages(at("images"), { count: 6 });
    await result(
      "record",
      "--model",
      modelPath,
      "--images",
      at("images"),
      "--layers",
      "1",
      "--out",
      at("shards"),
      "--json",
    );
    const data = ["--shards", at("shards")];
    const where = ["--where", "label=cats", "--held-out-where", "label=dogs"];
    const first = await result("train", ...data, ...where, ...args, "--out", at("run"));
    assert.deepEqual([first.n_tokens, (first.metrics as Record<string, unknown>).n_tokens], [
      2 * 3 * patches,
      3 * patches,
    ]);
    const { source } = JSON.parse(await readFile(at("run/recipe.json"), "utf8"));
    assert.deepEqual([source.kind, source.n_images], ["recording", 3]);

    // A recording of other images of the same model may be held out of images, too.
    const vit = ["--vit", modelPath, "--images", at("images"), "--where", "label=cats"];
    const held = await result("train", ...vit, "--held-out", at("shards"), ...args, "--out", at("held"));
    assert.equal((held.metrics as Record<string, unknown>).n_tokens, 6 * patches);

    await cp(at("images"), at("moved"), { recursive: true });
    await writeFile(at("images/dogs/new.png"), "another image");
    assert.match(
      await error("train", ...data, ...where, ...args, "--out", at("run")),
      /^Cannot choose images of .*shards: --images must be those that were recorded, .*images does not hold them$/,
    );
    assert.match(
      await error("train", ...data, "--images", at("images"), ...where, ...args, "--out", at("run")),
      /--images must be those that were recorded, .*images holds others$/,
    );
    const again = await result("train", ...data, "--images", at("moved"), ...where, ...args, "--out", at("run"));
    assert.equal(again.was_finished, true);
  });
});

/** First numbers of each image's tokens, which no other image has. */
async function imagesOf(source: TokenSource): Promise<Set<number>> {
  const { d_model: width } = source.info;
  const first = new Set<number>();
  for await (const x of source.readBatches({ layer: 1 })) {
    for (let start = 0; start < x.length; start += patches * width) first.add(x[start + width * (patches / 2)]);
  }
  return first;
}

Deno.test("train --where and --held-out-where leave no image in both, and none out, on a recording and on images", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await makeImages(at("images"), { count: 9 });
    // Batches of two: the third holds the last cat and the first dog.
    const record = ["--model", modelPath, "--images", at("images"), "--layers", "1", "--batch-size", "2"];
    await result("record", ...record, "--out", at("shards"), "--json");
    const shards = await openShards(at("shards"));
    const all = await imagesOf(toTokenSource(shards));
    await shards.close();
    assert.equal(all.size, 9);

    const flags: RunFlags = {
      ...{ hook: "residPost", layer: 1, tokens: "patches", poolMb: 1, logEvery: 25, checkpointEvery: 500, threads: 1 },
      ...{ where: condition("label=cats"), heldOutWhere: condition("label=dogs"), json: true },
    };
    const context = { signal: new AbortController().signal, steps: [] };
    for (const data of [{ shards: at("shards") }, { vit: modelPath, images: at("images") }]) {
      await using open = new AsyncDisposableStack();
      const { source, options } = await openRunData({ ...flags, ...data }, { context, open });
      const [trained, heldOut] = [await imagesOf(source), await imagesOf(options.heldOut as TokenSource)];
      assert.deepEqual([trained.size, heldOut.size], [5, 4]);
      assert.deepEqual([...trained].filter((image) => heldOut.has(image)), []);
      // Batches of other images may round otherwise.
      const nearest = [...trained, ...heldOut].map((x) => Math.min(...[...all].map((y) => Math.abs(x - y))));
      assert.ok(Math.max(...nearest) < 1e-4, `they are off by ${Math.max(...nearest)}`);
    }
  });
});

Deno.test("sweep --vit --images trains on them, and train says what to train on where that is not clear", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await makeImages(at("images"), { count: 4 });
    await writeFile(at("sweep.json"), JSON.stringify({ d_sae: 40, epochs: 1, batch_size: 100, grid: { k: [2, 4] } }));
    const data = ["--vit", modelPath, "--images", at("images"), "--layer", "1", "--json"];
    const swept = await result("sweep", "--config", at("sweep.json"), ...data, "--out", at("sweep"));
    const runs = swept.runs as { name: string; n_tokens: number }[];
    assert.deepEqual(runs.map(({ name, n_tokens }) => [name, n_tokens]), [["k=2", 4 * patches], ["k=4", 4 * patches]]);

    const out = ["--out", at("run")];
    const refused = async (data: string[], message: string) =>
      assert.equal(
        await error("train", ...data, ...args, ...out),
        `Cannot train: there must be --shards, or --vit and --images, current options are ${message}`,
      );
    await refused([], "none of them");
    await refused(["--vit", modelPath], "--vit");
    await refused(["--images", at("images")], "--images");
    await refused(["--shards", at("shards"), "--vit", modelPath], "--shards, --vit");
    const usage = await runCli("train", ...data.slice(0, 4), ...args, "--where", "cats", ...out);
    assert.equal(usage.status, 2);
    assert.match(usage.stdout, /It must be a tag and its value, such as split=train/);
  });
});
