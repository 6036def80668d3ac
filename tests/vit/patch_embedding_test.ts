import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { buildOnnx, type NodeSpec, type TensorSpec } from "../../lib/onnx/build.ts";
import { readOnnx } from "../../lib/onnx/model.ts";
import { findPatchSize } from "../../lib/vit/patch_embedding.ts";
import { embeddedModel, fixture } from "./fixtures.ts";

Deno.test("findPatchSize() reads the size off the convolution", async () => {
  const cases: [string, number][] = [
    [embeddedModel, 8],
    [fixture("vit/torchvision.onnx"), 8],
    [fixture("vit/fixed_batch.onnx"), 4],
  ];
  for (const [path, patchPx] of cases) {
    const model = readOnnx(await readFile(path));
    assert.deepEqual(findPatchSize(model, model.inputs[0].name), { patchHeight: patchPx, patchWidth: patchPx });
  }
});

function graph(nodes: readonly NodeSpec[], constants: readonly TensorSpec[]) {
  const inputs = [{ name: "pixels", dims: ["n", 3, 12, 8] }];
  return readOnnx(buildOnnx({ inputs, constants, nodes, outputs: nodes[nodes.length - 1].outputs }));
}

Deno.test("findPatchSize() reads it off integer convolutions, too", () => {
  const kernel = { name: "kernel", dims: [5, 3, 6, 4], data: new Int8Array(5 * 3 * 6 * 4) };
  const one = { name: "one", dims: [], data: Float32Array.of(1) };
  const attributes = { strides: [6, 4] };
  const cases: NodeSpec[][] = [
    [{ op: "ConvInteger", inputs: ["pixels", "kernel"], outputs: ["y"], attributes }],
    [{ op: "QLinearConv", inputs: ["pixels", "one", "one", "kernel"], outputs: ["y"], attributes }],
    [
      { op: "DequantizeLinear", inputs: ["kernel", "one"], outputs: ["floats"] },
      { op: "Conv", inputs: ["pixels", "floats"], outputs: ["y"], attributes },
    ],
  ];
  for (const nodes of cases) {
    assert.deepEqual(findPatchSize(graph(nodes, [kernel, one]), "pixels"), { patchHeight: 6, patchWidth: 4 });
  }
});

Deno.test("findPatchSize() reads it off a product with patches that were cut by reshaping", () => {
  const shape = { name: "shape", dims: [3], data: BigInt64Array.of(-1n, 6n, 48n) };
  const cut: NodeSpec = { op: "Reshape", inputs: ["pixels", "shape"], outputs: ["patches"] };
  const weights = (dims: number[]) => [shape, { name: "w", dims, data: new Float32Array(5 * 48) }];
  const product: NodeSpec = { op: "MatMul", inputs: ["patches", "w"], outputs: ["y"] };
  const turned: NodeSpec = { op: "Gemm", inputs: ["patches", "w"], outputs: ["y"], attributes: { transB: 1 } };
  const expected = { patchHeight: 4, patchWidth: 4 };
  assert.deepEqual(findPatchSize(graph([cut, product], weights([48, 5])), "pixels"), expected);
  assert.deepEqual(findPatchSize(graph([cut, turned], weights([5, 48])), "pixels"), expected);
});

Deno.test("findPatchSize() refuses a graph that cuts no patches", async () => {
  const model = readOnnx(await readFile(fixture("vit/small_resnet.onnx")));
  const nodes = model.nodes.filter(({ name }) => !name.startsWith("/stem") && !name.startsWith("Conv_0"));
  assert.equal(nodes.length, model.nodes.length - 1);
  assert.throws(() => findPatchSize({ ...model, nodes }, model.inputs[0].name), {
    name: "TypeError",
    message: "Cannot find the patch embedding: the graph must hold a convolution over 3 color channels whose stride " +
      "equals its kernel, or a product with square patches cut from the pixels, none was found",
  });
});
