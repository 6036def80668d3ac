/**
 * Encoding beside the bare matrix product, both in onnxruntime: what the activation rule and the sparse answer cost.
 * The floor is `2 · nTokens · dModel · dSae` operations.
 *
 * @module
 */
import { createCpuBackend } from "../lib/compute/cpu/backend.ts";
import type { ActivationRule, SaeWeights } from "../lib/compute/contract.ts";
import { buildOnnx } from "../lib/onnx/build.ts";
import { createSession, loadOrt } from "../lib/runtime/ort.ts";
import { seededRandom } from "../lib/train/random.ts";

const sizes = [
  { name: "embedded SAE", nTokens: 2048, dModel: 192, dSae: 1536, k: 16 },
  { name: "ViT-B SAE", nTokens: 392, dModel: 768, dSae: 24576, k: 32 },
];

for (const { name, nTokens, dModel, dSae, k } of sizes) {
  const random = seededRandom(0);
  const numbers = (length: number, scale: number) => Float32Array.from({ length }, () => (random() - 0.5) * scale);
  const base = {
    dModel,
    dSae,
    wEnc: numbers(dModel * dSae, 0.1),
    // A negative bias keeps ReLU sparse, as training does.
    bEnc: new Float32Array(dSae).fill(-1.2),
    wDec: numbers(dSae * dModel, 0.1),
    bDec: new Float32Array(dModel),
    subtractBDec: false,
  };
  const x = numbers(nTokens * dModel, 2);
  const group = `${name}: ${nTokens} tokens, ${dModel} × ${dSae}, ${(2e-9 * nTokens * dModel * dSae).toFixed(2)} GFLOP`;
  const { Tensor } = await loadOrt();
  const product = await createSession(buildOnnx({
    inputs: [{ name: "x", dims: ["n", dModel] }],
    constants: [{ name: "w", dims: [dModel, dSae], data: base.wEnc }],
    nodes: [
      { op: "MatMul", inputs: ["x", "w"], outputs: ["h"] },
      // One number out, so that nothing dense is copied.
      { op: "ReduceMax", inputs: ["h"], outputs: ["y"], attributes: { keepdims: 0 } },
    ],
    outputs: ["y"],
  }));
  Deno.bench({
    name: "bare product",
    group,
    baseline: true,
    fn: async () => {
      await product.run({ x: new Tensor("float32", x, [nTokens, dModel]) });
    },
  });
  const rules: Record<string, ActivationRule> = {
    [`TopK, k = ${k}`]: { kind: "topK", k, relu: true },
    ReLU: { kind: "relu" },
  };
  for (const [label, rule] of Object.entries(rules)) {
    const backend = await createCpuBackend();
    const loaded = await backend.load({ ...base, rule } satisfies SaeWeights);
    Deno.bench({
      name: `encode, ${label}`,
      group,
      fn: async () => {
        await loaded.encode(x);
      },
    });
  }
}
