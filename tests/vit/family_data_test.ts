import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { outputSize } from "../../lib/images/pixels.ts";
import { type GraphSigns, vitFamilies } from "../../lib/vit/families.ts";
import { familyFromConfig, familyFromGraph, familyOf, nameSpecialTokens } from "../../lib/vit/recognize_family.ts";
import { familyRows } from "./family_rows.ts";

Deno.test("docs/vits.md shows vitFamilies", async () => {
  const text = await readFile(new URL("../../docs/vits.md", import.meta.url), "utf8");
  const section = text.split("\n## Families\n")[1].split("\n## ")[0];
  const rows = section.split("\n").filter((line) => line.startsWith("| `"));
  assert.deepEqual(rows.map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim())), familyRows());
});

Deno.test("vitFamilies gives pixels of the size it names", () => {
  for (const { name, transform, sizePx } of vitFamilies) {
    assert.deepEqual(
      outputSize({ heightPx: 480, widthPx: 640 }, transform),
      { heightPx: sizePx, widthPx: sizePx },
      name,
    );
  }
});

Deno.test("familyFromConfig() tells families by their type, activation and vocabulary", () => {
  const cases: [Parameters<typeof familyFromConfig>[0], string | undefined][] = [
    [{ model_type: "clip", vision_config: { hidden_act: "quick_gelu" } }, "clip"],
    [{ model_type: "clip", vision_config: { hidden_act: "gelu" } }, "openClip"],
    [{ model_type: "clip_vision_model", hidden_act: "gelu" }, "openClip"],
    [{ model_type: "clip_vision_model" }, "clip"],
    [{ model_type: "siglip", text_config: { vocab_size: 32000 } }, "siglip"],
    [{ model_type: "siglip", text_config: { vocab_size: 256000 } }, "siglip2"],
    [{ model_type: "siglip2" }, "siglip2"],
    [{ model_type: "dinov2_with_registers", hidden_act: "gelu" }, "dinov2"],
    [{ model_type: "dinov3_vit" }, "dinov3"],
    [{ model_type: "swin", hidden_act: "gelu" }, undefined],
    [{}, undefined],
  ];
  for (const [config, name] of cases) assert.equal(familyFromConfig(config)?.name, name, JSON.stringify(config));
});

Deno.test("familyFromGraph() tells a family by signs that no other has", () => {
  const plain: GraphSigns = {
    patchPx: 16,
    nSpecialTokens: 1,
    gelu: "exact",
    layerNormEpsilon: Math.fround(1e-6),
    normBeforeBlocks: false,
    layerScale: false,
    rotary: false,
  };
  const cases: [Partial<GraphSigns>, string | undefined][] = [
    [{ gelu: "quick", normBeforeBlocks: true }, "clip"],
    [{ normBeforeBlocks: true }, "openClip"],
    [{ normBeforeBlocks: true, rotary: true }, "peCore"],
    [{ gelu: "tanh", nSpecialTokens: 0 }, "siglip"],
    [{ layerScale: true, patchPx: 14 }, "dinov2"],
    [{ layerScale: true, patchPx: 14, nSpecialTokens: 5 }, "dinov2"],
    [{ layerScale: true, rotary: true, nSpecialTokens: 5 }, "dinov3"],
    [{ layerNormEpsilon: Math.fround(1e-12) }, "vit"],
    [{ nSpecialTokens: 2 }, "deit"],
    // timm's, torchvision's and others' ViTs look alike.
    [{}, undefined],
    [{ layerNormEpsilon: undefined }, undefined],
    [{ gelu: undefined, normBeforeBlocks: true }, undefined],
  ];
  for (const [signs, name] of cases) {
    assert.equal(familyFromGraph({ ...plain, ...signs })?.name, name, JSON.stringify(signs));
  }
});

Deno.test("nameSpecialTokens() goes by the family, else by the number", () => {
  const four = Array<string>(4).fill("register");
  const cases: [number, string | undefined, string[]][] = [
    [0, undefined, []],
    [1, undefined, ["cls"]],
    [2, "deit", ["cls", "distillation"]],
    [2, undefined, ["cls", "register"]],
    [4, undefined, four],
    [5, "dinov2", ["cls", ...four]],
    [1, "deit", ["cls"]],
  ];
  for (const [count, family, expected] of cases) {
    assert.deepEqual(nameSpecialTokens(count, family === undefined ? undefined : familyOf(family)), expected);
  }
});
