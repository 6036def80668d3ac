import assert from "node:assert/strict";
import { mkdir, readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fetchHubFile } from "../../lib/hub/hub.ts";
import { contentOf, etagOf, repo } from "./fake_hub.ts";
import { type TestOptions, withHub } from "./with_hub.ts";

const source = `hf:${repo}/big.bin`;
const sizeBytes = 2 ** 20 + 7;

function startChild(options: TestOptions): Deno.ChildProcess {
  const script = fileURLToPath(new URL("./fetch_child.ts", import.meta.url));
  const args = ["run", "-A", "--no-check", script, source, options.cacheDir, options.hubUrl];
  return new Deno.Command(Deno.execPath(), { args, stdout: "piped", stderr: "piped" }).spawn();
}

Deno.test("fetchHubFile() downloads once for two processes that want the same file", () =>
  withHub(async (hub, options) => {
    const content = contentOf(sizeBytes);
    hub.files.set("big.bin", { content, isLarge: true });
    hub.delayMs = 60;
    const children = [startChild(options), startChild(options)];
    const outputs = await Promise.all(children.map((child) => child.output()));
    const [first, second] = outputs.map(({ stdout }) => new TextDecoder().decode(stdout).trim());
    assert.equal(first, second);
    assert.deepEqual(new Uint8Array(await readFile(first)), content);
    assert.equal(hub.sentBytes(), sizeBytes);
  }));

Deno.test("fetchHubFile() goes on with the download of a process that was killed", () =>
  withHub(async (hub, options) => {
    const content = contentOf(sizeBytes, 2);
    hub.files.set("big.bin", { content, isLarge: true });
    hub.delayMs = 60;
    const child = startChild(options);
    while (hub.sentBytes() < sizeBytes / 2) await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill("SIGKILL");
    await child.output();
    hub.seen.length = 0;
    hub.delayMs = 0;
    const start = performance.now();
    const path = await fetchHubFile(source, options);
    assert.ok(performance.now() - start < 5000, "a process that is gone is not waited for");
    assert.deepEqual(new Uint8Array(await readFile(path)), content);
    const [{ range }] = hub.seen.filter(({ host }) => host === "storage");
    const from = Number(range!.slice("bytes=".length, -1));
    assert.ok(from > 0.3 * sizeBytes, `goes on from byte ${from}`);
    assert.equal(hub.sentBytes(), sizeBytes - from);
  }));

Deno.test("fetchHubFile() waits for the owner of a lock elsewhere, unless it has not been heard of for long", () =>
  withHub(async (hub, options) => {
    const file = { content: contentOf(100), isLarge: true };
    hub.files.set("big.bin", file);
    const folder = join(options.cacheDir, ".locks", "models--someone--tiny-sae");
    const lock = join(folder, `${etagOf(file)}.sparsight.lock`);
    await mkdir(folder, { recursive: true });
    await writeFile(lock, JSON.stringify({ host: "elsewhere.test", pid: 1 }));
    await assert.rejects(fetchHubFile(source, { ...options, signal: AbortSignal.timeout(500) }), {
      name: "TimeoutError",
    });
    assert.equal(hub.sentBytes(), 0);
    const longAgo = new Date(Date.now() - 60_000);
    await utimes(lock, longAgo, longAgo);
    assert.deepEqual(new Uint8Array(await readFile(await fetchHubFile(source, options))), file.content);
    assert.deepEqual(await readdir(folder), []);
  }));
