import assert from "node:assert/strict";
import { readFile, truncate, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openShards } from "../../lib/shards/read.ts";
import { withFolder } from "../vit/fixtures.ts";
import { withRecording } from "./recordings.ts";

/** Rewrites a field of the metadata. */
async function editMetadata(directory: string, edit: (metadata: Record<string, unknown>) => void): Promise<void> {
  const path = join(directory, "metadata.json");
  const metadata = JSON.parse(await readFile(path, "utf8"));
  edit(metadata);
  await writeFile(path, JSON.stringify(metadata));
}

Deno.test("openShards() refuses a folder without a recording", async () => {
  await withFolder(async (folder) => {
    for (const directory of [folder, join(folder, "gone")]) {
      await assert.rejects(openShards(directory), {
        name: "Error",
        message:
          `Cannot read shards in ${directory}: it must hold metadata.json; make a recording with \`record\` first`,
      });
    }
  });
});

Deno.test("openShards() refuses a shard that is missing, cut short or damaged", async () => {
  await withRecording(async (directory) => {
    const path = join(directory, "shard_000001.arrow");
    const whole = await readFile(path);
    const again = "; record again into another folder";
    await truncate(path, whole.length - 8);
    await assert.rejects(openShards(directory), {
      name: "SyntaxError",
      message: `Cannot read ${path}: its size must be ${whole.length} bytes, current size is ${
        whole.length - 8
      }${again}`,
    });
    await unlink(path);
    await assert.rejects(openShards(directory), {
      name: "SyntaxError",
      message: `Cannot read ${path}: its size must be ${whole.length} bytes, the file is missing${again}`,
    });
    // As after a crash of the whole machine: the size is there, the bytes are not.
    await writeFile(path, Buffer.concat([whole.subarray(0, whole.length / 2), Buffer.alloc(whole.length / 2)]));
    await assert.rejects(openShards(directory), {
      name: "SyntaxError",
      message: `Cannot read ${path}: the file must end with ARROW1, it was cut short`,
    });
  });
});

Deno.test("openShards() refuses shards that are not what the metadata says", async () => {
  await withRecording(async (directory) => {
    const original = await readFile(join(directory, "metadata.json"), "utf8");
    const first = join(directory, "shard_000000.arrow");
    const cases: [(metadata: Record<string, unknown>) => void, string][] = [
      [
        (metadata) => metadata.layers = [0, 1],
        `its columns must be image_index: Uint32, token_index: Uint16, layer_0: FixedSizeList[16]<Float32>, layer_1: ` +
        `FixedSizeList[16]<Float32>, current ones are image_index: Uint32, token_index: Uint16, layer_0: ` +
        `FixedSizeList[16]<Float32>, layer_2: FixedSizeList[16]<Float32>`,
      ],
      [
        (metadata) => (metadata.shards as { n_images: number }[])[0].n_images = 3,
        "it must hold 3 images of 17 tokens, none split between batches, current batches are of 34, 34 tokens",
      ],
      [
        (metadata) => {
          metadata.tokens_per_image = 68;
          (metadata.shards as { n_images: number }[])[0].n_images = 1;
        },
        "it must hold 1 images of 68 tokens, none split between batches, current batches are of 34, 34 tokens",
      ],
    ];
    for (const [edit, reason] of cases) {
      await writeFile(join(directory, "metadata.json"), original);
      await editMetadata(directory, edit);
      await assert.rejects(openShards(directory), { name: "SyntaxError", message: `Cannot read ${first}: ${reason}` });
    }
  });
});

Deno.test("openShards() refuses metadata that it cannot read", async () => {
  await withRecording(async (directory) => {
    const path = join(directory, "metadata.json");
    await editMetadata(directory, (metadata) => metadata.format_version = 2);
    await assert.rejects(openShards(directory), {
      name: "RangeError",
      message: `Cannot read ${path}: format version must be at most 1, current value is 2; update sparsight to read it`,
    });
    await writeFile(path, "{");
    await assert.rejects(openShards(directory), {
      name: "SyntaxError",
      message: `Cannot read ${path}: it must be JSON`,
    });
  });
});
