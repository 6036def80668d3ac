import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { embeddedPaths } from "../lib/embedded.ts";
import { openImages } from "../lib/images/open.ts";
import { selectImages } from "../lib/images/select.ts";
import { loadSae } from "../lib/sae/load.ts";
import { openVit } from "../lib/vit/vit.ts";

const data = (name: string) => fileURLToPath(new URL(`../data/${name}`, import.meta.url));

Deno.test("data/README.md tells the size and SHA-256 of each embedded file", async () => {
  const readme = await readFile(data("README.md"), "utf8");
  const rows = [...readme.matchAll(/^\| `([^`]+)`\s*\| ([\d,]+)\s*\| `([0-9a-f]{64})`/gm)];
  assert.equal(rows.length, 19);
  for (const [, name, size, sha256] of rows) {
    const bytes = await readFile(data(name));
    assert.equal(bytes.length, Number(size.replaceAll(",", "")), name);
    assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256, name);
  }
});

Deno.test("the embedded images, ViT and SAE belong together", async () => {
  const paths = embeddedPaths();
  const vit = await openVit(paths.vit);
  const sae = await loadSae(paths.sae);
  assert.equal(sae.dModel, vit.dModel);
  assert.equal(sae.provenance.model?.sha256, vit.fingerprint);
  assert.equal(sae.provenance.layer, paths.layer);
  assert.ok(sae.dSae >= 1536);
  assert.deepEqual(sae.rule, { kind: "topK", k: 16, relu: true });

  const images = await openImages(paths.images);
  assert.equal(images.nImages, 10_414);
  const heldOut: string[] = JSON.parse(await readFile(data("tiny_clip/held_out_emoji.json"), "utf8"));
  const test = selectImages(images, (info) => info.tags.split === "test");
  assert.deepEqual(new Set(test.map((i) => images.info(i).tags.base_hexcode)), new Set(heldOut));
});
