import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { runCli, startCli, withFolder } from "./support.ts";

Deno.test("demo makes an atlas out of nothing but the embedded data, and does not record twice", async () => {
  await withFolder(async (folder) => {
    const { status, stdout, stderr } = await runCli("demo", "--out", folder, "--json");
    assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
    const result = JSON.parse(stdout);
    assert.equal(result.index, join(folder, "atlas/index.html"));
    assert.match(await readFile(result.index, "utf8"), /<title>Emoji atlas/);
    assert.ok(result.n_images > 5000, `${result.n_images} images`);
    assert.equal(result.n_tokens, 64 * result.n_images);
    assert.ok(result.explained_variance > 0.9 && result.explained_variance < 1, `${result.explained_variance}`);
    assert.ok(result.n_dead < result.d_sae / 2, `${result.n_dead} of ${result.d_sae} latents are dead`);
    assert.ok(result.mean_l0 > 1 && result.mean_l0 <= 16, `${result.mean_l0} active`);
    assert.equal((await readdir(join(folder, "atlas/latents"))).length, result.d_sae - result.n_dead);

    // The recording that is there is used: the next run begins with the summary.
    const shard = join(folder, "shards/shard_000000.arrow");
    const { mtimeMs } = await stat(shard);
    const again = startCli("demo", "--out", folder);
    await again.printed("Summarize latents …");
    again.kill("SIGINT");
    assert.doesNotMatch((await again.ended).stderr, /Record activations/);
    assert.equal((await stat(shard)).mtimeMs, mtimeMs);
  });
});
