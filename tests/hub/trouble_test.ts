import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fetchHubFile, listHubFiles } from "../../lib/hub/hub.ts";
import { etagOf, type FakeHub, repo } from "./fake_hub.ts";
import { type TestOptions, withHub } from "./with_hub.ts";

const large = `hf:${repo}/layer 3/sae.pt`;
const sizeBytes = 300_001;

function partialPath(hub: FakeHub, options: TestOptions): string {
  const etag = etagOf(hub.files.get("layer 3/sae.pt")!);
  return join(options.cacheDir, "models--someone--tiny-sae", "blobs", `${etag}.sparsight.incomplete`);
}

async function assertWhole(hub: FakeHub, path: string): Promise<void> {
  assert.deepEqual(new Uint8Array(await readFile(path)), hub.files.get("layer 3/sae.pt")!.content);
}

Deno.test("fetchHubFile() goes on where a connection broke", () =>
  withHub(async (hub, options) => {
    hub.troubles.push({ host: "storage", times: 3, breakAfterBytes: 70_000 });
    await assertWhole(hub, await fetchHubFile(large, options));
    const ranges = hub.seen.filter(({ host }) => host === "storage").map(({ range }) => range);
    assert.equal(ranges[0], undefined);
    assert.equal(ranges.length, 4);
    assert.ok(ranges.slice(1).every((range) => /^bytes=[1-9]\d*-$/.test(range!)));
    assert.ok(hub.sentBytes() < sizeBytes + 3 * 70_000, "nothing is sent twice but what was under way");
  }));

Deno.test("fetchHubFile() goes on with what an interrupted run left", () =>
  withHub(async (hub, options) => {
    const stop = new AbortController();
    hub.delayMs = 20;
    const onProgress = (done: number) => {
      if (done >= 2 ** 17) stop.abort(new Error("enough"));
    };
    await assert.rejects(fetchHubFile(large, { ...options, signal: stop.signal, onProgress }), { message: "enough" });
    const { size: kept } = await stat(partialPath(hub, options));
    assert.ok(kept >= 2 ** 17 && kept < sizeBytes, `${kept} bytes are kept`);
    hub.seen.length = 0;
    await assertWhole(hub, await fetchHubFile(large, options));
    assert.equal(hub.seen.find(({ host }) => host === "storage")!.range, `bytes=${kept}-`);
    assert.equal(hub.sentBytes(), sizeBytes - kept);
  }));

Deno.test("fetchHubFile() starts afresh where ranges are not understood", () =>
  withHub(async (hub, options) => {
    hub.ranges = false;
    hub.troubles.push({ host: "storage", times: 1, breakAfterBytes: 70_000 });
    await assertWhole(hub, await fetchHubFile(large, options));
  }));

Deno.test("fetchHubFile() gives up a connection that is silent", () =>
  withHub(async (hub, options) => {
    hub.troubles.push({ host: "storage", times: 1, stallAfterBytes: 70_000 });
    await assertWhole(hub, await fetchHubFile(large, { ...options, timeoutMs: 200 }));
    assert.equal(hub.seen.filter(({ host }) => host === "storage").length, 2);
  }));

Deno.test("fetchHubFile() says how far it came when a connection breaks again and again", () =>
  withHub(async (hub, options) => {
    hub.troubles.push({ host: "storage", times: 100, breakAfterBytes: 0 });
    await assert.rejects(fetchHubFile(large, options), {
      name: "Error",
      message: /^Cannot fetch hf:someone\/tiny-sae\/layer 3\/sae\.pt: .*run it again to go on from there$/,
    });
    assert.equal(hub.seen.filter(({ host }) => host === "storage").length, 5);
  }));

Deno.test("fetchHubFile() waits for a Hub that is busy", () =>
  withHub(async (hub, options) => {
    hub.troubles.push({ host: "hub", times: 1, status: 429, headers: { "retry-after": "0.3" } });
    hub.troubles.push({ host: "hub", times: 2, status: 503 });
    const start = performance.now();
    await assertWhole(hub, await fetchHubFile(large, options));
    assert.ok(performance.now() - start >= 295);
    assert.equal(hub.seen.filter(({ method }) => method === "HEAD").length, 4);
  }));

Deno.test("fetchHubFile() names the status of a Hub that stays broken", () =>
  withHub(async (hub, options) => {
    hub.troubles.push({ host: "hub", times: 100, status: 502 });
    await assert.rejects(fetchHubFile(large, options), {
      message: `Cannot fetch ${large}: the Hub must be working, it answers 502; try again later`,
    });
    assert.equal(hub.seen.length, 5);
  }));

Deno.test("fetchHubFile() names what is missing", () =>
  withHub(async (_hub, options) => {
    const cases = [
      [`hf:${repo}/other.pt`, `other.pt must exist in ${repo} at main, it does not`],
      [`hf:${repo}@v9/cfg.json`, `v9 must be a branch, tag or commit of ${repo}, it is not`],
      [
        "hf:nobody/none/cfg.json",
        "nobody/none must exist and be readable, the Hub answers 401; check the name, and set HF_TOKEN if it is private",
      ],
    ];
    for (const [source, message] of cases) {
      await assert.rejects(fetchHubFile(source, options), {
        name: "Error",
        message: `Cannot fetch ${source}: ${message}`,
      });
    }
    await assert.rejects(listHubFiles("hf:nobody/none", options), { message: /^Cannot fetch hf:nobody\/none: / });
  }));

Deno.test("fetchHubFile() says how to get at a gated repository", () =>
  withHub(async (hub, options) => {
    hub.access = { kind: "gated", token: "hf_right" };
    const begin = `Cannot fetch ${large}: its license must be accepted first: open ${hub.url}/${repo}, accept, and `;
    await assert.rejects(fetchHubFile(large, options), { message: `${begin}set HF_TOKEN to an access token` });
    await assert.rejects(fetchHubFile(large, { ...options, token: "hf_wrong" }), {
      message: `${begin}use a token of that account, the one that is set has no access`,
    });
    await assertWhole(hub, await fetchHubFile(large, { ...options, token: "hf_right" }));
  }));

Deno.test("fetchHubFile() sends the token to the Hub and to no other host", () =>
  withHub(async (hub, options) => {
    hub.access = { kind: "private", token: "secret" };
    await fetchHubFile(large, { ...options, token: "secret\n" });
    await listHubFiles(`hf:${repo}`, { ...options, token: "secret" });
    assert.ok(hub.seen.filter(({ host }) => host === "hub").every((one) => one.authorization === "Bearer secret"));
    const storage = hub.seen.filter(({ host }) => host === "storage");
    assert.deepEqual(storage.map(({ authorization }) => authorization), [undefined]);
    await assert.rejects(fetchHubFile(large, { ...options, token: "two words" }), (error: Error) => {
      assert.ok(error instanceof TypeError && !error.message.includes("two words"));
      return true;
    });
  }));

Deno.test("fetchHubFile() offline takes what is in the cache, and else says what to do", () =>
  withHub(async (hub, options) => {
    const offline = { ...options, offline: true };
    await assert.rejects(fetchHubFile(large, offline), {
      name: "Error",
      message: `Cannot fetch ${large}: offline, it must be in the cache ${options.cacheDir}, it is not; run the same ` +
        `once with a network and without HF_HUB_OFFLINE`,
    });
    const path = await fetchHubFile(large, options);
    hub.seen.length = 0;
    assert.equal(await fetchHubFile(large, offline), path);
    await assert.rejects(listHubFiles(`hf:${repo}`, offline), {
      message: `Cannot look up hf:${repo}: the Hub must be asked, and HF_HUB_OFFLINE forbids it`,
    });
    assert.equal(hub.seen.length, 0);
  }));

Deno.test("fetchHubFile() without a network takes what is in the cache, and else says so", () =>
  withHub(async (hub, options) => {
    const path = await fetchHubFile(large, options);
    await hub.close();
    assert.equal(await fetchHubFile(large, options), path);
    await assert.rejects(fetchHubFile(`hf:${repo}/cfg.json`, options), {
      name: "Error",
      message: new RegExp(
        `^Cannot fetch hf:${repo}/cfg.json: the Hub must be reachable at ${hub.url} \\(.+\\); check the`,
      ),
    });
  }));

Deno.test("fetchHubFile() leaves nothing behind but blobs", () =>
  withHub(async (hub, options) => {
    await Promise.all([fetchHubFile(large, options), fetchHubFile(large, options), fetchHubFile(large, options)]);
    assert.equal(hub.sentBytes(), sizeBytes, "one of three downloads it");
    const names = await readdir(options.cacheDir, { recursive: true });
    assert.deepEqual(names.filter((name) => /lock$|incomplete|partial/.test(name)), []);
  }));
