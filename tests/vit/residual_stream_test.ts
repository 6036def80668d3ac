import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { buildOnnx } from "../../lib/onnx/build.ts";
import { readOnnx } from "../../lib/onnx/model.ts";
import { findPatchEmbedding, findResidualStream } from "../../lib/vit/residual_stream.ts";
import { embeddedModel, fixture, withoutNames } from "./fixtures.ts";

async function open(path: string) {
  return readOnnx(await readFile(path));
}

Deno.test("findResidualStream() names the stream of each block of the embedded model", async () => {
  const blocks = findResidualStream(await open(embeddedModel));
  const block = (layer: number) => `/encoder/layers.${layer}`;
  assert.deepEqual(
    blocks,
    Array.from({ length: 6 }, (_, layer) => ({
      residPre: layer === 0 ? "/pre_layrnorm/LayerNormalization_output_0" : `${block(layer - 1)}/Add_1_output_0`,
      residMid: `${block(layer)}/Add_output_0`,
      residPost: layer === 5 ? "last_hidden_state" : `${block(layer)}/Add_1_output_0`,
    })),
  );
});

Deno.test("findResidualStream() chains the blocks of every exporter", async () => {
  const cases: [string, number][] = [["torchvision", 3], ["fixed_batch", 2], ["mean_pooled", 2]];
  for (const [name, nLayers] of cases) {
    const blocks = findResidualStream(await open(fixture(`vit/${name}.onnx`)));
    assert.equal(blocks.length, nLayers, name);
    for (let layer = 1; layer < nLayers; layer++) {
      assert.equal(blocks[layer].residPre, blocks[layer - 1].residPost, name);
    }
  }
});

Deno.test("findResidualStream() does not look at names", async () => {
  for (const path of [embeddedModel, fixture("vit/torchvision.onnx"), fixture("vit/mean_pooled.onnx")]) {
    const { model, numberOf } = withoutNames(await readFile(path));
    const expected = findResidualStream(await open(path)).map(({ residPre, residMid, residPost }) => ({
      residPre: numberOf(residPre),
      residMid: numberOf(residMid),
      residPost: numberOf(residPost),
    }));
    assert.match(expected[0].residMid, /^\d+$/);
    assert.deepEqual(findResidualStream(readOnnx(model)), expected);
  }
});

/** A block whose branches take their shape from the image, in either order of the additions. */
function shapedBlock(attention: "Softmax" | "Sigmoid") {
  return readOnnx(buildOnnx({
    inputs: [{ name: "image", dims: ["n", 3] }],
    constants: [],
    nodes: [
      { op: "Shape", inputs: ["image"], outputs: ["shape"] },
      { op: "Relu", inputs: ["image"], outputs: ["h0"] },
      { op: attention, inputs: ["h0"], outputs: ["mixed"] },
      { op: "Reshape", inputs: ["mixed", "shape"], outputs: ["branch"] },
      { op: "Add", inputs: ["branch", "h0"], outputs: ["h1"] },
      { op: "Relu", inputs: ["h1"], outputs: ["up"] },
      { op: "Reshape", inputs: ["up", "shape"], outputs: ["down"] },
      { op: "Add", inputs: ["h1", "down"], outputs: ["h2"] },
    ],
    outputs: ["h2"],
  }));
}

Deno.test("findResidualStream() does not take the shape of the image for the image", () => {
  assert.deepEqual(findResidualStream(shapedBlock("Softmax")), [{ residPre: "h0", residMid: "h1", residPost: "h2" }]);
  assert.throws(() => findResidualStream(shapedBlock("Sigmoid")), TypeError);
});

Deno.test("findResidualStream() refuses a network without transformer blocks", async () => {
  const model = await open(fixture("vit/small_resnet.onnx"));
  assert.throws(() => findResidualStream(model), {
    name: "TypeError",
    message: "Cannot find the residual stream: the graph must hold transformer blocks (attention and MLP, each added " +
      "to what went in), none was found among 9 nodes",
  });
});

Deno.test("findPatchEmbedding() reads patch size and width off the convolution", async () => {
  const cases: [string, number, number][] = [
    [embeddedModel, 8, 192],
    [fixture("vit/torchvision.onnx"), 8, 16],
    [fixture("vit/fixed_batch.onnx"), 4, 12],
  ];
  for (const [path, patchPx, dModel] of cases) {
    assert.deepEqual(findPatchEmbedding(await open(path)), { patchHeight: patchPx, patchWidth: patchPx, dModel });
  }
});

Deno.test("findPatchEmbedding() refuses a graph without such a convolution", async () => {
  const model = await open(fixture("vit/small_resnet.onnx"));
  const nodes = model.nodes.filter(({ name }) => !name.startsWith("/stem") && !name.startsWith("Conv_0"));
  const withoutStem = { ...model, nodes };
  assert.equal(nodes.length, model.nodes.length - 1);
  assert.throws(() => findPatchEmbedding(withoutStem), {
    name: "TypeError",
    message: "Cannot find the patch embedding: the graph must hold a convolution over 3 color channels whose stride " +
      "equals its kernel, none was found",
  });
});
