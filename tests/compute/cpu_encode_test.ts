import assert from "node:assert/strict";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import type { ActivationRule } from "../../lib/compute/contract.ts";
import { assertCloseLatents } from "../support/numeric_assertions.ts";
import { randomFloats, randomWeights, seededRandom } from "../support/reference.ts";

Deno.test("CPU encode() finds every latent of tokens that grow livelier, where more groups have to be asked for", async () => {
  // 2,616 latents are 327 groups of 8, more than are asked for at first.
  const dModel = 3;
  const dSae = 2616;
  const weights = randomWeights({ dModel, dSae }, { rule: { kind: "relu" } });
  const bEnc = Float32Array.from({ length: dSae }, (_, latent) => latent % 8 === 0 ? -4 : -40);
  const backend = await createCpuBackend({ threads: 1 });
  const loaded = await backend.load({ ...weights, bEnc });
  const counts: number[] = [];
  for (const scale of [0.1, 5, 300, 0.1, 300]) {
    const x = randomFloats(4 * dModel, seededRandom(1)).map((value) => value * scale);
    const latents = await loaded.encode(x);
    assertCloseLatents(latents, { ...weights, bEnc }, x);
    counts.push(latents.values.length);
  }
  assert.ok(counts[0] < counts[1] && counts[1] < counts[2], `more must become active, counts are ${counts}`);
  assert.ok(counts[2] > 4 * 327, `some groups must have several active latents, counts are ${counts}`);
  await loaded.dispose();
});

Deno.test("CPU encode() does not let a latent that is NaN hide the others of its group", async () => {
  const [dModel, dSae] = [2, 24];
  const ones = new Float32Array(dModel * dSae).fill(1);
  const rules: ActivationRule[] = [{ kind: "relu" }, { kind: "jumpRelu", threshold: new Float32Array(dSae).fill(1) }];
  const backend = await createCpuBackend({ threads: 1 });
  for (const rule of rules) {
    for (const broken of [0, 5, 23]) {
      const bEnc = new Float32Array(dSae);
      bEnc[broken] = NaN;
      const loaded = await backend.load({
        dModel,
        dSae,
        wEnc: ones,
        bEnc,
        wDec: ones,
        bDec: new Float32Array(dModel),
        subtractBDec: false,
        rule,
      });
      const { indices, values } = await loaded.encode(Float32Array.of(1, 2, -1, -2));
      assert.deepEqual([...indices], Array.from({ length: dSae }, (_, i) => i).filter((i) => i !== broken));
      assert.ok(values.every((value) => value === 3));
      await loaded.dispose();
    }
  }
});

Deno.test("CPU load() takes weights that are views, and keeps nothing of them that could change", async () => {
  const [dModel, dSae] = [5, 70];
  const weights = randomWeights({ dModel, dSae }, { rule: { kind: "relu" } });
  const padded = new Float32Array(weights.wEnc.length + 3);
  padded.set(weights.wEnc, 3);
  const backend = await createCpuBackend({ threads: 1 });
  const loaded = await backend.load({ ...weights, wEnc: padded.subarray(3) });
  padded.fill(NaN);
  const x = randomFloats(9 * dModel, seededRandom(2));
  assertCloseLatents(await loaded.encode(x), weights, x);
  await loaded.dispose();
});
