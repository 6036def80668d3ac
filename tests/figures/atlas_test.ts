import assert from "node:assert/strict";
import { access, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { writeAtlas, type WriteAtlasOptions } from "../../lib/figures/atlas/atlas.ts";
import { html } from "../../lib/figures/atlas/html.ts";
import { encodeRgbaPng } from "../../lib/figures/atlas/png.ts";
import { spriteStyle } from "../../lib/figures/atlas/sheets.ts";
import { tallyLabels } from "../../lib/figures/atlas/tally.ts";
import type { RgbImage } from "../../lib/images/decode.ts";
import { bump, randomSummary } from "./support.ts";

// 6 x 4 patches; latents 3, 10, 17 and 24 are dead; 80 images fill more than one sheet of 64.
const summary = randomSummary({ dSae: 30, nImages: 80, nPatches: 24, gridWidth: 6 });
const EVIL = `<img src=x onerror=alert(1)>"'&</script>`;

/** Each image in a gray of its own. */
const crop = (imageIndex: number): Promise<RgbImage> =>
  Promise.resolve({ width: 10, height: 10, data: new Uint8Array(300).fill(2 * imageIndex) });

function heat(latent: number, imageIndex: number): Float32Array | undefined {
  const peak = summary.latent(latent).topImages.find((image) => image.imageIndex === imageIndex);
  return peak && bump(peak, 6, 4);
}

function options(out: string): WriteAtlasOptions {
  const info = (i: number) => ({ name: `${i} ${EVIL}`, label: i % 3 === 0 ? undefined : `label ${i % 3} ${EVIL}` });
  return { summary, info, crop, heat, out, cropPx: 16, title: `Test ${EVIL}`, facts: { Model: EVIL } };
}

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "atlas-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function pagesOf(out: string): Promise<Map<string, string>> {
  const names = (await readdir(out, { recursive: true })).filter((name) => name.endsWith(".html"));
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(out, name), "utf8")] as const)),
  );
}

Deno.test("html() escapes all values but HTML", () => {
  assert.equal(
    html`<a title="${'"&<'}">${["x>", html`<b>${1}</b>`, undefined]}</a>`.text,
    '<a title="&quot;&amp;&lt;">x&gt;<b>1</b></a>',
  );
});

Deno.test("tallyLabels() counts labels, most frequent first, and skips images without", () => {
  assert.deepEqual(tallyLabels(["b", "a", undefined, "c", "b", ""]), [
    { label: "b", count: 2, share: 0.5 },
    { label: "a", count: 1, share: 0.25 },
    { label: "c", count: 1, share: 0.25 },
  ]);
  assert.deepEqual(tallyLabels([]), []);
});

Deno.test("encodeRgbaPng() writes what sharp reads", async () => {
  const rgba = Uint8Array.from({ length: 4 * 5 * 3 }, (_, i) => (i * 37) % 256);
  const { data, info } = await sharp(encodeRgbaPng(rgba, { width: 5, height: 3 })).raw()
    .toBuffer({ resolveWithObject: true });
  assert.deepEqual([info.width, info.height, info.channels], [5, 3, 4]);
  assert.deepEqual([...data], [...rgba]);
  assert.throws(() => encodeRgbaPng(rgba, { width: 5, height: 4 }), RangeError);
});

Deno.test("spriteStyle() finds sheet, column and row of a slot", () => {
  assert.equal(
    spriteStyle("crops", 64 + 8 + 7, "../"),
    "background-image:url(../sheets/crops-0001.webp);background-position:100% 14.29%",
  );
});

Deno.test("writeAtlas() writes a page for each alive latent, and every link leads to a file", () =>
  withFolder(async (folder) => {
    const out = join(folder, "a", "atlas");
    const steps: number[] = [];
    const written = await writeAtlas({
      ...options(out),
      onProgress: (done, total) => {
        assert.equal(total, written26 + 27);
        steps.push(done);
      },
    });
    assert.deepEqual({ ...written }, { indexPath: join(out, "index.html"), nPages: 26, nImages: written26 });
    assert.deepEqual(steps, Array.from({ length: written26 + 27 }, (_, i) => i + 1));
    assert.deepEqual(await readdir(dirname(out)), ["atlas"]);
    const pages = await pagesOf(out);
    assert.equal(pages.size, 27);
    assert.ok(!pages.has(join("latents", "0003.html")));
    let nLinks = 0;
    for (const [name, text] of pages) {
      assert.ok(text.length < 60_000, `${name} has ${text.length} letters`);
      for (const [, link] of text.matchAll(/(?:href|src)="([^"]*)"|url\(([^)]*)\)/g)) {
        if (link === undefined || link.startsWith("data:")) continue;
        assert.doesNotMatch(link, /^[a-z]+:|^\//, "links are relative");
        await access(join(out, dirname(name), link));
        nLinks++;
      }
      for (const [, link] of text.matchAll(/url\(([^)]*)\)/g)) await access(join(out, dirname(name), link));
    }
    assert.ok(nLinks > 26 * 3);
    const first = pages.get(join("latents", "0000.html"))!;
    const nShown = summary.latent(0).topImages.length;
    assert.equal(first.split('class="heat"').length - 1, nShown);
    assert.equal(first.split('class="peak"').length - 1, nShown);
    assert.equal(first.split("<svg").length - 1, 2);
    // Latent 3 is dead: 2 is followed by 4.
    assert.match(pages.get(join("latents", "0002.html"))!, /href="0004\.html" rel="next"/);
  }));

const written26 = new Set(
  Array.from({ length: 30 }, (_, latent) => summary.latent(latent).topImages.map(({ imageIndex }) => imageIndex))
    .flat(),
).size;

Deno.test("writeAtlas() puts each image where the pages look for it", () =>
  withFolder(async (folder) => {
    const out = join(folder, "atlas");
    await writeAtlas({ ...options(out), latents: [5] });
    const { data, info } = await sharp(join(out, "sheets", "crops-0000.webp")).removeAlpha().raw()
      .toBuffer({ resolveWithObject: true });
    assert.equal(info.width, 8 * 16);
    summary.latent(5).topImages.forEach(({ imageIndex }, slot) => {
      const x = 16 * (slot % 8) + 8;
      const y = 16 * Math.floor(slot / 8) + 8;
      assert.ok(Math.abs(data[3 * (y * info.width + x)] - 2 * imageIndex) < 10);
    });
    assert.equal((await sharp(join(out, "sheets", "thumbs-0000.webp")).metadata()).width, 16 * 8);
    // Dots of latents without a page are no links.
    const index = await readFile(join(out, "index.html"), "utf8");
    assert.deepEqual(index.match(/latents\/\d+\.html/g), ["latents/0005.html"]);
  }));

Deno.test("writeAtlas() escapes names, labels, title and facts", () =>
  withFolder(async (folder) => {
    const out = join(folder, "atlas");
    await writeAtlas(options(out));
    for (const [name, text] of await pagesOf(out)) {
      assert.ok(!text.includes("<img src=x"), name);
      assert.ok(text.includes("&lt;img src=x onerror=alert(1)&gt;&quot;"), name);
    }
    // The data is a script of its own, where only JavaScript's quoting counts.
    const data = await readFile(join(out, "data.js"), "utf8");
    const atlas = new Function(`${data}; return atlas;`)();
    assert.equal(atlas.rows.length, 26);
    assert.ok(atlas.labels.includes(`label 1 ${EVIL}`));
  }));

Deno.test("writeAtlas() replaces its own folder, and no other", () =>
  withFolder(async (folder) => {
    const out = join(folder, "atlas");
    await writeAtlas({ ...options(out), latents: [1, 2] });
    await writeAtlas({ ...options(out), latents: [4] });
    assert.deepEqual(await readdir(join(out, "latents")), ["0004.html"]);
    const other = join(folder, "other");
    await mkdir(other);
    await writeFile(join(other, "thesis.txt"), "precious");
    await assert.rejects(writeAtlas(options(other)), {
      name: "Error",
      message: `Cannot write atlas to "${other}": the folder must be empty or an atlas that was written before, ` +
        "current content is 1 other files",
    });
    await assert.rejects(writeAtlas(options(join(other, "thesis.txt"))), /current value is a file/);
    assert.deepEqual(await readdir(folder), ["atlas", "other"]);
    assert.deepEqual(await readdir(other), ["thesis.txt"]);
  }));

Deno.test("writeAtlas() leaves the old atlas and nothing else if it is stopped or fails", () =>
  withFolder(async (folder) => {
    const out = join(folder, "atlas");
    await writeAtlas({ ...options(out), latents: [1] });
    const controller = new AbortController();
    const stopped = writeAtlas({
      ...options(out),
      signal: controller.signal,
      onProgress: (done) => done === written26 + 3 && controller.abort(),
    });
    await assert.rejects(stopped, { name: "AbortError" });
    const failing = () => Promise.reject(new Error("no such image"));
    await assert.rejects(writeAtlas({ ...options(out), crop: failing }), { message: "no such image" });
    assert.deepEqual(await readdir(folder), ["atlas"]);
    assert.deepEqual(await readdir(join(out, "latents")), ["0001.html"]);
    // What a killed run left is cleared by the next.
    await mkdir(`${out}.partial`);
    await writeAtlas({ ...options(out), latents: [2] });
    assert.deepEqual(await readdir(folder), ["atlas"]);
  }));

Deno.test("writeAtlas() works without heat maps, labels and for CLS tokens", () =>
  withFolder(async (folder) => {
    const out = join(folder, "atlas");
    const one = summary.latent(1);
    const cls = { ...one, topImages: one.topImages.map((image) => ({ ...image, patchIndex: -1 })) };
    const info = (i: number) => ({ name: String(i) });
    const clsSummary = { ...summary, tokens: "cls" as const, dSae: 1, latent: () => ({ ...cls, latent: 0 }) };
    await writeAtlas({ summary: clsSummary, info, crop, out, cropPx: 16 });
    const text = await readFile(join(out, "latents", "0000.html"), "utf8");
    for (const absent of ['class="heat"', 'class="peak"', 'id="opacity"', 'class="tally"']) {
      assert.ok(!text.includes(absent), absent);
    }
    assert.ok((await stat(join(out, "data.js"))).size > 0);
  }));

Deno.test("writeAtlas() refuses options out of range", async () => {
  const cases: [Partial<WriteAtlasOptions>, string][] = [
    [{ latents: [30] }, "latents must be between 0 and 29, current value is 30"],
    [{ imagesPerPage: 0 }, "imagesPerPage must be a positive integer, current value is 0"],
    [{ cropPx: 33 }, "cropPx must be an even integer of at least 16, current value is 33"],
  ];
  for (const [wrong, message] of cases) {
    await assert.rejects(writeAtlas({ ...options("never-written"), ...wrong }), {
      name: "RangeError",
      message: `Cannot write atlas: ${message}`,
    });
  }
});
