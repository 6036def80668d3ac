import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import sharp from "sharp";
import { openDisplay, show } from "../../lib/notebook/display.ts";
import { html, toMimeBundle } from "../../lib/notebook/media.ts";
import { openScreen } from "../../lib/notebook/screen.ts";
import { fakeDeno, fakeTslab } from "./fake_kernels.ts";

const figure = { svg: '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>', widthPx: 30, heightPx: 20 };

async function redPng(width: number, height: number): Promise<Uint8Array> {
  const raw = Buffer.alloc(width * height * 3);
  for (let i = 0; i < raw.length; i += 3) raw[i] = 255;
  return new Uint8Array(await sharp(raw, { raw: { width, height, channels: 3 } }).png().toBuffer());
}

Deno.test("toMimeBundle() sends a figure as HTML with the SVG inline, never as image/svg+xml", async () => {
  const bundle = await toMimeBundle(figure);
  assert.deepEqual(Object.keys(bundle), ["text/plain", "text/html"]);
  assert.equal(bundle["text/plain"], "figure, 30 x 20 px");
  assert.match(bundle["text/html"]!, /<svg width="30" height="20" viewBox="0 0 30 20" xmlns=[^>]*><path d="M0 0"\/>/);
});

Deno.test("toMimeBundle() scales a figure to widthPx and keeps its viewBox", async () => {
  const svg = '<?xml version="1.0"?><svg width="30" height="20" viewBox="0 0 3 2"></svg>';
  const bundle = await toMimeBundle({ svg, widthPx: 30, heightPx: 20 }, { widthPx: 15 });
  assert.match(bundle["text/html"]!, /><svg width="15" height="10" viewBox="0 0 3 2"><\/svg></);
});

Deno.test("toMimeBundle() sends PNG bytes as image/png", async () => {
  const png = await redPng(3, 2);
  const bundle = await toMimeBundle(png);
  assert.deepEqual(Object.keys(bundle), ["text/plain", "image/png"]);
  assert.deepEqual(Buffer.from(bundle["image/png"]!, "base64"), Buffer.from(png));
  assert.match(bundle["text/plain"], /^PNG, 3 x 2 px, 0\.\d KiB$/);
});

Deno.test("toMimeBundle() encodes PNG bytes longer than one slice", async () => {
  const png = new Uint8Array(70_001);
  png.set((await redPng(1, 1)).subarray(0, 24));
  for (let i = 24; i < png.length; i++) png[i] = i % 251;
  const bundle = await toMimeBundle(png);
  assert.ok(Buffer.from(bundle["image/png"]!, "base64").equals(png));
});

Deno.test("toMimeBundle() turns RGB pixels into a PNG", async () => {
  const data = new Uint8Array([255, 0, 0, 0, 255, 0, 0, 0, 255]);
  const bundle = await toMimeBundle({ width: 3, height: 1, data });
  const decoded = await sharp(Buffer.from(bundle["image/png"]!, "base64")).removeAlpha().raw().toBuffer();
  assert.deepEqual([...decoded], [...data]);
  assert.equal(bundle["text/plain"], "image, 3 x 1 px");
});

Deno.test("toMimeBundle() puts a caption and a width around a picture", async () => {
  const bundle = await toMimeBundle(await redPng(4, 2), { caption: "R & D", widthPx: 2 });
  assert.match(
    bundle["text/html"]!,
    /^<img width="2"[^>]*src="data:image\/png;base64,[^"]+"><div[^>]*>R &amp; D<\/div>$/,
  );
  assert.match(bundle["text/plain"], /^R & D: PNG, 4 x 2 px/);
});

Deno.test("toMimeBundle() sets an array of pictures side by side", async () => {
  const bundle = await toMimeBundle([figure, await redPng(1, 1)]);
  assert.match(bundle["text/html"]!, /<svg .*<\/svg>.*<img /s);
});

Deno.test("toMimeBundle() refuses bytes that are no PNG", async () => {
  await assert.rejects(toMimeBundle(new Uint8Array([0xff, 0xd8, 0xff])), {
    name: "TypeError",
    message: "Cannot show bytes: bytes must be a PNG file, current value starts with [ff d8 ff]",
  });
});

Deno.test("toMimeBundle() makes a table of objects, with pictures in cells", async () => {
  const records = [{ latent: 7, density: 0.0123456 }, { latent: 1291, top: figure, label: "<cat>" }];
  const bundle = await toMimeBundle(records);
  const table = bundle["text/html"]!;
  assert.deepEqual([...table.matchAll(/<th [^>]*>(.*?)<\/th>/g)].map((match) => match[1]), [
    "latent",
    "density",
    "top",
    "label",
  ]);
  const cells = [...table.matchAll(/<td [^>]*>(.*?)<\/td>/g)].map((match) => match[1]);
  assert.deepEqual(cells.slice(0, 6), ["7", "0.01235", "", "", "1291", ""]);
  assert.match(cells[6], /<svg /);
  assert.equal(cells[7], "&lt;cat&gt;");
});

Deno.test("toMimeBundle() aligns the text of a table and says how many rows are left out", async () => {
  const records = [
    { name: "cat", density: 0.5, nActive: 1200 },
    { name: "grass", density: 1.25e-7, nActive: 3 },
    { name: "sky", density: 1, nActive: 4 },
  ];
  const bundle = await toMimeBundle(records, { maxRows: 2 });
  assert.equal(
    bundle["text/plain"],
    [
      "name   density  nActive",
      "-----  -------  -------",
      "cat        0.5     1200",
      "grass  1.25e-7        3",
      "… 1 more",
    ].join("\n"),
  );
  assert.match(bundle["text/html"]!, /… 1 more/);
});

Deno.test("toMimeBundle() shows an object literal as names and values", async () => {
  const bundle = await toMimeBundle({ l0: 31.99999, shape: new Float32Array(8) });
  assert.equal(
    bundle["text/plain"],
    ["name   value", "-----  ------------------------------", "l0     32", "shape  [0, 0, 0, 0, 0, 0, … 8 values]"]
      .join("\n"),
  );
});

Deno.test("toMimeBundle() leaves everything else as text", async () => {
  const cases: [unknown, string][] = [
    ["two\nlines <b>", "two\nlines <b>"],
    [3, "3"],
    [1 / 3, "0.3333"],
    [NaN, "NaN"],
    [true, "true"],
    [undefined, ""],
    [12n, "12"],
    [[], "[]"],
    [[1, 0.123456], "[1,0.1235]"],
    [new Float32Array([1, 0.5]), "[1, 0.5]"],
  ];
  for (const [value, text] of cases) assert.deepEqual(await toMimeBundle(value), { "text/plain": text });
});

Deno.test("html() is rendered, not escaped", async () => {
  assert.deepEqual(await toMimeBundle(html("<b>5 < 6</b>")), {
    "text/plain": "HTML, 12 characters",
    "text/html": "<b>5 < 6</b>",
  });
});

Deno.test("show() draws in the kernel and returns nothing, so that a cell has no second output", async () => {
  const { scope, messages } = fakeTslab();
  assert.equal(await show("hello", { screen: openScreen(scope) }), undefined);
  assert.deepEqual(messages, [{ display: 0, mediaType: "text/plain", content: "hello" }]);
});

Deno.test("openDisplay() draws over what it showed before", async () => {
  const { scope, messages } = fakeDeno();
  const display = openDisplay(openScreen(scope));
  await display.show(1);
  await display.show(2);
  assert.deepEqual(messages.map(({ type }) => type), ["display_data", "update_display_data"]);
});

Deno.test("show() prints a line in a terminal", async () => {
  const lines: unknown[] = [];
  const log = console.log;
  console.log = (...values: unknown[]) => lines.push(...values);
  try {
    await show(figure, { screen: openScreen({}), caption: "Density" });
  } finally {
    console.log = log;
  }
  assert.deepEqual(lines, ["Density: figure, 30 x 20 px"]);
});
