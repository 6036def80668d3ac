import assert from "node:assert/strict";
import { buildOnnx } from "../../lib/onnx/build.ts";
import { traceFlow } from "../../lib/onnx/flow.ts";
import { readOnnx } from "../../lib/onnx/model.ts";

const model = readOnnx(buildOnnx({
  inputs: [{ name: "image", dims: ["n"] }, { name: "text", dims: ["n"] }],
  constants: [{ name: "w", dims: [], data: Float32Array.of(2) }],
  nodes: [
    { op: "Shape", inputs: ["image"], outputs: ["shape"] },
    { op: "Relu", inputs: ["image"], outputs: ["a"] },
    { op: "Cast", inputs: ["a"], outputs: ["half"], attributes: { to: 10 } },
    { op: "Identity", inputs: ["half"], outputs: ["same"] },
    { op: "Mul", inputs: ["same", "w"], outputs: ["b"] },
    { op: "Reshape", inputs: ["b", "shape"], outputs: ["c"] },
    { op: "Relu", inputs: ["text"], outputs: ["words"] },
    { op: "Add", inputs: ["c", "words"], outputs: ["d"] },
    { op: "Add", inputs: ["c", "image"], outputs: ["e"] },
  ],
  outputs: ["d", "e"],
}));
const flow = traceFlow(model, "image");
const opTypes = (nodes: readonly { opType: string }[] | undefined) => nodes?.map(({ opType }) => opType);

Deno.test("traceFlow() tells what depends on an input, shapes apart", () => {
  const tensors = ["image", "shape", "a", "b", "c", "w", "text", "words", "d", "e"];
  assert.deepEqual(tensors.filter(flow.depends), ["image", "a", "b", "c", "d", "e"]);
});

Deno.test("traceFlow() knows who makes and who takes a tensor", () => {
  assert.equal(flow.producer("b")?.opType, "Mul");
  assert.equal(flow.producer("image"), undefined);
  assert.deepEqual(opTypes(flow.consumers("c")), ["Add", "Add"]);
  assert.deepEqual(flow.consumers("e"), []);
});

Deno.test("traceFlow() goes back through changes of precision", () => {
  assert.equal(flow.origin("same"), "a");
  assert.equal(flow.origin("b"), "b");
  assert.equal(flow.origin("w"), "w");
});

Deno.test("traceFlow() lists what is between two tensors, unless there is a way around", () => {
  assert.deepEqual(opTypes(flow.between("a", "d")), ["Add", "Reshape", "Mul", "Identity", "Cast"]);
  assert.deepEqual(flow.between("a", "a"), []);
  assert.equal(flow.between("a", "e"), undefined);
});
