/** The WebGPU back end in a page: bundled for browsers, on Chromium's own `navigator.gpu`, held to the same cases. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Browser, chromium } from "playwright-core";
import { backendCases } from "../support/backend_cases.ts";
import { browserAssert } from "./browser_assert.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const executablePath = (process.env.PATH ?? "").split(delimiter)
  .flatMap((folder) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(folder, name)))
  .find((path) => existsSync(path));
if (executablePath === undefined) {
  console.warn("SKIPPED: no chromium on the PATH, the WebGPU back end was not run in a browser");
}

const PAGE = `<!doctype html><title>cases</title>
<script type="importmap">{ "imports": { "node:assert/strict": "/assert.js" } }</script>`;

Deno.test("browserAssert comes to the same verdicts as node:assert/strict", async () => {
  const values = [0, -0, NaN, 1, "1", null, undefined, [], [1], [1, 2], {}, { a: 1 }, { a: undefined }, { a: [1] }];
  const arrays = [
    Float32Array.of(1),
    Float32Array.of(-0),
    Float32Array.of(0),
    Uint32Array.of(1),
    Float32Array.of(1, 2),
  ];
  for (const a of [...values, ...arrays]) {
    for (const b of [...values, ...arrays].map((value) => structuredClone(value))) {
      for (const check of ["equal", "deepEqual"] as const) {
        assert.equal(throws(() => browserAssert[check](a, b)), throws(() => assert[check](a, b)), `${check} ${a} ${b}`);
      }
    }
    assert.equal(throws(() => browserAssert.ok(a)), throws(() => assert.ok(a)));
  }
  const failing = () => Promise.reject(new RangeError("too wide"));
  for (const expected of [{ name: "RangeError" }, { name: "Error" }, { message: /wide$/ }, { message: /narrow/ }]) {
    const verdict = (check: { rejects: typeof browserAssert.rejects }) =>
      check.rejects(failing, expected).then(() => false, () => true);
    assert.equal(await verdict(browserAssert), await verdict(assert), JSON.stringify(expected));
  }
  await assert.rejects(browserAssert.rejects(Promise.resolve(1), {}), { message: "nothing was thrown" });
});

Deno.test({
  name: "createWebGpuBackend() passes every back end case in a page",
  ignore: executablePath === undefined,
  // Playwright keeps timers and pipes of its own until the process ends.
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const folder = await mkdtemp(join(tmpdir(), "sparsight-browser-"));
    let browser: Browser | undefined;
    try {
      const scripts: Record<string, string> = {
        "/cases.js": await bundle(folder, {
          "lib/compute/webgpu/backend.ts": "createWebGpuBackend",
          "tests/support/backend_cases.ts": "checkBackend",
        }),
        "/assert.js": await bundle(folder, { "tests/compute/browser_assert.ts": "browserAssert as default" }),
      };
      browser = await chromium.launch({
        executablePath,
        args: ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-webgpu"],
      });
      const page = await browser.newPage();
      const problems: string[] = [];
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
      // Nothing listens there: a page of localhost may use WebGPU, one that is opened from disk may not.
      await page.route("http://localhost/**", (route) => {
        const { pathname } = new URL(route.request().url());
        const body = pathname === "/" ? PAGE : scripts[pathname];
        const contentType = pathname === "/" ? "text/html" : "text/javascript";
        return body === undefined ? route.fulfill({ status: 404 }) : route.fulfill({ body, contentType });
      });
      await page.goto("http://localhost/");
      const { passed, kind, features } = await page.evaluate(runCases);
      assert.deepEqual(passed, backendCases.map(({ name }) => name));
      assert.equal(kind, "webgpu");
      console.error(`BACK END CASES RAN IN CHROMIUM, subgroups: ${features.includes("subgroups")}`);
      assert.deepEqual(problems.filter((text) => !text.includes("favicon")), []);
    } finally {
      await browser?.close();
      await rm(folder, { recursive: true });
    }
  },
});

/** Runs in the page. */
async function runCases(): Promise<{ passed: string[]; kind: string; features: string[] }> {
  const url = "/cases.js"; // of the page, not of this file
  const { createWebGpuBackend, checkBackend } = await import(url);
  const features = [...(await navigator.gpu.requestAdapter())!.features];
  const backend = await createWebGpuBackend();
  const passed: string[] = [];
  await checkBackend(backend, { onPass: (name: string) => passed.push(name) });
  await backend.close();
  return { passed, kind: backend.kind, features };
}

/** A script for browsers that exports these names of these modules of the repository. */
async function bundle(folder: string, exports: Record<string, string>): Promise<string> {
  const entry = join(folder, "entry.ts");
  const lines = Object.entries(exports).map(([path, name]) =>
    `export { ${name} } from ${JSON.stringify(join(root, path))};`
  );
  await writeFile(entry, lines.join("\n"));
  const output = join(folder, "bundle.js");
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--platform=browser", "-o", output, entry],
    cwd: root,
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return await readFile(output, "utf8");
}

function throws(body: () => void): boolean {
  try {
    body();
    return false;
  } catch {
    return true;
  }
}
