import assert from "node:assert/strict";
import { condition, type Conditions, selectWhere } from "../../cli/where.ts";
import type { ImageSource } from "../../lib/images/source.ts";
import { imageSource } from "../vit/fixtures.ts";

const tags: [label: string | undefined, tags: Record<string, string>][] = [
  ["cat", { split: "train", note: "a=b" }],
  ["cat", { split: "test" }],
  ["dog", { split: "train" }],
  [undefined, { split: "train" }],
  ["owl", {}],
];

const images: ImageSource = {
  ...imageSource(tags.map(() => new Uint8Array())),
  info: (imageIndex) => ({
    imageIndex,
    name: `${imageIndex}`,
    label: tags[imageIndex][0],
    tags: tags[imageIndex][1],
  }),
};

function where(...texts: string[]): Conditions {
  return texts.reduce<Conditions>((before, text) => condition(text, before), new Map());
}

Deno.test("selectWhere() takes either value of one tag, and asks for each of several; a label is a tag", () => {
  const selected = (...texts: string[]) => selectWhere(images, where(...texts));
  assert.deepEqual(selected("split=train"), [0, 2, 3]);
  assert.deepEqual(selected("label=cat"), [0, 1]);
  assert.deepEqual(selected("label=dog", "label=owl"), [2, 4]);
  assert.deepEqual(selected("label=cat", "split=train", "label=dog"), [0, 2]);
  assert.deepEqual(selected("note=a=b"), [0]);
});

Deno.test("selectWhere() refuses tags and values that no image has, and says which there are", () => {
  const refused = (text: string[], message: string) =>
    assert.throws(() => selectWhere(images, where(...text)), { name: "RangeError", message });
  const start = "Cannot choose images of memory: ";
  refused(["style=noto"], start + "tag must be one of label, note, split, current value is style");
  refused(["split=train", "split=trian"], start + "split must be one of test, train, current value is trian");
  refused(["label=owl", "split=test"], start + "some image must have label=owl and split=test, none has");
  const bare = { ...images, info: (imageIndex: number) => ({ imageIndex, name: "", tags: {} }) };
  assert.throws(() => selectWhere(bare, where("toString=1")), {
    name: "RangeError",
    message: start + "tag must be one that the images have, they have none, current value is toString",
  });
  const many = { ...images, info: (imageIndex: number) => ({ imageIndex, name: "", tags: { n: `v${imageIndex}` } }) };
  const long = { ...many, nImages: 12 };
  assert.throws(() => selectWhere(long, where("n=x")), {
    name: "RangeError",
    message: start + "n must be one of v0, v1, v10, v11, v2, v3, v4, v5, v6, v7, …, current value is x",
  });
});

Deno.test("condition() refuses what is no tag and value", () => {
  for (const text of ["split", "=train", "split=", ""]) {
    assert.throws(() => condition(text), { message: "It must be a tag and its value, such as split=train." });
  }
});
