import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { buildOnnx, microsoftDomain, type NodeSpec } from "../../lib/onnx/build.ts";
import { cutToOutputs } from "../../lib/onnx/cut.ts";
import { traceFlow } from "../../lib/onnx/flow.ts";
import { type OnnxModel, readOnnx } from "../../lib/onnx/model.ts";
import { readFields } from "../../lib/onnx/wire.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { takeApart } from "../../lib/vit/fused_ops.ts";
import { classifyActivations, findMlpActivations, gelu, type GeluKind, replaceGelu } from "../../lib/vit/gelu.ts";
import type { HookPoint } from "../../lib/vit/hooks.ts";
import { findResidualStream } from "../../lib/vit/residual_stream.ts";
import { openVit } from "../../lib/vit/vit.ts";
import { assertWithin, embeddedModel, fixture, imageSource, makePicture, withFolder } from "./fixtures.ts";
import { runModel } from "./run_model.ts";

/** GELU of 1, -2 and 0.5, by Python's `math`. */
const expected: Record<GeluKind, number[]> = {
  exact: [0.8413447460685429, -0.04550026389635842, 0.34573123063700656],
  quick: [0.8457957659328212, -0.06434137685579186, 0.35038843660638014],
  tanh: [0.8411919906082768, -0.04540230591222494, 0.34571400982514394],
};
const kinds = Object.keys(expected) as GeluKind[];

const scalars: Record<string, number> = {
  half: 0.5,
  one: 1,
  three: 3,
  sqrt2: Math.SQRT2,
  rootHalf: Math.SQRT1_2,
  c1702: 1.702,
  cubic: 0.044715,
  slope: Math.sqrt(2 / Math.PI),
};

type Form = [op: string, inputs: string, output: string, domain?: string][];

/** The ways in which exporters and optimizers write `y` as a function of `x`. */
const forms: [name: string, kind: GeluKind | undefined, form: Form][] = [
  ["torch's erf", "exact", [
    ["Div", "x sqrt2", "a"],
    ["Erf", "a", "b"],
    ["Add", "b one", "c"],
    ["Mul", "x c", "d"],
    ["Mul", "d half", "y"],
  ]],
  ["another order", "exact", [
    ["Mul", "x rootHalf", "a"],
    ["Erf", "a", "b"],
    ["Mul", "half x", "d"],
    ["Add", "one b", "c"],
    ["Mul", "c d", "y"],
  ]],
  ["Gelu", "exact", [["Gelu", "x", "y", microsoftDomain]]],
  ["sigmoid", "quick", [["Mul", "x c1702", "a"], ["Sigmoid", "a", "b"], ["Mul", "x b", "y"]]],
  ["QuickGelu", "quick", [["QuickGelu", "x", "y", microsoftDomain]]],
  ["tanh", "tanh", [
    ["Pow", "x three", "a"],
    ["Mul", "a cubic", "b"],
    ["Add", "x b", "c"],
    ["Mul", "c slope", "d"],
    ["Tanh", "d", "e"],
    ["Add", "e one", "f"],
    ["Mul", "x half", "g"],
    ["Mul", "g f", "y"],
  ]],
  ["FastGelu", "tanh", [["FastGelu", "x", "y", microsoftDomain]]],
  ["SiLU", undefined, [["Sigmoid", "x", "a"], ["Mul", "x a", "y"]]],
  ["ReLU", undefined, [["Relu", "x", "y"]]],
];

/** One block whose MLP is a bias, `form` from `x` to `y`, and a shift. */
function blockWith(form: Form): OnnxModel {
  const nodes: Form = [
    ["Identity", "image", "h0"],
    ["Softmax", "h0", "attended"],
    ["Add", "h0 attended", "h1"],
    ["Add", "h1 bias", "x"],
    ...form,
    ["Add", "y bias", "mlp"],
    ["Add", "h1 mlp", "h2"],
  ];
  return readOnnx(buildOnnx({
    inputs: [{ name: "image", dims: ["n", 3] }],
    constants: [
      { name: "bias", dims: [3], data: Float32Array.of(0.25, -0.5, 1) },
      ...Object.entries(scalars).map(([name, value]) => ({ name, dims: [], data: Float32Array.of(value) })),
    ],
    nodes: nodes.map(([op, inputs, output, domain]): NodeSpec => ({
      op,
      inputs: inputs.split(" "),
      outputs: [output],
      domain,
    })),
    outputs: ["h2"],
  }));
}

const activationsOf = (model: OnnxModel) =>
  findMlpActivations(model, findResidualStream(model, "image"), "image").filter((one) => one !== undefined);

Deno.test("gelu() is what Python computes", () => {
  for (const kind of kinds) {
    [1, -2, 0.5].forEach((x, i) => assert.ok(Math.abs(gelu(x, kind) - expected[kind][i]) < 1e-15, `${kind} of ${x}`));
  }
});

Deno.test("classifyActivations() tells the form of GELU however it is written", async () => {
  for (const [name, kind, form] of forms) {
    const model = blockWith(form);
    const activations = activationsOf(model);
    assert.deepEqual(activations.map(({ input, output }) => [input, output]), [["x", "y"]], name);
    assert.deepEqual(await classifyActivations(model, activations), [kind], name);
  }
});

Deno.test("classifyActivations() looks through quantization", async () => {
  const [, , form] = forms[0];
  const model = blockWith([
    ["QuantizeLinear", "x one", "xBytes"],
    ["DequantizeLinear", "xBytes one", "xRough"],
    ...form.map(([op, inputs, output]): Form[number] => [op, inputs.replace(/\bx\b/g, "xRough"), output]),
  ]);
  const activations = activationsOf(model);
  assert.deepEqual(activations.map(({ input, output }) => [input, output]), [["x", "y"]]);
  assert.deepEqual(await classifyActivations(model, activations), ["exact"]);
});

Deno.test("findMlpActivations() stops where another branch comes in", () => {
  // SwiGLU: the gate is a function of x alone, the product is not.
  const model = blockWith([["Sigmoid", "x", "gate"], ["Softplus", "x", "value"], ["Mul", "gate value", "y"]]);
  assert.deepEqual(activationsOf(model).map(({ output }) => output), []);
});

Deno.test("replaceGelu() gives every form in place of every other", async () => {
  const image = Float32Array.of(1, -2, 0.5);
  for (const [name, from, form] of forms) {
    if (from === undefined) continue;
    const model = blockWith([
      ["Sub", "x bias", "z"],
      ...form.map(([op, inputs, output, domain]): Form[number] => [
        op,
        inputs.replace(/\bx\b/g, "z"),
        output,
        domain,
      ]),
    ]);
    for (const to of kinds) {
      // What goes in is the image and softmax: only the function is looked at.
      const activations = activationsOf(model);
      const replaced = replaceGelu(model, activations, to);
      const { z, y } = await runModel(cutToOutputs(replaced, ["z", "y"]), { name: "image", data: image, dims: [1, 3] });
      assertWithin(y, z.map((value) => gelu(value, to)), 1e-6);
      assert.equal(readOnnx(cutToOutputs(replaced, ["y"])).nodes.filter(({ opType }) => opType === "Erf").length, 0);
      assert.deepEqual(await classifyActivations(replaced, activationsOf(replaced)), [to], `${name} to ${to}`);
    }
  }
});

Deno.test("takeApart() parts a GELU from its bias", async () => {
  for (const [op, kind] of [["BiasGelu", "exact"], ["FastGelu", "tanh"]] as const) {
    const fused = blockWith([[op, "x bias", "y", microsoftDomain]]);
    const model = takeApart(fused, "image");
    const image = { name: "image", data: Float32Array.of(1, -2, 0.5), dims: [1, 3] };
    const { y } = await runModel(cutToOutputs(fused, ["y"]), image);
    assertWithin((await runModel(cutToOutputs(model, ["y"]), image)).y, y, 1e-6);
    const activations = activationsOf(model);
    assert.deepEqual(activations.map(({ input }) => input), ["y/biased"]);
    assert.deepEqual(await classifyActivations(model, activations), [kind]);
  }
});

/** Floats of a stored tensor. */
function storedFloats(model: OnnxModel, name: string): Float32Array {
  const raw = [...readFields(model.initializers.get(name)!.bytes)].find(({ field }) => field === 9)!.bytes;
  return new Float32Array(raw.slice().buffer);
}

Deno.test("openVit() runs the MLPs with the form of GELU asked for", async () => {
  const pixels = Float32Array.from({ length: 3 * 64 * 64 }, (_, i) => Math.sin(i * 0.37));
  const model = readOnnx(new Uint8Array(await readFile(embeddedModel)));
  // Weights of the first MLP, in the order in which the graph uses them.
  const [block] = findResidualStream(model, model.inputs[0].name);
  const inside = traceFlow(model, model.inputs[0].name).between(block.residMid, block.mlpOut[0])!;
  const stored = (opType: string) =>
    model.nodes.filter((node) => inside.includes(node) && node.opType === opType)
      .map(({ inputs }) =>
        inputs.filter((name) => model.initializers.has(name)).map((name) => storedFloats(model, name))
      );
  const [[scale, shift]] = stored("LayerNormalization");
  const [[up], [down]] = stored("MatMul");
  const [[upBias], [downBias]] = stored("Add").filter((operands) => operands.length > 0);
  const [width, hidden] = [192, 768];
  const mlp = (h: Float32Array, kind: GeluKind): number[] => {
    const mean = h.reduce((total, value) => total + value, 0) / width;
    const variance = h.reduce((total, value) => total + (value - mean) ** 2, 0) / width;
    const normed = h.map((value, i) => (value - mean) / Math.sqrt(variance + 1e-5) * scale[i] + shift[i]);
    const activated = Array.from({ length: hidden }, (_, j) => {
      let sum = upBias[j];
      for (let i = 0; i < width; i++) sum += normed[i] * up[i * hidden + j];
      return gelu(sum, kind);
    });
    return Array.from(
      downBias,
      (bias, i) => activated.reduce((sum, value, j) => sum + value * down[j * width + i], bias),
    );
  };
  for (const kind of kinds) {
    const vit = await openVit(embeddedModel, { gelu: kind, threads: 1 });
    assert.deepEqual([vit.gelu, vit.replacedGelu], ["quick", kind === "quick" ? undefined : kind]);
    const record = async (hook: HookPoint) => {
      const opened = await vit.openLayers([0], { hook });
      const [activations] = await opened.run(pixels);
      await opened.close();
      return activations;
    };
    const [before, attention, added] = [await record("residPre"), await record("attnOut"), await record("mlpOut")];
    for (const token of [0, 31, 64]) {
      const place = [token * width, (token + 1) * width];
      const middle = before.slice(...place).map((value, i) => value + attention[place[0] + i]);
      assertWithin(added.subarray(...place), Float32Array.from(mlp(middle, kind)), 2e-5);
    }
  }
});

Deno.test("openVit() refuses to change an MLP without GELU, and forms that are none", async () => {
  const pooled = fixture("vit/mean_pooled.onnx");
  assert.equal((await openVit(pooled, { threads: 1 })).gelu, undefined);
  await assert.rejects(openVit(pooled, { gelu: "exact", threads: 1 }), {
    name: "TypeError",
    message:
      `Cannot open ViT ${pooled}: every MLP must use GELU to give it the exact form, here some use another function`,
  });
  await assert.rejects(openVit(pooled, { gelu: "slow" as GeluKind }), {
    name: "RangeError",
    message: `Cannot open ViT ${pooled}: gelu must be one of exact, quick, tanh, current value is slow`,
  });
});

Deno.test("writeShards() keeps the form of GELU that was put in", async () => {
  await withFolder(async (directory) => {
    const images = imageSource([await makePicture(0)]);
    const vit = await openVit(embeddedModel, { gelu: "exact", threads: 1 });
    const { model } = await writeShards(vit, images, { directory, layers: [0] });
    assert.deepEqual(model, { path: embeddedModel, sha256: vit.fingerprint, gelu: "exact" });
    const other = await openVit(embeddedModel, { threads: 1 });
    await assert.rejects(writeShards(other, images, { directory, layers: [0] }), /differs in model; choose another/);
  });
});
