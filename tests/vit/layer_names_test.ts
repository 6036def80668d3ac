import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type LayerNames, translateLayer } from "../../lib/vit/layer_names.ts";

const nLayers = 12;
const namings = ["sparsight", "saev", "hiddenStates", "clipScope", "transformerLens", "timm", "huggingFace"] as const;

/** The output of block 10 in all its names. */
const tenth: LayerNames = {
  sparsight: { layer: 10, hook: "residPost" },
  saev: 10,
  hiddenStates: 11,
  clipScope: [10, "resid"],
  transformerLens: "blocks.10.hook_resid_post",
  timm: "blocks.10",
  huggingFace: "vision_model.encoder.layers.10",
};

Deno.test("translateLayer() takes and gives every project's name", () => {
  for (const from of namings) {
    for (const to of namings) {
      const numbered = from === "saev" || from === "hiddenStates" ? { from } : {};
      assert.deepEqual(translateLayer(tenth[from], { to, nLayers, ...numbered }), tenth[to], `${from} to ${to}`);
    }
  }
});

Deno.test("translateLayer() reads names as texts", () => {
  const cases: [string, LayerNames["sparsight"]][] = [
    ["hidden_states[11]", { layer: 10, hook: "residPost" }],
    ["hidden_states[0]", { layer: 0, hook: "residPre" }],
    ["hidden_states[-1]", { layer: 11, hook: "residPost" }],
    ["hidden_states[-13]", { layer: 0, hook: "residPre" }],
    ["(10, 'resid')", { layer: 10, hook: "residPost" }],
    ["blocks.3.hook_resid_pre", { layer: 3, hook: "residPre" }],
    ["blocks.3.hook_attn_out", { layer: 3, hook: "attnOut" }],
    ["blocks.3.hook_mlp_out", { layer: 3, hook: "mlpOut" }],
    ["visual.transformer.resblocks.4", { layer: 4, hook: "residPost" }],
    ["visual.trunk.blocks.4", { layer: 4, hook: "residPost" }],
    ["vit.encoder.layer.4", { layer: 4, hook: "residPost" }],
    ["encoder.layers.encoder_layer_4", { layer: 4, hook: "residPost" }],
    ["layer.4", { layer: 4, hook: "residPost" }],
  ];
  for (const [name, expected] of cases) {
    assert.deepEqual(translateLayer(name, { to: "sparsight", nLayers }), expected, name);
  }
});

Deno.test("translateLayer() counts negative numbers from the last", () => {
  assert.equal(translateLayer(-2, { from: "saev", to: "hiddenStates", nLayers: 24 }), 23);
  assert.equal(translateLayer(-2, { from: "hiddenStates", to: "saev", nLayers: 24 }), 22);
  assert.deepEqual(translateLayer({ layer: -2 }, { to: "clipScope", nLayers: 24 }), [22, "resid"]);
});

Deno.test("translateLayer() knows that what enters a block has left the one before", () => {
  assert.equal(translateLayer("blocks.11.hook_resid_pre", { to: "saev", nLayers }), 10);
  assert.equal(translateLayer("blocks.11.hook_resid_pre", { to: "hiddenStates", nLayers }), 11);
  assert.equal(translateLayer("blocks.0.hook_resid_pre", { to: "hiddenStates", nLayers }), 0);
  assert.throws(() => translateLayer("blocks.0.hook_resid_pre", { to: "saev", nLayers }), {
    name: "RangeError",
    message:
      'Cannot translate layer {"layer":0,"hook":"residPre"} to saev: it must be the output of a block, this is ' +
      "what enters the first",
  });
});

Deno.test("translateLayer() names the modules of each family of transformers", () => {
  const cases = { clip: "vision_model.encoder.layers.4", dinov2: "encoder.layer.4", dinov3: "layer.4" };
  for (const [model, expected] of Object.entries(cases)) {
    assert.equal(translateLayer({ layer: 4 }, { to: "huggingFace", nLayers, model }), expected);
  }
  assert.throws(() => translateLayer({ layer: 4 }, { to: "huggingFace", nLayers, model: "swin" }), {
    name: "RangeError",
    message: "Cannot translate layer to huggingFace: model must be one of clip, openClip, siglip, siglip2, dinov2, " +
      "dinov3, vit, deit, current value is swin",
  });
});

Deno.test("translateLayer() refuses what it cannot tell", () => {
  const cases: [() => unknown, string, string][] = [
    [
      () => translateLayer(10, { to: "saev", nLayers }),
      "TypeError",
      "Cannot translate layer 10: from must say whether it counts blocks (saev, clipScope, sparsight) or hidden states " +
      "(hiddenStates)",
    ],
    [
      () => translateLayer("penultimate", { to: "saev", nLayers }),
      "SyntaxError",
      "Cannot translate layer penultimate: it must look like blocks.10.hook_resid_post, hidden_states[11], " +
      "(10, 'resid'), blocks.10 or vision_model.encoder.layers.10",
    ],
    [
      () => translateLayer("blocks.3.hook_resid_mid", { to: "saev", nLayers }),
      "RangeError",
      "Cannot translate layer blocks.3.hook_resid_mid: its hook must be one of hook_resid_pre, hook_attn_out, " +
      "hook_mlp_out, hook_resid_post",
    ],
    [
      () => translateLayer("blocks.12", { to: "saev", nLayers }),
      "RangeError",
      "Cannot translate layer blocks.12: its block must be between 0 and 11, or between -12 and -1 to count from the " +
      "last, current value is 12",
    ],
    [
      () => translateLayer("hidden_states[13]", { to: "saev", nLayers }),
      "RangeError",
      "Cannot translate layer hidden_states[13]: its index must be between 0 and 12, or between -13 and -1 to count " +
      "from the last",
    ],
    [
      () => translateLayer({ layer: 3, hook: "mlpOut" }, { to: "timm", nLayers }),
      "RangeError",
      'Cannot translate layer {"layer":3,"hook":"mlpOut"} to timm: it must be the output of a block, current hook is ' +
      "mlpOut",
    ],
    [
      () => translateLayer({ layer: 3 }, { to: "keras" as "timm", nLayers }),
      "RangeError",
      "Cannot translate layer: to must be one of sparsight, saev, hiddenStates, clipScope, transformerLens, timm, " +
      "huggingFace, current value is keras",
    ],
  ];
  for (const [translate, name, message] of cases) assert.throws(translate, { name, message });
});

Deno.test("docs/vits.md gives the names that translateLayer() gives", async () => {
  const text = await readFile(new URL("../../docs/vits.md", import.meta.url), "utf8");
  const rows = text.split("\n").filter((line) => /^\| `\w+` +\|.*\|$/.test(line))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim().replace(/^`|`$/g, "")));
  const table = new Map(rows.map(([naming, ...cells]) => [naming, cells]));
  for (const naming of namings) {
    const output = tenth[naming];
    const shown = typeof output === "string" ? output : JSON.stringify(output).replaceAll(/"(\w+)":/g, "$1: ");
    assert.equal(table.get(naming)?.[0].replaceAll(/[{}" ]/g, ""), shown.replaceAll(/[{}" ]/g, ""), naming);
  }
});
