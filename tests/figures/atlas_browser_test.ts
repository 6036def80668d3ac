/** The atlas in a real browser, opened from disk. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { writeAtlas } from "../../lib/figures/atlas/atlas.ts";
import { bump, randomSummary } from "./support.ts";

const executablePath = (process.env.PATH ?? "").split(delimiter)
  .flatMap((folder) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(folder, name)))
  .find((path) => existsSync(path));
if (executablePath === undefined) {
  console.warn("SKIPPED: no chromium on the PATH, the atlas was not opened in a browser");
}

const summary = randomSummary({ dSae: 100, nImages: 80 });

Deno.test({
  name: "the atlas opens from disk without an error; sorting, searching, paging and heat controls work",
  ignore: executablePath === undefined,
  // Playwright keeps timers and pipes of its own until the process ends.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (test) => {
    const folder = await mkdtemp(join(tmpdir(), "atlas-"));
    let browser: Browser | undefined;
    try {
      const { indexPath } = await writeAtlas({
        summary,
        out: join(folder, "atlas"),
        title: "Test atlas",
        info: (i) => ({ name: `<b onclick="alert(1)">${i}`, label: i % 2 === 0 ? "<i>even" : "odd" }),
        crop: (i) => Promise.resolve({ width: 64, height: 64, data: new Uint8Array(3 * 64 * 64).fill(3 * i) }),
        heat: (latent, i) => bump(summary.latent(latent).topImages.find(({ imageIndex }) => imageIndex === i)!, 8, 8),
      });
      browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
      const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
      const problems: string[] = [];
      page.on("console", (message) => problems.push(message.text()));
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("requestfailed", (request) => problems.push(`failed: ${request.url()}`));
      page.on("request", (request) => {
        if (!/^(file|data):/.test(request.url())) problems.push(`not from disk: ${request.url()}`);
      });
      await page.goto(pathToFileURL(indexPath).href);
      await test.step("table", () => checkTable(page));
      await test.step("latent page", () => checkLatentPage(page));
      await test.step("phone", () => checkPhone(page, pathToFileURL(indexPath).href));
      assert.deepEqual(problems, []);
    } finally {
      await browser?.close();
      await rm(folder, { recursive: true });
    }
  },
});

function column(page: Page, index: number): Promise<string[]> {
  return page.locator(`#rows td:nth-child(${index})`).allTextContents();
}

async function checkTable(page: Page): Promise<void> {
  const alive = Array.from({ length: 100 }, (_, i) => summary.latent(i)).filter(({ nActive }) => nActive > 0);
  assert.deepEqual(await column(page, 1), alive.slice(0, 50).map(({ latent }) => String(latent)));
  await page.click("#forward");
  assert.deepEqual(await column(page, 1), alive.slice(50).map(({ latent }) => String(latent)));

  await page.focus("th button[data-column='4']");
  await page.keyboard.press("Enter");
  const strongest = alive.toSorted((a, b) => b.maxActivation - a.maxActivation).map(({ latent }) => String(latent));
  assert.deepEqual(await column(page, 1), strongest.slice(0, 50));
  assert.equal(await page.locator("th[aria-sort=descending]").textContent(), "Maximum");
  await page.keyboard.press("Enter");
  assert.deepEqual((await column(page, 1))[0], strongest.at(-1));

  await page.fill("#search", "ODD");
  const labels = await column(page, 7);
  assert.ok(labels.length > 0 && labels.every((label) => label === "odd"));
  await page.fill("#search", "3");
  assert.match(await page.locator("#count").textContent() ?? "", /^\d+ latents$/);
  // Latent 3 is dead, so its page does not exist, but there are 30, 32 and so on.
  await page.fill("#search", "003");
  assert.ok(!(await column(page, 1)).includes("3"));
  await page.fill("#search", "<i>even");
  assert.ok((await column(page, 7)).every((label) => label === "<i>even"), "labels are text, not HTML");
  await page.fill("#search", "94");
  assert.match(await page.locator("#count").textContent() ?? "", /^Latent 94 has no page/);

  // Going back from a latent finds the table as it was.
  await page.fill("#search", "12");
  await page.click("#rows a");
  await page.waitForURL(/latents\/0012\.html$/);
  await page.goBack();
  assert.equal(await page.inputValue("#search"), "12");
  await page.click("#rows a");
  await page.waitForURL(/latents\/0012\.html$/);
}

async function checkLatentPage(page: Page): Promise<void> {
  const heat = page.locator(".heat").first();
  assert.equal(await heat.evaluate((image: HTMLImageElement) => image.complete && image.naturalWidth), 8);
  assert.equal(await page.locator(".crop").count(), summary.latent(12).topImages.length);
  assert.equal(await page.locator("figcaption b, figcaption i").count(), summary.latent(12).topImages.length);
  assert.ok(await heat.isVisible());
  await page.uncheck("#heat");
  assert.ok(!await heat.isVisible());
  await page.check("#heat");
  await page.fill("#opacity", "40");
  assert.equal(await heat.evaluate((image) => getComputedStyle(image).opacity), "0.4");
  assert.equal(await heat.evaluate((image) => getComputedStyle(image).imageRendering), "pixelated");
  await page.check("#smooth");
  assert.equal(await heat.evaluate((image) => getComputedStyle(image).imageRendering), "auto");
  await page.uncheck("#peak");
  assert.ok(!await page.locator(".peak").first().isVisible());
  // The outline of the strongest patch lies in the picture, at its place in the grid.
  await page.check("#peak");
  const { patchIndex } = summary.latent(12).topImages[0];
  const picture = (await page.locator(".picture").first().boundingBox())!;
  const peak = (await page.locator(".peak").first().boundingBox())!;
  assert.ok(Math.abs((peak.x - picture.x) / picture.width - (patchIndex % 8) / 8) < 0.02);
  assert.ok(Math.abs((peak.y - picture.y) / picture.height - Math.floor(patchIndex / 8) / 8) < 0.02);

  await page.locator("body").press("ArrowRight");
  await page.waitForURL(/latents\/0013\.html$/);
  await page.locator("body").press("ArrowLeft");
  await page.waitForURL(/latents\/0012\.html$/);
}

async function checkPhone(page: Page, index: string): Promise<void> {
  await page.setViewportSize({ width: 360, height: 700 });
  for (const address of [page.url(), index]) {
    await page.goto(address);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, "nothing sticks out");
  }
  // A dot of the scatter plot is a link.
  await page.locator("svg a").first().evaluate((link) => link.dispatchEvent(new MouseEvent("click")));
  await page.waitForURL(/latents\/\d{4}\.html$/);
}
