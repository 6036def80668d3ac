import assert from "node:assert/strict";
import { readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fetchHubFile, resolveHubFile } from "../../lib/hub/hub.ts";
import { commits, contentOf, etagOf, repo } from "./fake_hub.ts";
import { withHub } from "./with_hub.ts";

const large = `hf:${repo}/layer 3/sae.pt`;

Deno.test("fetchHubFile() lays the cache out as Python's huggingface_hub does", () =>
  withHub(async (hub, options) => {
    const path = await fetchHubFile(large, options);
    const folder = join(options.cacheDir, "models--someone--tiny-sae");
    const file = hub.files.get("layer 3/sae.pt")!;
    assert.equal(path, join(folder, "snapshots", commits[0], "layer 3", "sae.pt"));
    assert.deepEqual(new Uint8Array(await readFile(path)), file.content);
    assert.equal(await readlink(path), `../../../blobs/${etagOf(file)}`);
    assert.equal(await readFile(join(folder, "refs", "main"), "utf8"), commits[0]);
    assert.deepEqual(await readdir(join(folder, "blobs")), [etagOf(file)]);

    const config = await fetchHubFile(`hf:${repo}/cfg.json`, options);
    assert.equal(await readFile(config, "utf8"), '{"d_in": 3}');
    assert.equal(await readlink(config), `../../blobs/${etagOf(hub.files.get("cfg.json")!)}`);
  }));

Deno.test("fetchHubFile() downloads nothing that is in the cache", () =>
  withHub(async (hub, options) => {
    const path = await fetchHubFile(large, options);
    hub.seen.length = 0;
    assert.equal(await fetchHubFile(large, options), path);
    assert.deepEqual(hub.seen.map(({ method }) => method), ["HEAD"]);
    assert.equal(hub.sentBytes(), 0);

    // Content that is there under another commit is linked, not downloaded.
    await rm(path);
    assert.equal(await fetchHubFile(large, options), path);
    assert.equal(hub.sentBytes(), 0);
  }));

Deno.test("fetchHubFile() takes a commit that is there without asking", () =>
  withHub(async (hub, options) => {
    const pinned = `hf:${repo}@${commits[1]}/cfg.json`;
    const path = await fetchHubFile(pinned, options);
    assert.equal(await readFile(path, "utf8"), '{"d_in": 2}');
    hub.seen.length = 0;
    assert.equal(await fetchHubFile(pinned, options), path);
    assert.equal(hub.seen.length, 0);
  }));

Deno.test("fetchHubFile() follows a tag, an option, and a branch that moved", () =>
  withHub(async (hub, options) => {
    const read = async (source: string, revision?: string) =>
      await readFile(await fetchHubFile(source, { ...options, revision }), "utf8");
    assert.equal(await read(`hf:${repo}@v1/cfg.json`), '{"d_in": 2}');
    assert.equal(await read(`hf:${repo}/cfg.json`, "v1"), '{"d_in": 2}');
    assert.equal(await read(`hf:${repo}@refs/pr/1/cfg.json`), '{"d_in": 3}');
    assert.equal(
      await readFile(join(options.cacheDir, "models--someone--tiny-sae/refs/refs/pr/1"), "utf8"),
      commits[0],
    );
    // The cache knows an older main than the Hub.
    await writeFile(join(options.cacheDir, "models--someone--tiny-sae/refs/main"), commits[1]);
    assert.equal(await read(`hf:${repo}/cfg.json`), '{"d_in": 3}');
    assert.equal(hub.seen.filter(({ url }) => url.includes("/v1/")).length, 2);
  }));

Deno.test("fetchHubFile() downloads the commit that it resolved, not what the branch has become since", () =>
  withHub(async (hub, options) => {
    await fetchHubFile(`hf:${repo}/cfg.json`, options);
    assert.deepEqual(hub.seen.map(({ method, url }) => `${method} ${url}`), [
      `HEAD /${repo}/resolve/main/cfg.json`,
      `GET /${repo}/resolve/${commits[0]}/cfg.json`,
    ]);
  }));

Deno.test("fetchHubFile() follows a renamed repository, and finds data sets", () =>
  withHub(async (hub, options) => {
    const path = await fetchHubFile("hf:someone/renamed/cfg.json", options);
    assert.equal(await readFile(path, "utf8"), '{"d_in": 3}');
    const data = await fetchHubFile(`hf:datasets/${repo}/cfg.json`, options);
    assert.ok(data.startsWith(join(options.cacheDir, "datasets--someone--tiny-sae", "snapshots")));
    assert.ok(hub.seen.some(({ url }) => url === `/datasets/${repo}/resolve/main/cfg.json`));
  }));

Deno.test("fetchHubFile() reports bytes as they come", () =>
  withHub(async (_hub, options) => {
    const steps: [number, number, string][] = [];
    await fetchHubFile(large, { ...options, onProgress: (...step) => steps.push(step) });
    assert.deepEqual(steps[0], [0, 300_001, "layer 3/sae.pt"]);
    assert.deepEqual(steps.at(-1), [300_001, 300_001, "layer 3/sae.pt"]);
    assert.ok(steps.every(([done], i) => i === 0 || done > steps[i - 1][0]));
  }));

Deno.test("fetchHubFile() fetches an empty file", () =>
  withHub(async (hub, options) => {
    hub.files.set("empty.txt", { content: new Uint8Array(0), isLarge: false });
    assert.equal((await readFile(await fetchHubFile(`hf:${repo}/empty.txt`, options))).length, 0);
  }));

Deno.test("fetchHubFile() prints nothing", () =>
  withHub(async (_hub, options) => {
    const printed: unknown[] = [];
    const names = ["log", "info", "debug", "warn", "error"] as const;
    const originals = names.map((name) => console[name]);
    try {
      for (const name of names) console[name] = (...values: unknown[]) => void printed.push(...values);
      await fetchHubFile(large, options);
    } finally {
      names.forEach((name, i) => console[name] = originals[i]);
    }
    assert.deepEqual(printed, []);
  }));

Deno.test("resolveHubFile() says what a revision stands for, and downloads nothing", () =>
  withHub(async (hub, options) => {
    const file = hub.files.get("layer 3/sae.pt")!;
    assert.deepEqual(await resolveHubFile(large, options), {
      path: "layer 3/sae.pt",
      sizeBytes: 300_001,
      commit: commits[0],
      etag: etagOf(file),
      sha256: etagOf(file),
      pinned: `hf:${repo}@${commits[0]}/layer 3/sae.pt`,
    });
    const small = await resolveHubFile(`hf:${repo}/cfg.json`, options);
    assert.equal(small.sizeBytes, 11);
    assert.equal(small.sha256, undefined);
    assert.equal(hub.sentBytes(), 0);
  }));

Deno.test("fetchHubFile() refuses content with a wrong checksum, and keeps none of it", () =>
  withHub(async (hub, options) => {
    const content = contentOf(1000);
    const blobs = join(options.cacheDir, "models--someone--tiny-sae", "blobs");
    for (const isLarge of [true, false]) {
      const file = { content, isLarge, corrupted: content.with(500, content[500] ^ 1) };
      hub.files.set("bad.bin", file);
      await assert.rejects(fetchHubFile(`hf:${repo}/bad.bin`, options), {
        name: "Error",
        message: new RegExp(
          `^Cannot fetch hf:${repo}/bad.bin: its checksum must be ${etagOf(file)}, current value is `,
        ),
      });
      assert.deepEqual(await readdir(blobs), []);
      hub.files.set("bad.bin", { content, isLarge });
      assert.deepEqual(new Uint8Array(await readFile(await fetchHubFile(`hf:${repo}/bad.bin`, options))), content);
      await rm(options.cacheDir, { recursive: true });
    }
    await fetchHubFile(`hf:${repo}/cfg.json`, options);
  }));
