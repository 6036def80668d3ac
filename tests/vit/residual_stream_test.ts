import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { buildOnnx } from "../../lib/onnx/build.ts";
import { type OnnxModel, readOnnx } from "../../lib/onnx/model.ts";
import { bytesField } from "../../lib/onnx/wire.ts";
import { type BlockTensors, findResidualStream } from "../../lib/vit/residual_stream.ts";
import { embeddedModel, fixture, withoutNames } from "./fixtures.ts";

async function open(path: string) {
  return readOnnx(await readFile(path));
}

/** Blocks of a model that takes pixels alone. */
function streamOf(model: OnnxModel): BlockTensors[] {
  return findResidualStream(model, model.inputs[0].name);
}

Deno.test("findResidualStream() names the stream of each block of the embedded model", async () => {
  const blocks = streamOf(await open(embeddedModel)).map(({ residPre, residMid, residPost }) => ({
    residPre,
    residMid,
    residPost,
  }));
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
    const blocks = streamOf(await open(fixture(`vit/${name}.onnx`)));
    assert.equal(blocks.length, nLayers, name);
    for (let layer = 1; layer < nLayers; layer++) {
      assert.equal(blocks[layer].residPre, blocks[layer - 1].residPost, name);
    }
  }
});

Deno.test("findResidualStream() does not look at names", async () => {
  for (const path of [embeddedModel, fixture("vit/torchvision.onnx"), fixture("vit/mean_pooled.onnx")]) {
    const { model, numberOf } = withoutNames(await readFile(path));
    const expected = streamOf(await open(path)).map(({ residPre, residMid, residPost, attnOut, mlpOut }) => ({
      residPre: numberOf(residPre),
      residMid: numberOf(residMid),
      residPost: numberOf(residPost),
      attnOut: attnOut.map(numberOf),
      mlpOut: mlpOut.map(numberOf),
    }));
    assert.match(expected[0].residMid, /^\d+$/);
    assert.deepEqual(streamOf(readOnnx(model)), expected);
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
  assert.deepEqual(streamOf(shapedBlock("Softmax")), [
    { residPre: "h0", residMid: "h1", residPost: "h2", attnOut: ["branch"], mlpOut: ["down"] },
  ]);
  assert.throws(() => streamOf(shapedBlock("Sigmoid")), TypeError);
});

Deno.test("findResidualStream() refuses a network without transformer blocks", async () => {
  const model = await open(fixture("vit/small_resnet.onnx"));
  assert.throws(() => streamOf(model), {
    name: "TypeError",
    message: "Cannot find the residual stream: the graph must hold transformer blocks (attention and MLP, each added " +
      "to what went in), none was found among 9 nodes",
  });
});

/** A graph of element-wise operators over `image` and the constant `bias`. */
function graph(...nodes: [op: string, inputs: string, output: string, domain?: string][]): OnnxModel {
  return readOnnx(buildOnnx({
    inputs: [{ name: "image", dims: ["n", 3] }],
    constants: [{ name: "bias", dims: [3], data: Float32Array.of(1, 2, 3) }],
    nodes: nodes.map(([op, inputs, output, domain]) => ({ op, inputs: inputs.split(" "), outputs: [output], domain })),
    outputs: [nodes[nodes.length - 1][2]],
  }));
}

Deno.test("findResidualStream() finds what branches add where precision changes on the way", () => {
  const model = graph(
    ["Relu", "image", "h0"],
    ["Cast", "h0", "h0Half"],
    ["Softmax", "h0Half", "attended"],
    ["Add", "h0Half attended", "h1"],
    ["QuantizeLinear", "h1 bias", "h1Bytes"],
    ["DequantizeLinear", "h1Bytes bias", "h1Left"],
    ["DequantizeLinear", "h1Bytes bias", "h1Right"],
    ["Relu", "h1Left", "up"],
    ["Add", "up h1Right", "h2"],
  );
  assert.deepEqual(streamOf(model), [
    { residPre: "h0", residMid: "h1", residPost: "h2", attnOut: ["attended"], mlpOut: ["up"] },
  ]);
});

Deno.test("findResidualStream() counts constants that are added last to the branch", () => {
  const model = graph(
    ["Relu", "image", "h0"],
    ["Softmax", "h0", "attended"],
    ["Add", "h0 attended", "partial"],
    ["Add", "bias partial", "h1"],
    ["Relu", "h1", "up"],
    ["Add", "up h1", "h2"],
  );
  assert.deepEqual(streamOf(model), [
    { residPre: "h0", residMid: "h1", residPost: "h2", attnOut: ["attended", "bias"], mlpOut: ["up"] },
  ]);
});

Deno.test("findResidualStream() takes the longest chain of blocks", () => {
  const block = (from: string, to: string): [string, string, string][] => [
    ["Softmax", from, `${to}/attended`],
    ["Add", `${from} ${to}/attended`, `${to}/mid`],
    ["Relu", `${to}/mid`, `${to}/up`],
    ["Add", `${to}/mid ${to}/up`, to],
  ];
  const model = graph(
    ["Relu", "image", "a0"],
    ...block("a0", "a1"),
    ["Mul", "a1 bias", "b0"],
    ...block("b0", "b1"),
    ...block("b1", "b2"),
  );
  assert.deepEqual(streamOf(model).map(({ residPost }) => residPost), ["b1", "b2"]);
});

Deno.test("findResidualStream() says where blocks may be hidden", () => {
  const model = graph(["Relu", "image", "h0"]);
  assert.throws(() => streamOf({ ...model, header: [...model.header, ...bytesField(25, "")] }), {
    name: "TypeError",
    message: "Cannot find the residual stream: the graph must hold transformer blocks (attention and MLP, each added " +
      "to what went in), here they may be hidden in functions of the model: inline these first",
  });
});

Deno.test("findResidualStream() says why post-norm and parallel blocks do not do", () => {
  const start: [string, string, string][] = [["Relu", "image", "h0"], ["Softmax", "h0", "attended"]];
  const postNorm = graph(
    ...start,
    ["Add", "h0 attended", "sum"],
    ["Mul", "sum bias", "h1"],
    ["Relu", "h1", "up"],
    ["Add", "h1 up", "h2"],
  );
  const parallel = graph(...start, ["Relu", "h0", "up"], ["Add", "h0 attended", "sum"], ["Add", "sum up", "h1"]);
  const cases: [OnnxModel, string][] = [
    [postNorm, "here a norm stands between them, in the stream itself (post-norm blocks)"],
    [parallel, "here attention and MLP run side by side on the same input (parallel blocks)"],
  ];
  for (const [model, reason] of cases) {
    assert.throws(() => streamOf(model), {
      name: "TypeError",
      message:
        "Cannot find the residual stream: the graph must hold transformer blocks (attention and MLP, each added " +
        `to what went in), ${reason}`,
    });
  }
});
