import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readFile } from "node:fs/promises";
import { constantDims, nodeAttribute } from "../../lib/onnx/attributes.ts";
import { buildOnnx, makeInput, makeNode, microsoftDomain, withMicrosoftOperators } from "../../lib/onnx/build.ts";
import { cutToOutputs } from "../../lib/onnx/cut.ts";
import { elementTypes, readNode, readOnnx, withInputs } from "../../lib/onnx/model.ts";
import { createSession, loadOrt } from "../../lib/runtime/ort.ts";

const node = makeNode({
  op: "QuickGelu",
  domain: microsoftDomain,
  inputs: ["x", "", "z"],
  outputs: ["y"],
  attributes: { alpha: { float: 1.5 }, axis: -1, perm: [2, 0, -1], mode: "tanh" },
});

Deno.test("makeNode() writes what readNode() reads", () => {
  const { opType, domain, inputs, outputs, bytes } = readNode(node.bytes);
  assert.deepEqual({ opType, domain, inputs, outputs }, {
    opType: "QuickGelu",
    domain: "com.microsoft",
    inputs: ["x", "", "z"],
    outputs: ["y"],
  });
  assert.deepEqual(bytes, node.bytes);
});

Deno.test("nodeAttribute() reads each kind of attribute, wherever its bytes are", () => {
  // A view into a larger buffer, as the nodes of a model are.
  const large = Buffer.concat([Buffer.alloc(7, 255), node.bytes]);
  for (const one of [node, { ...node, bytes: large.subarray(7) }]) {
    assert.equal(nodeAttribute(one, "alpha")?.float, 1.5);
    assert.equal(nodeAttribute(one, "axis")?.integer, -1);
    assert.deepEqual(nodeAttribute(one, "perm")?.integers, [2, 0, -1]);
    assert.equal(nodeAttribute(one, "mode")?.text, "tanh");
    assert.equal(nodeAttribute(one, "beta"), undefined);
  }
});

Deno.test("withInputs() changes the inputs and nothing else", () => {
  const before = node.bytes.slice();
  const changed = withInputs(node, ["a", "b"]);
  const read = readNode(changed.bytes);
  assert.deepEqual([read.inputs, read.outputs, read.domain], [["a", "b"], ["y"], "com.microsoft"]);
  assert.equal(nodeAttribute(read, "alpha")?.float, 1.5);
  assert.deepEqual(node.bytes, before);
});

Deno.test("constantDims() reads the shape of a Constant", async () => {
  // This export kept its constants as nodes.
  const { nodes } = readOnnx(await readFile(new URL("../fixtures/vit/fixed_batch.onnx", import.meta.url)));
  const shapes = nodes.filter(({ opType }) => opType === "Constant").map(constantDims);
  assert.ok(shapes.some((dims) => dims?.length === 0) && shapes.some((dims) => dims?.length === 1));
  assert.equal(constantDims(node), undefined);
});

Deno.test("readOnnx() tells where weights are that another file holds", async () => {
  const model = readOnnx(await readFile(new URL("../fixtures/vits/vit_external.onnx", import.meta.url)));
  const external = [...model.initializers.values()].flatMap((one) => one.external ? [{ ...one, ...one.external }] : []);
  assert.ok(external.length > 0);
  for (const { location, offset, length, dims, elementType } of external) {
    assert.equal(location, "vit_external.onnx_data");
    assert.ok(offset >= 0);
    assert.equal(elementType, elementTypes.float32);
    assert.equal(length, 4 * dims.reduce((product, dim) => product * dim, 1));
  }
});

Deno.test("withMicrosoftOperators() lets a model use onnxruntime's operators, and the cut keeps them", async () => {
  const plain = readOnnx(buildOnnx({
    inputs: [{ name: "x", dims: ["n"] }, { name: "unused", dims: ["n"], type: "int64" }],
    constants: [],
    nodes: [{ op: "Relu", inputs: ["x"], outputs: ["y"] }],
    outputs: ["y"],
  }));
  const gelu = makeNode({ op: "QuickGelu", domain: microsoftDomain, inputs: ["y"], outputs: ["z"] });
  const model = withMicrosoftOperators({ ...plain, nodes: [...plain.nodes, gelu] });
  assert.equal(withMicrosoftOperators(model), model);
  const cut = cutToOutputs(model, ["z"]);
  assert.deepEqual(readOnnx(cut).inputs.map(({ name }) => name), ["x"]);
  const { Tensor } = await loadOrt();
  const session = await createSession(cut, { threads: 1 });
  const { z } = await session.run({ x: new Tensor("float32", Float32Array.of(-3, 0, 1), [3]) });
  await session.release();
  [0, 0, 0.8457957659328212].forEach((value, i) => assert.ok(Math.abs((z.data as Float32Array)[i] - value) < 1e-6));
});

Deno.test("makeInput() writes shapes and types that readOnnx() reads", () => {
  const { bytes } = makeInput({ name: "pixels", dims: ["n", 3, 8, 12], type: "float16" });
  const built = buildOnnx({
    inputs: [{ name: "pixels", dims: ["n", 3, 8, 12], type: "float16" }],
    constants: [],
    nodes: [{ op: "Relu", inputs: ["pixels"], outputs: ["y"] }],
    outputs: ["y"],
  });
  const [input] = readOnnx(built).inputs;
  assert.deepEqual([input.dims, input.elementType], [["n", 3, 8, 12], elementTypes.float16]);
  assert.deepEqual(Uint8Array.from(input.bytes), bytes);
});
