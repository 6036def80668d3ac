import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { openShards } from "../../lib/shards/read.ts";
import { makeImages, makeSae, modelPath, runCli, startCli, withFolder } from "./support.ts";

const nothingWritten = "Stopped. Nothing was written\n";
const stopped = "Stopped. What is done is kept: run the same command again to go on\n";
const copies = 30;
const nImages = 24 * copies;

/** A folder of many images, and the arguments that record them in small batches and shards. */
async function withManyImages(use: (parts: { folder: string; record: (out: string) => string[] }) => Promise<void>) {
  await withFolder(async (folder) => {
    const images = await makeImages(join(folder, "images"), { count: 24, copies });
    const record = (out: string) => [
      ...["record", "--model", modelPath, "--images", images, "--layers", "0", "--out", join(folder, out)],
      ...["--batch-size", "8", "--shard-mb", "2"],
    ];
    await use({ folder, record });
  });
}

async function activationsOf(directory: string): Promise<{ images: number[]; values: number[] }> {
  const shards = await openShards(directory);
  const images: number[] = [];
  const values: number[] = [];
  for await (const batch of shards.readBatches({ layer: 0, tokens: "all" })) {
    images.push(...batch.imageIndices);
    // One token of each image tells whether the image is in its place.
    batch.imageIndices.forEach((_, i) =>
      values.push(...batch.activations.subarray((65 * i + 9) * 192, (65 * i + 9) * 192 + 4))
    );
  }
  await shards.close();
  return { images, values };
}

async function progressOf(directory: string): Promise<{ n_done: number; shards: { file: string }[] }> {
  return JSON.parse(await readFile(join(directory, "recording.json"), "utf8"));
}

const ignore = process.platform === "win32";

Deno.test({
  name: "record keeps what is done when it is interrupted or killed, and goes on to the complete recording",
  ignore,
  fn: () =>
    withManyImages(async ({ folder, record }) => {
      const out = join(folder, "resumed");
      const interrupted = startCli(...record("resumed"));
      await interrupted.printed("Record …");
      interrupted.kill("SIGINT");
      const first = await interrupted.ended;
      assert.equal(first.status, 130, first.stderr);
      assert.equal(first.stdout, "");
      assert.match(first.stderr, /^Record …\nRecord: \d+\/720 images.*\n/);
      assert.ok(first.stderr.endsWith(stopped), first.stderr);
      const afterFirst = await progressOf(out);
      assert.ok(afterFirst.n_done > 0 && afterFirst.n_done < nImages, String(afterFirst.n_done));
      assert.deepEqual((await readdir(out)).filter((name) => name.endsWith(".partial")), []);

      const killed = startCli(...record("resumed"));
      await killed.printed("Record …");
      killed.kill("SIGKILL");
      assert.equal((await killed.ended).status, 137);
      const afterKill = await progressOf(out);
      assert.ok(afterKill.n_done >= afterFirst.n_done && afterKill.n_done < nImages, String(afterKill.n_done));

      const { status, stdout } = await runCli(...record("resumed"), "--json");
      assert.equal(status, 0);
      assert.equal(JSON.parse(stdout).n_images, nImages);
      assert.deepEqual((await readdir(out)).filter((name) => !name.startsWith("shard_")), ["metadata.json"]);

      assert.equal((await runCli(...record("straight"))).status, 0);
      const [resumed, straight] = await Promise.all([activationsOf(out), activationsOf(join(folder, "straight"))]);
      assert.deepEqual(resumed.images, Array.from({ length: nImages }, (_, i) => i));
      assert.deepEqual(resumed.images, straight.images);
      assert.ok(resumed.values.every((value, i) => Math.abs(value - straight.values[i]) < 1e-5));
    }),
});

Deno.test({
  name: "summarize and atlas leave nothing half-written when they are interrupted",
  ignore,
  fn: () =>
    withManyImages(async ({ folder, record }) => {
      const at = (name: string) => join(folder, name);
      assert.equal((await runCli(...record("shards"))).status, 0);
      await makeSae(at("sae"), { dSae: 2048 });
      const parts = ["--shards", at("shards"), "--sae", at("sae"), "--backend", "cpu"];
      const summarize = ["summarize", ...parts, "--layer", "0", "--out", at("summary")];
      const atlas = ["atlas", ...parts, "--summary", at("summary"), "--out", at("atlas")];

      const summarizing = startCli(...summarize, "--json");
      // With --json nothing tells how far it is; its folder is there from the start of the pass.
      while (!(await readdir(folder)).includes("summary")) await new Promise((resolve) => setTimeout(resolve, 5));
      summarizing.kill("SIGINT");
      const { status, stdout, stderr } = await summarizing.ended;
      assert.deepEqual({ status, stderr }, { status: 130, stderr: nothingWritten });
      assert.equal(JSON.parse(stdout).error + "\n", nothingWritten);
      assert.deepEqual(await readdir(at("summary")), []);

      assert.equal((await runCli(...summarize)).status, 0);
      const drawing = startCli(...atlas);
      await drawing.printed("Atlas …");
      drawing.kill("SIGINT");
      const drawn = await drawing.ended;
      assert.equal(drawn.status, 130, drawn.stderr);
      assert.ok(drawn.stderr.endsWith(nothingWritten), drawn.stderr);
      assert.deepEqual((await readdir(folder)).sort(), ["images", "sae", "shards", "summary"]);
    }),
});
