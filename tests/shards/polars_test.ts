/**
 * Shards open in polars, a reader that shares no code with this kit. It is large (115 MB), so it is not installed with
 * the kit: `npm i nodejs-polars nodejs-polars-linux-x64-gnu --ignore-scripts` in some folder, and name that folder in
 * SPARSIGHT_POLARS.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { openShards } from "../../lib/shards/read.ts";
import { collect, dModel, joinActivations, layers, tokensPerImage, withRecording } from "./recordings.ts";

interface Seen {
  columns: string[];
  types: string[];
  values: [number[], number[], ...number[][][]];
}

const folder = process.env.SPARSIGHT_POLARS;
if (!folder) console.error("POLARS TEST IS SKIPPED: set SPARSIGHT_POLARS to a folder with nodejs-polars");

Deno.test({
  name: "writeShards() writes shards that polars opens, with the same types and values",
  ignore: !folder,
  async fn() {
    const script = fileURLToPath(new URL("read_with_polars.mjs", import.meta.url));
    const env = { ...process.env, SPARSIGHT_POLARS: resolve(folder!) };
    await withRecording(async (directory) => {
      const shards = await openShards(directory);
      const { file, n_images: nImages } = shards.metadata.shards[1];
      const options = { env, maxBuffer: 2 ** 26 };
      const { stdout } = await promisify(execFile)("node", [script, `${directory}/${file}`], options);
      const seen: Seen[] = JSON.parse(stdout);
      assert.equal(seen.length, 2);
      for (const { columns, types, values: [imageIndices, tokenIndices, ...activations] } of seen) {
        assert.deepEqual(columns, ["image_index", "token_index", "layer_0", "layer_2"]);
        const list = `DataType(FixedSizeList(DataType(Float32),${dModel}))`;
        assert.deepEqual(types, ["DataType(UInt32)", "DataType(UInt16)", list, list]);
        const nTokens = nImages * tokensPerImage;
        assert.deepEqual(
          imageIndices,
          Array.from({ length: nTokens }, (_, row) => 4 + Math.floor(row / tokensPerImage)),
        );
        assert.deepEqual(tokenIndices, Array.from({ length: nTokens }, (_, row) => row % tokensPerImage));
        for (const [position, layer] of layers.entries()) {
          // The second shard: batches 2 and 3.
          const batches = await collect(shards.readBatches({ layer, tokens: "all", order: [2, 3] }));
          assert.deepEqual(Float32Array.from(activations[position].flat()), joinActivations(batches));
        }
      }
      await shards.close();
    });
  },
});
