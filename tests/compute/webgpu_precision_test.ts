/** Encoder weights of 16 bits: the rounding itself, and that an SAE stored so is exactly the SAE with rounded weights. */
import assert from "node:assert/strict";
import type { SaeWeights } from "../../lib/compute/contract.ts";
import { createWebGpuBackend, type WebGpuBackendOptions } from "../../lib/compute/webgpu/backend.ts";
import { fromFloat16, toFloat16 } from "../../lib/runtime/float16.ts";
import { jumpRelu, relu, scalarWeights, topK, withSae } from "../support/backend_case.ts";
import { assertClose, assertCloseLatents, assertSameLatents } from "../support/numeric_assertions.ts";
import {
  randomFloats,
  randomIntegers,
  randomWeights,
  referencePreActivations,
  seededRandom,
} from "../support/reference.ts";
import { referenceEncode } from "../support/reference.ts";
import { findTestAdapter, openTestBackend } from "../support/software_adapter.ts";

const adapter = await findTestAdapter();
const lacksFloat16 = !adapter?.features.has("shader-f16");
if (adapter && lacksFloat16) console.error("SKIPPED: float16 on the device, this adapter has no shader-f16");

Deno.test({
  name: "precision float16 gives the latents of the SAE whose encoder is rounded to 16 bits",
  ignore: lacksFloat16,
  async fn() {
    // Panels of 4 bytes a weight for the decoder, so dictionaries come in parts; widths that are no multiple of 4.
    const whole = (await openTestBackend({ precision: "float16" }))!;
    const parts = (await openTestBackend({ precision: "float16", maxBindingBytes: 20_000, scratchBytes: 20_000 }))!;
    for (const { backend, scoped } of [whole, parts]) {
      await scoped(async () => {
        const shapes = [
          { nTokens: 3, dModel: 5, dSae: 7, rule: topK(2, true) },
          { nTokens: 65, dModel: 33, dSae: 257, rule: relu },
          { nTokens: 13, dModel: 192, dSae: 130, rule: topK(20, false) },
          { nTokens: 13, dModel: 17, dSae: 63, rule: jumpRelu(Array.from({ length: 63 }, (_, i) => i % 3)) },
        ];
        for (const { nTokens, dModel, dSae, rule } of shapes) {
          const weights = randomWeights({ dModel, dSae }, { rule });
          const x = randomFloats(nTokens * dModel, seededRandom(3));
          await withSae(backend, weights, async (sae) => assertCloseLatents(await sae.encode(x), rounded(weights), x));
          // Small integers are exact in 16 bits, and so are their sums in 32.
          const exact = randomWeights({ dModel, dSae }, { rule, integers: true });
          const integers = randomIntegers(nTokens * dModel, seededRandom(3), { limit: 3 });
          await withSae(backend, exact, async (sae) => {
            assertSameLatents(await sae.encode(integers), referenceEncode(exact, integers));
          });
        }
      });
      await backend.close();
    }
  },
});

Deno.test({
  name: "precision float16 stays within its documented error, which float32 does not have",
  ignore: lacksFloat16,
  async fn() {
    const [nTokens, dModel, dSae] = [5, 192, 64];
    const weights = { ...randomWeights({ dModel, dSae }, { rule: topK(dSae, false) }), subtractBDec: false };
    const x = randomFloats(nTokens * dModel, seededRandom(6));
    const exact = referencePreActivations(weights, x);
    const magnitudes = referencePreActivations(
      { ...weights, wEnc: weights.wEnc.map(Math.abs), bEnc: weights.bEnc.map(Math.abs) },
      x.map(Math.abs),
    );
    const gpu = (await openTestBackend({ precision: "float16" }))!;
    await withSae(gpu.backend, weights, async (sae) => {
      const { values } = await sae.encode(x);
      let worst = 0;
      values.forEach((value, i) => {
        const error = Math.abs(value - exact[i]);
        assert.ok(error <= 2 ** -11 * 1.01 * magnitudes[i], `entry ${i}: off by ${error}`);
        worst = Math.max(worst, error / magnitudes[i]);
      });
      assert.ok(worst > 1e-6, "16 bits should show");
    });
    await gpu.backend.close();
  },
});

Deno.test({
  name: "load() refuses weights that 16 bits cannot hold",
  ignore: lacksFloat16,
  async fn() {
    const gpu = (await openTestBackend({ precision: "float16" }))!;
    await assert.rejects(gpu.backend.load(scalarWeights([1, -70000], relu)), {
      name: "RangeError",
      message: "Cannot load SAE: wEnc must stay within ±65504 with precision float16, current value is -70000",
    });
    await withSae(gpu.backend, scalarWeights([1, 65504], relu), async (sae) => {
      assertClose((await sae.encode(Float32Array.of(2))).values, Float32Array.of(2, 131008));
    });
    await gpu.backend.close();
  },
});

Deno.test("createWebGpuBackend() names the values that its options may have", async () => {
  const bare = { info: {}, limits: {}, features: new Set() } as unknown as GPUAdapter;
  const open = (options: object) => createWebGpuBackend({ adapter: bare, ...options } as WebGpuBackendOptions);
  await assert.rejects(open({ precision: "bfloat16" }), {
    name: "RangeError",
    message: "Cannot create WebGPU back end: precision must be one of float32, float16, current value is bfloat16",
  });
  await assert.rejects(open({ tune: "always" }), {
    name: "RangeError",
    message: "Cannot create WebGPU back end: tune must be one of auto, off, current value is always",
  });
  await assert.rejects(open({ precision: "float16" }), {
    name: "Error",
    message:
      "Cannot create WebGPU back end: precision must be float32 on an adapter without shader-f16, current value " +
      "is float16",
  });
});

/** Weights as 16 bits hold them. */
function rounded(weights: SaeWeights): SaeWeights {
  return { ...weights, wEnc: fromFloat16(toFloat16(weights.wEnc)) };
}
