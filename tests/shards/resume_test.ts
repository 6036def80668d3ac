import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, readdir, readFile, rm, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { openShards } from "../../lib/shards/read.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { fixture, imageSource, makePicture, withFolder } from "../vit/fixtures.ts";
import { collect, joinActivations, layers, nImages, openPictures, openSmallVit, smallOptions } from "./recordings.ts";

/** Records in a child process that hangs at an image, and kills it once `done` images are written. */
async function recordAndKill(directory: string, { stallAt, done }: { stallAt: number; done: number }): Promise<void> {
  const script = fileURLToPath(new URL("record_and_stall.ts", import.meta.url));
  const args = ["run", "-A", "--no-check", script, directory, String(stallAt)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exit = once(child, "exit");
  let output = "";
  for await (const chunk of child.stdout) {
    output += chunk;
    if (output.includes(`${done} done\n`)) child.kill("SIGKILL");
  }
  const [, signal] = await exit;
  assert.equal(signal, "SIGKILL", output);
}

async function assertSameFiles(directory: string, expected: string): Promise<void> {
  const names = (await readdir(expected)).sort();
  assert.deepEqual((await readdir(directory)).sort(), names);
  for (const name of names) {
    const [actual, wanted] = await Promise.all([directory, expected].map((folder) => readFile(join(folder, name))));
    assert.ok(actual.equals(wanted), `${name} must hold the same bytes`);
  }
}

Deno.test("writeShards() resumes a killed run, to the same bytes as an uninterrupted one", async () => {
  await withFolder(async (folder) => {
    const killed = join(folder, "killed");
    const whole = join(folder, "whole");
    await recordAndKill(killed, { stallAt: 15, done: 14 });
    assert.deepEqual((await readdir(killed)).sort(), [
      "recording.json",
      "shard_000000.arrow",
      "shard_000001.arrow",
      "shard_000002.arrow",
      "shard_000003.arrow.partial",
    ]);
    await assert.rejects(openShards(killed), {
      name: "Error",
      message: `Cannot read shards in ${killed}: the recording must be finished, 12 of 17 images are done; run the ` +
        "same record command again to resume it",
    });

    const vit = await openSmallVit();
    const pictures = await openPictures();
    const progress: number[][] = [];
    const onProgress = (done: number, total: number) => progress.push([done, total]);
    const metadata = await writeShards(vit, pictures, { ...smallOptions(killed), onProgress });
    assert.equal(pictures.nReads, 5, "only what is left may be read");
    assert.deepEqual(progress, [[14, 17], [16, 17], [17, 17]]);
    assert.deepEqual(metadata.shards.map((shard) => shard.n_images), [4, 4, 4, 4, 1]);

    await writeShards(vit, await openPictures(), smallOptions(whole));
    await assertSameFiles(killed, whole);
  });
});

Deno.test("writeShards() resumes a run that was killed between two files", async () => {
  await withFolder(async (folder) => {
    const whole = join(folder, "whole");
    const vit = await openSmallVit();
    const metadata = await writeShards(vit, await openPictures(), smallOptions(whole));
    const stopped = { ...metadata, n_images: 8, n_tokens: 8 * 17, n_done: 8, shards: metadata.shards.slice(0, 2) };

    // The third shard has its name, but recording.json does not count it yet.
    const before = join(folder, "before");
    await cp(whole, before, { recursive: true });
    await unlink(join(before, "metadata.json"));
    await writeFile(join(before, "recording.json"), JSON.stringify(stopped));
    await writeFile(join(before, "shard_000002.arrow"), "left over");
    await writeShards(vit, await openPictures(), smallOptions(before));
    await assertSameFiles(before, whole);

    // Everything is done, but recording.json has not become metadata.json yet.
    const after = join(folder, "after");
    await cp(whole, after, { recursive: true });
    await unlink(join(after, "metadata.json"));
    await writeFile(join(after, "recording.json"), JSON.stringify(metadata));
    const pictures = await openPictures();
    await writeShards(vit, pictures, smallOptions(after));
    assert.equal(pictures.nReads, 0);
    await assertSameFiles(after, whole);
  });
});

Deno.test("writeShards() does nothing where the recording is complete", async () => {
  await withFolder(async (folder) => {
    const vit = await openSmallVit();
    const first = await writeShards(vit, await openPictures(), smallOptions(folder));
    const { mtimeMs } = await stat(join(folder, "metadata.json"));
    const pictures = await openPictures();
    const options = { ...smallOptions(folder), batchSize: 3, onProgress: () => assert.fail("nothing is to be done") };
    assert.deepEqual(await writeShards(vit, pictures, options), first);
    assert.equal(pictures.nReads, 0);
    assert.equal((await stat(join(folder, "metadata.json"))).mtimeMs, mtimeMs);
  });
});

Deno.test("writeShards() keeps what is done when it is stopped", async () => {
  await withFolder(async (folder) => {
    const stopped = join(folder, "stopped");
    const whole = join(folder, "whole");
    const vit = await openSmallVit();
    const controller = new AbortController();
    const onProgress = (done: number) => done === 6 && controller.abort();
    const options = { ...smallOptions(stopped), signal: controller.signal, onProgress };
    await assert.rejects(writeShards(vit, await openPictures(), options), { name: "AbortError" });
    assert.deepEqual((await readdir(stopped)).sort(), ["recording.json", "shard_000000.arrow", "shard_000001.arrow"]);
    await assert.rejects(openShards(stopped), /6 of 17 images are done/);

    const pictures = await openPictures();
    const resumed = await writeShards(vit, pictures, smallOptions(stopped));
    assert.equal(pictures.nReads, 11);
    // The stop closed a shard early: other files, the same activations.
    assert.deepEqual(resumed.shards.map((shard) => shard.n_images), [4, 2, 4, 4, 3]);
    await writeShards(vit, await openPictures(), smallOptions(whole));
    for (const layer of layers) {
      const [actual, expected] = await Promise.all([stopped, whole].map(async (directory) => {
        const shards = await openShards(directory);
        const batches = await collect(shards.readBatches({ layer, tokens: "all" }));
        await shards.close();
        assert.deepEqual(batches.flatMap(({ imageIndices }) => [...imageIndices]), [...Array(nImages).keys()]);
        return joinActivations(batches);
      }));
      assert.deepEqual(actual, expected);
    }
  });
});

Deno.test("writeShards() drops the shard that a failure cut short", async () => {
  await withFolder(async (folder) => {
    const pictures = await openPictures();
    const failing = {
      ...pictures,
      info(imageIndex: number) {
        if (imageIndex === 7) throw new Error("the source is gone");
        return pictures.info(imageIndex);
      },
    };
    await assert.rejects(writeShards(await openSmallVit(), failing, smallOptions(folder)), {
      message: "the source is gone",
    });
    assert.deepEqual((await readdir(folder)).sort(), ["recording.json", "shard_000000.arrow"]);
    await assert.rejects(openShards(folder), /4 of 17 images are done/);
  });
});

Deno.test("writeShards() refuses a folder that holds another recording, and names what differs", async () => {
  const vit = await openSmallVit();
  const pictures = await openPictures(3);
  const others = imageSource([await makePicture(8)], "e".repeat(64));
  const otherVit = await openVit(fixture("vit/mean_pooled.onnx"), { threads: 1 });
  const otherTransform = { ...vit, transform: { ...vit.transform, rescale: 1 } };
  const shape = "d_model, tokens_per_image, n_special_tokens, cls, grid_height, grid_width";
  for (const complete of [true, false]) {
    await withFolder(async (folder) => {
      const options = { ...smallOptions(folder), layers: [0] };
      await writeShards(vit, pictures, options);
      if (!complete) {
        await cp(join(folder, "metadata.json"), join(folder, "recording.json"));
        await rm(join(folder, "metadata.json"));
      }
      const cases = [
        [() => writeShards(vit, pictures, { ...options, layers: [1] }), "layers"],
        [() => writeShards(vit, others, options), "dataset"],
        [() => writeShards(vit, pictures, { ...options, imageIndices: [0, 2] }), "dataset"],
        [() => writeShards(otherTransform, pictures, options), "transform"],
        [() => writeShards(otherVit, pictures, options), `model, ${shape}, transform`],
      ] as const;
      for (const [attempt, differing] of cases) {
        await assert.rejects(attempt(), {
          name: "Error",
          message: `Cannot record into ${folder}: it must be empty or hold the same recording, the one in it differs ` +
            `in ${differing}; choose another folder or delete it`,
        });
      }
      // Model and images may have moved.
      const moved = { ...pictures, location: "elsewhere" };
      await writeShards({ ...vit, path: "elsewhere.onnx" }, moved, options);
    });
  }
});

Deno.test("writeShards() starts anew where the run before failed at its first image", () =>
  withFolder(async (folder) => {
    const vit = await openSmallVit();
    const broken = imageSource([new Uint8Array(3)]);
    await assert.rejects(() => writeShards(vit, broken, { ...smallOptions(folder), onBadImage: "error" }), /decode/);
    const metadata = await writeShards(vit, await openPictures(3), smallOptions(folder));
    assert.equal(metadata.n_images, 3);
  }));

Deno.test("writeShards() refuses a folder with shards of unknown origin", async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, "shard_000007.arrow"), "");
    await assert.rejects(writeShards(await openSmallVit(), await openPictures(1), smallOptions(folder)), {
      name: "Error",
      message:
        `Cannot record into ${folder}: it must be empty or hold a recording, it holds shard_000007.arrow without ` +
        "metadata.json; choose another folder or delete it",
    });
  });
});
