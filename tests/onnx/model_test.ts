import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { buildOnnx } from "../../lib/onnx/build.ts";
import { nodeIntegers } from "../../lib/onnx/attributes.ts";
import { cutToOutputs } from "../../lib/onnx/cut.ts";
import { producers, readOnnx } from "../../lib/onnx/model.ts";
import { bytesField, integerField, joinPieces, type Pieces } from "../../lib/onnx/wire.ts";
import { createSession, loadOrt } from "../../lib/runtime/ort.ts";

const embedded = new URL("../../data/tiny_clip/vision_model.onnx", import.meta.url);
const smallVit = new URL("../fixtures/vit/torchvision.onnx", import.meta.url);

/** y = (x · w) + x, z = max(y, 0). */
function smallModel(): Uint8Array {
  return buildOnnx({
    inputs: [{ name: "x", dims: ["n", 2] }],
    constants: [{ name: "w", dims: [2, 2], data: Float32Array.of(1, 2, 3, 4) }],
    nodes: [
      { op: "MatMul", inputs: ["x", "w"], outputs: ["xw"] },
      { op: "Add", inputs: ["xw", "x"], outputs: ["y"] },
      { op: "Relu", inputs: ["y"], outputs: ["z"] },
    ],
    outputs: ["z"],
  });
}

async function run(model: Uint8Array, feeds: Record<string, [Float32Array, number[]]>) {
  const { Tensor } = await loadOrt();
  const session = await createSession(model, { threads: 1 });
  const tensors = Object.entries(feeds).map(([name, [data, dims]]) => [name, new Tensor("float32", data, dims)]);
  const results = await session.run(Object.fromEntries(tensors));
  const outputs = Object.fromEntries(session.outputNames.map((name) => [name, results[name].data as Float32Array]));
  await session.release();
  return outputs;
}

Deno.test("readOnnx() reads the graph that buildOnnx() builds", () => {
  const { nodes, initializers, inputs, outputs } = readOnnx(smallModel());
  assert.deepEqual(nodes.map(({ opType, inputs, outputs }) => [opType, inputs, outputs]), [
    ["MatMul", ["x", "w"], ["xw"]],
    ["Add", ["xw", "x"], ["y"]],
    ["Relu", ["y"], ["z"]],
  ]);
  assert.deepEqual([...initializers.values()].map(({ name, dims, external }) => [name, dims, external]), [
    ["w", [2, 2], undefined],
  ]);
  assert.deepEqual(inputs.map(({ name, dims }) => [name, dims]), [["x", ["n", 2]]]);
  assert.deepEqual(outputs.map(({ name }) => name), ["z"]);
});

Deno.test("readOnnx() reads the embedded model", async () => {
  const model = readOnnx(await readFile(embedded));
  assert.deepEqual(model.inputs.map(({ name, dims }) => [name, dims]), [["pixel_values", ["batch_size", 3, 64, 64]]]);
  assert.deepEqual(model.outputs.map(({ name }) => name), ["image_embeds", "last_hidden_state"]);
  assert.deepEqual([model.nodes.length, model.initializers.size], [430, 104]);
  const patches = model.nodes.find(({ opType }) => opType === "Conv")!;
  assert.deepEqual(model.initializers.get(patches.inputs[1])?.dims, [192, 3, 8, 8]);
  assert.deepEqual(nodeIntegers(patches, "strides"), [8, 8]);
  assert.equal(nodeIntegers(patches, "axes"), undefined);
  assert.equal(model.nodes[producers(model).get("image_embeds")!].outputs[0], "image_embeds");
});

Deno.test("readOnnx() hands out views of the file's bytes", async () => {
  const bytes = await readFile(smallVit);
  const { nodes, initializers } = readOnnx(bytes);
  assert.equal(nodes[0].bytes.buffer, bytes.buffer);
  assert.ok([...initializers.values()].every((initializer) => initializer.bytes.buffer === bytes.buffer));
});

Deno.test("readOnnx() leaves out inputs that are initializers", async () => {
  const { inputs, initializers } = readOnnx(
    await readFile(new URL("../fixtures/vit/fixed_batch.onnx", import.meta.url)),
  );
  assert.deepEqual(inputs.map(({ name, dims }) => [name, dims]), [["x", [1, 3, 12, 12]]]);
  assert.equal(initializers.size, 32);
});

Deno.test("readOnnx() refuses a model that was cut short, at every length", () => {
  const bytes = smallModel();
  const allowed =
    /^Cannot read ONNX model: the file must (be a protobuf message, it may be cut short|hold (a graph|an operator set), none was found)$/;
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => readOnnx(bytes.subarray(0, length)), { name: "SyntaxError", message: allowed });
  }
  assert.equal(readOnnx(bytes).nodes.length, 3);
});

Deno.test("readOnnx() gives a model or one SyntaxError whatever bytes are damaged", () => {
  const bytes = smallModel();
  const damage = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 8 });
  fc.assert(
    fc.property(damage, (changes) => {
      const damaged = bytes.slice();
      for (const [position, byte] of changes) damaged[position] = byte;
      try {
        assert.ok(readOnnx(damaged).nodes.length <= bytes.length);
      } catch (error) {
        assert.ok(error instanceof SyntaxError, String(error));
        assert.match(error.message, /^Cannot read ONNX model: /);
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("cutToOutputs() computes the same numbers as the whole model and drops later blocks", async () => {
  const bytes = await readFile(embedded);
  const model = readOnnx(bytes);
  const names = ["/encoder/layers.0/Add_output_0", "/encoder/layers.2/Add_1_output_0"];
  // Protobuf joins a second graph to the first: these outputs are added to the whole model.
  const whole = joinPieces([bytes, ...bytesField(7, names.flatMap((name) => bytesField(12, bytesField(1, name))))]);
  const cut = cutToOutputs(model, names);
  const pixels = Float32Array.from({ length: 2 * 3 * 64 * 64 }, (_, i) => Math.sin(i * 0.37));
  const expected = await run(whole, { pixel_values: [pixels, [2, 3, 64, 64]] });
  const actual = await run(cut, { pixel_values: [pixels, [2, 3, 64, 64]] });

  assert.deepEqual(Object.keys(actual), names);
  for (const name of names) {
    assert.equal(actual[name].length, 2 * 65 * 192);
    // Both run the same operators, though onnxruntime may fuse them differently around an output.
    actual[name].forEach((value, i) => assert.ok(Math.abs(value - expected[name][i]) < 1e-5, `${name} ${i}`));
  }
  const kept = readOnnx(cut);
  assert.ok(kept.nodes.some(({ name }) => name.startsWith("/encoder/layers.2/")));
  assert.ok(!kept.nodes.some(({ name }) => /layers\.[345]|visual_projection/.test(name)));
  assert.ok(cut.length < 0.55 * bytes.length, `${cut.length} of ${bytes.length} bytes are left`);
  assert.deepEqual(joinPieces(kept.header), joinPieces(model.header));
});

Deno.test("cutToOutputs() keeps what the body of a loop takes from around it", async () => {
  // Three times: v = v + 10 x. The body reads `tenfold` from the outer graph, and has inputs of its own.
  const node = (op: string, inputs: string[], outputs: string[], attributes: Pieces = []) => [
    ...inputs.flatMap((name) => bytesField(1, name)),
    ...outputs.flatMap((name) => bytesField(2, name)),
    ...bytesField(4, op),
    ...attributes,
  ];
  const value = (name: string, type: number, dims: number[] = []) => [
    ...bytesField(1, name),
    ...bytesField(
      2,
      bytesField(1, [
        ...integerField(1, type),
        ...bytesField(2, dims.flatMap((dim) => bytesField(1, integerField(1, dim)))),
      ]),
    ),
  ];
  const body = [
    ...bytesField(1, node("Identity", ["go"], ["goOn"])),
    ...bytesField(1, node("Add", ["v", "tenfold"], ["vNext"])),
    ...bytesField(2, "body"),
    ...[value("i", 7), value("go", 9), value("v", 1, [2])].flatMap((input) => bytesField(11, input)),
    ...[value("goOn", 9), value("vNext", 1, [2])].flatMap((output) => bytesField(12, output)),
  ];
  const attribute = bytesField(5, [...bytesField(1, "body"), ...bytesField(6, body), ...integerField(20, 5)]);
  const plain = buildOnnx({
    inputs: [{ name: "x", dims: [2] }],
    constants: [
      { name: "ten", dims: [1], data: Float32Array.of(10) },
      { name: "three", dims: [], data: BigInt64Array.of(3n) },
    ],
    nodes: [
      { op: "Mul", inputs: ["x", "ten"], outputs: ["tenfold"] },
      { op: "Relu", inputs: ["x"], outputs: ["unused"] },
    ],
    outputs: [],
  });
  const loop = bytesField(1, node("Loop", ["three", "", "x"], ["looped"], attribute));
  const model = readOnnx(joinPieces([plain, ...bytesField(7, loop)]));
  // The second graph field replaces the first for this reader, so the nodes are put together by hand.
  const whole = { ...readOnnx(plain), nodes: [...readOnnx(plain).nodes, ...model.nodes] };

  const cut = cutToOutputs(whole, ["looped"]);
  assert.deepEqual(readOnnx(cut).nodes.map(({ opType }) => opType), ["Mul", "Loop"]);
  const { looped } = await run(cut, { x: [Float32Array.of(1, -2), [2]] });
  assert.deepEqual([...looped], [31, -62]);
});

Deno.test("cutToOutputs() refuses a tensor that is not there", () => {
  assert.throws(() => cutToOutputs(readOnnx(smallModel()), ["y", "gone"]), {
    name: "RangeError",
    message: "Cannot cut ONNX model: it must hold the tensor gone, there is none of that name",
  });
});

Deno.test("cutToOutputs() leaves the model as it was", () => {
  const bytes = smallModel();
  const before = bytes.slice();
  const model = readOnnx(bytes);
  cutToOutputs(model, ["y"]);
  assert.deepEqual(bytes, before);
  assert.deepEqual(model.nodes.map(({ opType }) => opType), ["MatMul", "Add", "Relu"]);
});

Deno.test("buildOnnx() builds models that run", async () => {
  // x · w + x for the rows (1, -1) and (0, 2), negative numbers set to 0.
  const { z } = await run(smallModel(), { x: [Float32Array.of(1, -1, 0, 2), [2, 2]] });
  assert.deepEqual([...z], [0, 0, 6, 10]);
});

Deno.test("buildOnnx() writes integer constants and negative attributes", async () => {
  const model = buildOnnx({
    inputs: [{ name: "x", dims: [2, 3] }],
    constants: [
      { name: "columns", dims: [2], data: BigInt64Array.of(2n, -3n) },
      { name: "one", dims: [], data: Int32Array.of(1) },
    ],
    nodes: [
      { op: "Gather", inputs: ["x", "columns"], outputs: ["picked"], attributes: { axis: -1 } },
      { op: "Cast", inputs: ["one"], outputs: ["oneFloat"], attributes: { to: 1 } },
      { op: "Add", inputs: ["picked", "oneFloat"], outputs: ["y"] },
    ],
    outputs: ["y"],
  });
  const { y } = await run(model, { x: [Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]] });
  assert.deepEqual([...y], [4, 2, 7, 5]);
});
