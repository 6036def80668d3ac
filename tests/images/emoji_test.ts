import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { decodeImage, readImage } from "../../lib/images/decode.ts";
import { openImages } from "../../lib/images/open.ts";
import { selectImages } from "../../lib/images/select.ts";

const EMOJI = fileURLToPath(new URL("../../data/emoji.arrow", import.meta.url));
const HELD_OUT = new URL("../../data/tiny_clip/held_out_emoji.json", import.meta.url);
const ORACLE = new URL("../fixtures/tiny_clip/", import.meta.url);

Deno.test("emoji.arrow holds the drawings that the embedded model was trained and tested on", async () => {
  const source = await openImages(EMOJI);
  const infos = Array.from({ length: source.nImages }, (_, i) => source.info(i));
  const count = (tag: string, value: string) => infos.filter(({ tags }) => tags[tag] === value).length;
  assert.equal(source.nImages, 10_414);
  assert.equal(new Set(infos.map(({ tags }) => tags.base_hexcode)).size, 1906);
  assert.deepEqual(["noto", "twemoji", "fluent"].map((style) => count("style", style)), [3521, 3521, 3372]);
  // Each tone has the same emoji.
  const tones = ["light", "medium-light", "medium", "medium-dark", "dark"];
  assert.deepEqual(tones.map((tone) => count("skin_tone", tone)), [950, 950, 950, 950, 950]);
  assert.deepEqual(infos.filter(({ label, tags }) => label !== tags.group), []);
});

Deno.test("emoji.arrow splits by base emoji, as the embedded model does", async () => {
  const source = await openImages(EMOJI);
  const heldOut: string[] = JSON.parse(await readFile(HELD_OUT, "utf8"));
  const test = selectImages(source, ({ tags }) => tags.split === "test");
  const bases = new Set(test.map((i) => source.info(i).tags.base_hexcode));
  assert.deepEqual([...bases].sort(), [...heldOut].sort());
  const train = selectImages(source, ({ tags }) => tags.split === "train");
  assert.equal(train.length + test.length, source.nImages);
  assert.ok(train.every((i) => !bases.has(source.info(i).tags.base_hexcode)));
});

Deno.test("emoji.arrow is in the order of Unicode, skin tone, style", async () => {
  const source = await openImages(EMOJI);
  const facepalms = selectImages(source, ({ tags }) => tags.base_hexcode === "1F926");
  const tones = ["none", "light", "medium-light", "medium", "medium-dark", "dark"];
  assert.deepEqual(
    facepalms.map((i) => `${source.info(i).tags.skin_tone} ${source.info(i).tags.style}`),
    tones.flatMap((tone) => ["noto", "twemoji", "fluent"].map((style) => `${tone} ${style}`)),
  );
  assert.deepEqual(facepalms, facepalms.map((_, i) => facepalms[0] + i));
  assert.equal(source.info(0).name, "grinning face");
});

Deno.test("emoji.arrow has the very pixels of the oracle's images", async () => {
  const source = await openImages(EMOJI);
  const oracle: { hex: string; label: string }[] = JSON.parse(await readFile(new URL("images.json", ORACLE), "utf8"));
  assert.equal(oracle.length, 24);
  const noto = selectImages(source, ({ tags }) => tags.style === "noto");
  const indexOf = new Map(noto.map((i) => [source.info(i).tags.hexcode, i]));
  for (const { hex, label } of oracle) {
    const index = indexOf.get(hex);
    assert.ok(index !== undefined, hex);
    assert.equal(source.info(index).name, label);
    const expected = await decodeImage(await readFile(new URL(`rgba/${hex.toLowerCase()}.png`, ORACLE)), { name: hex });
    assert.deepEqual(await readImage(source, index), expected);
  }
});
