import assert from "node:assert/strict";
import { cp, mkdir, readdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { tableFromArrays, tableToIPC } from "apache-arrow";
import sharp from "sharp";
import { makeImages, makeSae, modelPath, runCli, withFolder } from "./support.ts";

type Values = Record<string, string>;

const command = (name: string, values: Values) => [name, ...Object.entries(values).flatMap(([k, v]) => [`--${k}`, v])];

/** Asserts that a command fails with status 1 and one line, the same with and without --json. */
async function assertFails(args: string[], message: RegExp): Promise<void> {
  const { status, stdout, stderr } = await runCli(...args, "--json");
  assert.equal(status, 1, `${args.join(" ")} printed ${stdout}${stderr}`);
  assert.match(stderr, /^error: [^\n]+\n$/);
  const line = stderr.slice("error: ".length, -1);
  assert.match(line, message);
  assert.deepEqual(JSON.parse(stdout), { error: line });
}

/** A folder with images, two SAEs, a recording of layers 2 and 3 and a summary; shared by tests that change none. */
async function withRecording(use: (folder: string, args: Record<string, (v?: Values) => string[]>) => Promise<void>) {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const images = await makeImages(at("images"));
    await makeSae(at("sae"));
    const defaults: Record<string, Values> = {
      record: { model: modelPath, images, layers: "2,3", out: at("shards") },
      summarize: { shards: at("shards"), layer: "3", sae: at("sae"), out: at("summary"), backend: "cpu" },
      atlas: { shards: at("shards"), summary: at("summary"), sae: at("sae"), out: at("atlas"), backend: "cpu" },
    };
    const args = Object.fromEntries(
      Object.entries(defaults).map(([name, all]) => [name, (v: Values = {}) => command(name, { ...all, ...v })]),
    );
    for (const name of ["record", "summarize"]) assert.equal((await runCli(...args[name]())).status, 0);
    await use(folder, args);
  });
}

Deno.test("record refuses images, models, layers and folders that it cannot use", async () => {
  await withRecording(async (folder, { record }) => {
    const at = (name: string) => join(folder, name);
    await mkdir(at("empty"));
    await writeFile(at("table.arrow"), tableToIPC(tableFromArrays({ size: [1, 2] }), "file"));
    await writeFile(at("text.arrow"), "no table");
    await writeFile(at("text.onnx"), "no model");
    await writeFile(at("cut.onnx"), (await readFile(modelPath)).subarray(0, 5_000_000));
    const [cat] = await readdir(at("images/cats"));
    const resnet = fileURLToPath(new URL("../fixtures/vit/small_resnet.onnx", import.meta.url));
    const cases: [Values, RegExp][] = [
      [{ images: at("nowhere") }, /nowhere": there is no folder or file of that name$/],
      [{ images: at("empty") }, /it holds no images, looked for files ending in png, jpg/],
      [{ images: at(`images/cats/${cat}`) }, /it must be a folder or a file that ends in \.arrow$/],
      [{ images: at("table.arrow") }, /it must have a column image, current columns are size$/],
      [{ images: at("text.arrow") }, /an Arrow IPC file must begin and end with "ARROW1"/],
      [{ model: at("nowhere.onnx") }, /Cannot open ViT .*nowhere\.onnx: .*ENOENT/],
      [{ model: at("text.onnx") }, /Cannot open ViT .*text\.onnx: /],
      [{ model: at("cut.onnx") }, /Cannot open ViT .*cut\.onnx: .*cut short/],
      [{ model: resnet }, /Cannot open ViT .*small_resnet\.onnx: the graph must hold transformer blocks/],
      [{ layers: "6", out: at("new") }, /Cannot record layer 6: layer must be an integer between 0 and 5/],
      [{ layers: "-7", out: at("new") }, /Cannot record layer -7/],
      [{ layers: "3,-3", out: at("new") }, /Cannot record layers \[3, -3\]: .* each only once$/],
      [{ layers: "3" }, /the one in it differs in layers; choose another folder or delete it$/],
      [{ out: at("text.onnx") }, /Cannot write .*text\.onnx: /],
      [{ out: at("text.onnx/below") }, /Cannot write .*below: its parent is a file, choose another folder$/],
    ];
    for (const [values, message] of cases) await assertFails(record(values), message);
    assert.equal((await readdir(folder)).includes("new"), false);
  });
});

Deno.test("record skips and counts images that cannot be read, or stops and names one", async () => {
  await withFolder(async (folder) => {
    const images = await makeImages(join(folder, "images"), { count: 5 });
    const jpeg = await sharp({ create: { width: 99, height: 77, channels: 3, background: "#c40" } }).jpeg().toBuffer();
    await writeFile(join(images, "cats/cut.jpg"), jpeg.subarray(0, jpeg.length - 200));
    await writeFile(join(images, "dogs/text.png"), "not a picture");
    const record = (out: string, ...more: string[]) => [
      ...command("record", { model: modelPath, images, layers: "1", out: join(folder, out) }),
      ...more,
    ];
    const { status, stdout } = await runCli(...record("skip", "--json"));
    assert.equal(status, 0);
    const { n_images, n_tokens, skipped } = JSON.parse(stdout);
    assert.deepEqual({ n_images, n_tokens }, { n_images: 5, n_tokens: 5 * 65 });
    assert.deepEqual(skipped.map(({ name }: { name: string }) => name), ["cats/cut.jpg", "dogs/text.png"]);
    // Words for people come from the same recording, which is not made twice.
    assert.match((await runCli(...record("skip"))).stdout, /^Skipped 2 that could not be read, the first: .*cut\.jpg/m);
    await assertFails(
      record("stop", "--on-bad-image", "error"),
      /Cannot decode image "(cats\/cut\.jpg|dogs\/text\.png)": /,
    );

    const bad = join(folder, "bad");
    await mkdir(bad);
    await writeFile(join(bad, "text.png"), "not a picture");
    await assertFails(
      command("record", { model: modelPath, images: bad, layers: "1", out: join(folder, "none") }),
      /at least one image must be readable, the first of 1 failed with: .*text\.png/,
    );
    assert.deepEqual(await readdir(join(folder, "none")), []);
  });
});

Deno.test({
  name: "record says that the disk is full, and goes on when there is room again",
  ignore: process.platform !== "linux", // /dev/full
  fn: () =>
    withFolder(async (folder) => {
      const images = await makeImages(join(folder, "images"));
      const out = join(folder, "shards");
      await mkdir(out);
      await symlink("/dev/full", join(out, "shard_000000.arrow.partial"));
      const record = command("record", { model: modelPath, images, layers: "0", out });
      await assertFails(record, /^Cannot write .*shard_000000\.arrow: the disk is full, free some space$/);
      assert.deepEqual(await readdir(out), ["recording.json"]);
      assert.equal((await runCli(...record)).status, 0);
      assert.deepEqual((await readdir(out)).sort(), ["metadata.json", "shard_000000.arrow"]);
    }),
});

Deno.test("summarize refuses recordings and SAEs that are not whole or do not fit", async () => {
  await withRecording(async (folder, { summarize, record }) => {
    const at = (name: string) => join(folder, name);
    const copyOf = async (what: string, name: string) => (await cp(at(what), at(name), { recursive: true }), at(name));
    await mkdir(at("empty"));
    await makeSae(at("narrow"), { dModel: 100 });
    await rm(join(await copyOf("sae", "no_cfg"), "cfg.json"));
    await truncate(join(await copyOf("sae", "cut_sae"), "sae_weights.safetensors"), 1000);
    await truncate(join(await copyOf("shards", "cut"), "shard_000000.arrow"), 5000);
    await rm(join(await copyOf("shards", "hole"), "shard_000000.arrow"));
    const unfinished = await copyOf("shards", "unfinished");
    await rename(join(unfinished, "metadata.json"), join(unfinished, "recording.json"));
    const newer = await copyOf("shards", "newer");
    const metadata = JSON.parse(await readFile(join(newer, "metadata.json"), "utf8"));
    await writeFile(join(newer, "metadata.json"), JSON.stringify({ ...metadata, format_version: 9 }));

    const cases: [Values, RegExp][] = [
      [{ layer: "5" }, /^Cannot read layer 5 of .*: layer must be one of 2, 3$/],
      [{ shards: at("nowhere") }, /it must hold metadata\.json; make a recording with `record` first$/],
      [{ shards: at("empty") }, /it must hold metadata\.json/],
      [{ shards: unfinished }, /must be finished, 12 of 12 images are done; run the same record command again/],
      [{ shards: at("cut") }, /shard_000000\.arrow: its size must be \d+ bytes, current size is 5000/],
      [{ shards: at("hole") }, /shard_000000\.arrow: its size must be \d+ bytes, the file is missing/],
      [{ shards: newer }, /format version must be at most 1, current value is 9; update sparsight to read it$/],
      [{ sae: at("nowhere") }, /^Cannot open SAE .*nowhere: there must be a folder or a file of that name/],
      [{ sae: at("empty") }, /^Cannot open SAE .*empty: it must hold sae_weights\.safetensors/],
      [{ sae: at("no_cfg") }, /^Cannot open SAE .*no_cfg: it must hold cfg\.json/],
      [{ sae: at("cut_sae") }, /^Cannot open SAE .*cut_sae: /],
      [{ sae: at("narrow") }, /its dModel must be 192, current value is 100; choose an SAE that was trained/],
      [{ out: at("sae/cfg.json/below") }, /^Cannot write .*below: its parent is a file/],
      [{ "images-per-latent": "70000" }, /imagesPerLatent must be an integer between 1 and 65535/],
    ];
    for (const [values, message] of cases) await assertFails(summarize({ out: at("out"), ...values }), message);
    assert.deepEqual(await readdir(at("out")), []);
    await assertFails(record({ out: newer }), /format version must be at most 1/);
  });
});

Deno.test("atlas refuses parts that do not belong together, and folders of others", async () => {
  await withRecording(async (folder, { record, atlas }) => {
    const at = (name: string) => join(folder, name);
    await makeSae(at("other_sae"), { seed: 2 });
    await makeImages(at("other_images"), { count: 3 });
    assert.equal((await runCli(...record({ images: at("other_images"), out: at("other_shards") }))).status, 0);
    assert.equal((await runCli(...record({ layers: "2", out: at("layer_2") }))).status, 0);
    await writeFile(at("text.arrow"), "no summary");
    await mkdir(at("thesis"));
    await writeFile(at("thesis/chapter.txt"), "precious");
    const cases: [Values, RegExp][] = [
      [{ summary: at("nowhere") }, /^Cannot open summary .*nowhere/],
      [{ summary: at("thesis") }, /^Cannot open summary .*thesis.summary\.arrow/],
      [{ summary: at("text.arrow") }, /^Cannot open summary .*text\.arrow: it must be a whole Arrow file made by summ/],
      [{ sae: at("other_sae") }, /the SAE must be what the summary was made from, .*sae$/],
      [{ shards: at("other_shards") }, /the recording's images must be what the summary was made from, .*images$/],
      [{ shards: at("layer_2") }, /^Cannot read layer 3 of .*: layer must be one of 2$/],
      [{ images: at("other_images") }, /the images must be those that were recorded/],
      [{ latents: "7,40" }, /latent must be an integer between 0 and 39$/],
      [{ out: at("thesis") }, /thesis": the folder must be empty or an atlas that was written before/],
      [{ out: at("text.arrow") }, /^Cannot write atlas to ".*text\.arrow": it must be a folder or free/],
    ];
    for (const [values, message] of cases) await assertFails(atlas(values), message);
    assert.equal(await readFile(at("thesis/chapter.txt"), "utf8"), "precious");
    assert.deepEqual((await readdir(folder)).filter((name) => /atlas|partial/.test(name)), []);

    await rename(at("images"), at("moved"));
    await assertFails(atlas(), /there is no folder or file of that name; if the images have moved, say where with --i/);
    const { status, stdout } = await runCli(...atlas({ images: at("moved"), latents: "0, 5" }), "--json");
    assert.equal(status, 0);
    assert.equal(JSON.parse(stdout).n_pages, 2);
  });
});
