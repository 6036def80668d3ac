import assert from "node:assert/strict";
import { buildOnnx, microsoftDomain, type NodeSpec } from "../../lib/onnx/build.ts";
import { cutToOutputs } from "../../lib/onnx/cut.ts";
import { type OnnxModel, readOnnx } from "../../lib/onnx/model.ts";
import { takeApart } from "../../lib/vit/fused_ops.ts";
import { findResidualStream } from "../../lib/vit/residual_stream.ts";
import { assertWithin } from "./fixtures.ts";
import { runModel } from "./run_model.ts";

const image = { name: "image", data: Float32Array.of(1, -2, 4, 0.5, 3, -1), dims: [1, 2, 3] };

function graph(nodes: readonly NodeSpec[]): OnnxModel {
  return readOnnx(buildOnnx({
    inputs: [{ name: "image", dims: ["n", 2, 3] }],
    constants: [
      { name: "scale", dims: [3], data: Float32Array.of(1, 2, 0.5) },
      { name: "shift", dims: [3], data: Float32Array.of(0.25, 0, -1) },
      { name: "bias", dims: [3], data: Float32Array.of(10, 20, 30) },
      { name: "step", dims: [], data: Float32Array.of(0.25) },
      { name: "zero", dims: [], data: Int8Array.of(3) },
    ],
    nodes,
    outputs: [],
  }));
}

const start: NodeSpec[] = [
  { op: "Identity", inputs: ["image"], outputs: ["h0"] },
  { op: "Softmax", inputs: ["h0"], outputs: ["attended"] },
];
const end = (norm: string, stream: string): NodeSpec[] => [
  { op: "Relu", inputs: [norm], outputs: ["up"] },
  { op: "Add", inputs: ["up", stream], outputs: ["h2"] },
];

Deno.test("takeApart() parts the addition from the norm, with the same numbers", async () => {
  const epsilon = { epsilon: { float: 1e-3 } };
  const skip = (op: string, inputs: string[], outputs: string[]): NodeSpec[] => [
    ...start,
    { op, domain: microsoftDomain, inputs: ["attended", "h0", ...inputs], outputs, attributes: epsilon },
  ];
  const cases: [NodeSpec[], string, string[]][] = [
    [skip("SkipLayerNormalization", ["scale", "shift"], ["norm"]), "norm/sum", ["attended"]],
    [skip("SkipLayerNormalization", ["scale", "shift", "bias"], ["norm", "", "", "h1"]), "h1", ["attended", "bias"]],
    [skip("SkipSimplifiedLayerNormalization", ["scale"], ["norm", "", "", "h1"]), "h1", ["attended"]],
    [skip("SkipSimplifiedLayerNormalization", ["scale", "bias"], ["norm"]), "norm/sum", ["attended", "bias"]],
  ];
  for (const [nodes, sum, attnOut] of cases) {
    const fused = graph(nodes);
    const model = takeApart(fused, "image");
    const [{ norm }, apart] = [
      await runModel(cutToOutputs(fused, ["norm"]), image),
      await runModel(cutToOutputs(model, ["norm", sum, "attended"]), image),
    ];
    assertWithin(apart.norm, norm, 1e-5);
    const bias = attnOut.length > 1 ? [10, 20, 30] : [0, 0, 0];
    assertWithin(apart[sum], image.data.map((value, i) => value + apart.attended[i] + bias[i % 3]), 1e-6);
    const whole = takeApart(graph([...nodes, ...end("norm", nodes[2].outputs[3] ?? "norm")]), "image");
    if (nodes[2].outputs[3] === undefined) continue; // Nothing else can take a sum that has no name.
    assert.deepEqual(findResidualStream(whole, "image"), [
      { residPre: "image", residMid: "h1", residPost: "h2", attnOut, mlpOut: ["up"] },
    ]);
  }
});

Deno.test("takeApart() finds the stream between two fused norms that do not name it", () => {
  const model = takeApart(
    graph([
      ...start,
      {
        op: "SkipLayerNormalization",
        domain: microsoftDomain,
        inputs: ["h0", "attended", "scale", "shift"],
        outputs: ["norm", "", "", "h1"],
      },
      { op: "Relu", inputs: ["norm"], outputs: ["up"] },
      {
        op: "SkipLayerNormalization",
        domain: microsoftDomain,
        inputs: ["h1", "up", "scale", "shift"],
        outputs: ["last"],
      },
    ]),
    "image",
  );
  assert.equal(findResidualStream(model, "image")[0].residPost, "last/sum");
});

Deno.test("takeApart() adds up a sum of several, constants last", async () => {
  const nodes: NodeSpec[] = [...start, { op: "Sum", inputs: ["bias", "h0", "attended"], outputs: ["h1"] }];
  const fused = graph([...nodes, ...end("h1", "h1")]);
  const model = takeApart(fused, "image");
  assert.deepEqual(findResidualStream(model, "image")[0].attnOut, ["attended", "bias"]);
  const { h2 } = await runModel(cutToOutputs(fused, ["h2"]), image);
  assertWithin((await runModel(cutToOutputs(model, ["h2"]), image)).h2, h2, 1e-5);
});

Deno.test("takeApart() turns an addition of integers into one of floats", async () => {
  const quantize = (from: string, to: string): NodeSpec => ({
    op: "QuantizeLinear",
    inputs: [from, "step", "zero"],
    outputs: [to],
  });
  const dequantize = (from: string, to: string): NodeSpec => ({
    op: "DequantizeLinear",
    inputs: [from, "step", "zero"],
    outputs: [to],
  });
  const add = (left: string, right: string, sum: string): NodeSpec => ({
    op: "QLinearAdd",
    domain: microsoftDomain,
    inputs: [left, "step", "zero", right, "step", "zero", "step", "zero"],
    outputs: [sum],
  });
  const fused = graph([
    ...start,
    quantize("h0", "h0Bytes"),
    quantize("attended", "attendedBytes"),
    add("h0Bytes", "attendedBytes", "h1Bytes"),
    dequantize("h1Bytes", "h1"),
    { op: "Relu", inputs: ["h1"], outputs: ["up"] },
    quantize("up", "upBytes"),
    add("h1Bytes", "upBytes", "h2Bytes"),
    dequantize("h2Bytes", "h2"),
  ]);
  const model = takeApart(fused, "image");
  const [block] = findResidualStream(model, "image");
  assert.deepEqual([block.residPre, block.residMid, block.residPost], ["image", "h1Bytes/sum", "h2Bytes/sum"]);
  const { h2 } = await runModel(cutToOutputs(fused, ["h2"]), image);
  const apart = await runModel(cutToOutputs(model, ["h2", block.residPost]), image);
  assertWithin(apart.h2, h2, 1e-6);
  assertWithin(apart[block.residPost], h2, 0.25);
});

Deno.test("takeApart() leaves other models as they are", () => {
  const plain = graph([...start, ...end("attended", "h0")]);
  assert.equal(takeApart(plain, "image"), plain);
});
