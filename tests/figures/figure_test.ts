import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { figureDocument, serializeSvg } from "../../lib/figures/dom.ts";
import { type Figure, saveFigure, toPng } from "../../lib/figures/figure.ts";

const red: Figure = {
  svg:
    '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"><rect width="30" height="20" fill="#f00"/></svg>',
  widthPx: 30,
  heightPx: 20,
};
const pixels = { width: 3, height: 1, data: Uint8Array.of(255, 0, 0, 0, 255, 0, 0, 0, 255) };

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "figures-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

Deno.test("serializeSvg() writes XML: escaped attributes, closed tags, rounded positions, no style", () => {
  const document = figureDocument();
  const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
  const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
  text.setAttribute("aria-label", 'a<b & "c" 1.23456');
  text.textContent = "1 < 2 & 3";
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  line.setAttribute("x1", "-1.23456");
  group.append(document.createElement("style"), text, line);
  assert.equal(
    serializeSvg(group),
    '<g><text aria-label="a&lt;b &amp; &quot;c&quot; 1.23456">1 &lt; 2 &amp; 3</text><line x1="-1.23"/></g>',
  );
});

Deno.test("toPng() draws a figure at twice its size, or at the scale asked for", async () => {
  for (const [scale, width, height] of [[undefined, 60, 40], [1, 30, 20], [3, 90, 60]] as const) {
    const { data, info } = await sharp(await toPng(red, { scale })).removeAlpha().raw()
      .toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height], [width, height]);
    assert.deepEqual([...data.subarray(0, 3)], [255, 0, 0]);
  }
});

Deno.test("toPng() keeps the pixels of an image", async () => {
  const { data, info } = await sharp(await toPng(pixels)).raw().toBuffer({ resolveWithObject: true });
  assert.deepEqual([info.width, info.height, info.channels], [3, 1, 3]);
  assert.deepEqual([...data], [...pixels.data]);
});

Deno.test("toPng() refuses a scale of 0", async () => {
  await assert.rejects(toPng(red, { scale: 0 }), {
    name: "RangeError",
    message: "Cannot make a PNG: scale must be above 0 and at most 16, current value is 0",
  });
});

Deno.test("saveFigure() writes SVG or PNG by the ending and leaves nothing else", () =>
  withFolder(async (folder) => {
    await saveFigure(red, join(folder, "a.svg"));
    await saveFigure(red, join(folder, "b.PNG"), { scale: 1 });
    await saveFigure(pixels, join(folder, "c.png"));
    assert.deepEqual((await readdir(folder)).sort(), ["a.svg", "b.PNG", "c.png"]);
    assert.equal(await readFile(join(folder, "a.svg"), "utf8"), red.svg);
    assert.equal((await sharp(join(folder, "b.PNG")).metadata()).width, 30);
  }));

Deno.test("saveFigure() refuses other endings, and pixels as SVG", () =>
  withFolder(async (folder) => {
    await assert.rejects(saveFigure(red, "plot.jpg"), {
      name: "RangeError",
      message: 'Cannot save figure "plot.jpg": file name must end with .svg or .png, current ending is ".jpg"',
    });
    await assert.rejects(saveFigure(pixels, join(folder, "grid.svg")), { name: "TypeError" });
    await assert.rejects(saveFigure(red, join(folder, "missing", "a.svg")), /its folder does not exist/);
    assert.deepEqual(await readdir(folder), []);
  }));
