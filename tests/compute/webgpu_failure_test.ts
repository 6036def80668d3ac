/** What becomes of batches when the device is full, or lost in the middle of them. */
import assert from "node:assert/strict";
import type { Backend } from "../../lib/compute/contract.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { withCpuFallback } from "../../lib/compute/fallback.ts";
import { inHalves, type Range } from "../../lib/compute/webgpu/halving.ts";
import { GpuFailure, mayFitInParts } from "../../lib/compute/webgpu/watch.ts";
import { relu, scalarWeights, topK } from "../support/backend_case.ts";
import { assertSameLatents, assertSameMaxima, assertSameNumbers } from "../support/numeric_assertions.ts";
import {
  randomIntegers,
  randomWeights,
  referenceDecode,
  referenceEncode,
  referenceImageMaxima,
  seededRandom,
} from "../support/reference.ts";
import { findTestAdapter, openTestBackend, type TestBackend } from "../support/software_adapter.ts";
import { limitMemory, loseAfter } from "./webgpu_device_spy.ts";

const ignore = !await findTestAdapter();

const [nTokens, dModel, dSae] = [50, 17, 63];
const weights = randomWeights({ dModel, dSae }, { rule: topK(4, true), integers: true });
const x = randomIntegers(nTokens * dModel, seededRandom(8), { limit: 3 });
const latents = referenceEncode(weights, x);

/** The pre-activations of one token are the largest buffer of these weights. */
const rowBytes = 4 * 64;

Deno.test("inHalves() goes on with parts after what may fit in parts, in order, and does no part twice", async () => {
  const done: Range[] = [];
  let most = 5;
  const results = await inHalves({ begin: 2, end: 13 }, (range) => {
    if (range.end - range.begin > 2) throw new GpuFailure("memory", "full");
    done.push(range);
    return Promise.resolve(range.begin);
  }, { fits: (size) => size <= most, onTooMuch: (size) => most = Math.min(most, Math.ceil(size / 2)) });
  assert.deepEqual(
    done,
    [[2, 4], [4, 5], [5, 7], [7, 8], [8, 10], [10, 11], [11, 13]].map(([begin, end]) => ({ begin, end })),
  );
  assert.deepEqual(results, [2, 4, 5, 7, 8, 10, 11]);
  assert.equal(most, 2);
});

Deno.test("inHalves() gives up where one alone is too much, and at once where less would not help", async () => {
  const memory = { fits: () => true, onTooMuch: () => {} };
  let tries = 0;
  const failing = (reason: "memory" | "lost") => () => {
    tries++;
    return Promise.reject(new GpuFailure(reason, `it is ${reason}`));
  };
  await assert.rejects(inHalves({ begin: 0, end: 8 }, failing("memory"), memory), { message: "it is memory" });
  assert.equal(tries, 4); // 8, 4, 2, 1
  await assert.rejects(inHalves({ begin: 0, end: 8 }, failing("lost"), memory), { message: "it is lost" });
  assert.equal(tries, 5);
  assert.equal(mayFitInParts(new RangeError("of the caller")), false);
});

Deno.test({
  name: "encode(), imageMaxima() and decode() go on in smaller chunks on a device without room for the whole",
  ignore,
  async fn() {
    const gpu = (await openTestBackend())!;
    const sae = await gpu.backend.load(weights);
    const refused = limitMemory(gpu, 7 * rowBytes);
    assertSameLatents(await sae.encode(x), latents);
    // The activations of 50 and of 25 tokens did not fit, then the pre-activations of 13; 7 did, and nobody tried more.
    assert.deepEqual(refused, [4 * 50 * 20, 4 * 25 * 20, 13 * rowBytes]);
    const images = { tokensPerImage: 5 };
    assertSameMaxima(await sae.imageMaxima(x, images), referenceImageMaxima(weights, x, 5));
    // A single image of 50 tokens: in parts.
    assertSameMaxima(await sae.imageMaxima(x, { tokensPerImage: 50 }), referenceImageMaxima(weights, x, 50));
    assertSameNumbers(await sae.decode(latents), referenceDecode(weights, latents), "reconstruction");
    await gpu.backend.close();
  },
});

Deno.test({
  name: "imageMaxima() takes an image in parts on a device without room for it",
  ignore,
  async fn() {
    const gpu = (await openTestBackend())!;
    const sae = await gpu.backend.load(weights);
    const refused = limitMemory(gpu, 7 * rowBytes);
    assertSameMaxima(await sae.imageMaxima(x, { tokensPerImage: 25 }), referenceImageMaxima(weights, x, 25));
    assert.ok(refused.length > 0);
    await gpu.backend.close();
  },
});

Deno.test({
  name: "load() and encode() report memory that not even one token fits in",
  ignore,
  async fn() {
    const gpu = (await openTestBackend())!;
    const sae = await gpu.backend.load(weights);
    limitMemory(gpu, rowBytes - 1);
    await assert.rejects(sae.encode(x), {
      name: "Error",
      reason: "memory",
      message: 'Cannot make buffer "pre" of 256 bytes: it must fit in GPU memory (no room for 256 bytes)',
    });
    await assert.rejects(gpu.backend.load(weights), { reason: "memory", message: /^Cannot make buffer "w_enc 0..63"/ });
    await gpu.backend.close();
  },
});

Deno.test({
  name: "withCpuFallback() goes on where the device is lost in the middle of batches: all answers, one warning",
  ignore,
  async fn() {
    // The device is lost after 1, 2, ... pieces of work: before, between and after the steps of a chunk.
    for (const n of [1, 2, 3, 5, 8]) {
      const { gpu, backend, warnings, cpuOpened } = await openWithFallback();
      const sae = await backend.load(weights);
      const other = await backend.load(scalarWeights([1, -2], relu));
      assert.deepEqual([backend.kind, backend.device], ["webgpu", gpu.backend.device]);
      loseAfter(gpu, n);
      const batches = [x, x.subarray(0, 3 * dModel), x.subarray(10 * dModel), new Float32Array(0)];
      const answers = await Promise.all(batches.map((batch) => sae.encode(batch)));
      answers.forEach((answer, i) => assertSameLatents(answer, referenceEncode(weights, batches[i])));
      assertSameMaxima(await sae.imageMaxima(x, { tokensPerImage: 5 }), referenceImageMaxima(weights, x, 5));
      assertSameNumbers(await sae.decode(latents), referenceDecode(weights, latents), "reconstruction");
      // An SAE that was not in use moves along, and new ones are loaded on the CPU.
      assert.deepEqual((await other.encode(Float32Array.of(3, -1))).values, Float32Array.of(3, 2));
      const late = await backend.load(scalarWeights([5], relu));
      assert.deepEqual((await late.encode(Float32Array.of(2))).values, Float32Array.of(10));
      assert.deepEqual([backend.kind, backend.device], ["cpu", "onnxruntime, 1 threads"]);
      assert.equal(warnings.length, 1, `lost after ${n}`);
      assert.match(
        warnings[0],
        /^.+ failed, going on with onnxruntime, 1 threads: Cannot .+ current state is lost \(.+\)$/,
      );
      assert.equal(cpuOpened(), 1);
      await Promise.all([sae, other, late].map((loaded) => loaded.dispose()));
      await backend.close();
    }
  },
});

Deno.test({
  name: "withCpuFallback() goes on where memory is short, while running and while loading",
  ignore,
  async fn() {
    for (const when of ["running", "loading"]) {
      const { gpu, backend, warnings } = await openWithFallback();
      if (when === "loading") limitMemory(gpu, 1000);
      const sae = await backend.load(weights);
      if (when === "running") limitMemory(gpu, rowBytes - 1);
      assertSameLatents(await sae.encode(x), latents);
      assert.equal(backend.kind, "cpu");
      assert.equal(warnings.length, 1);
      assert.match(warnings[0], /it must fit in GPU memory/);
      await sae.dispose();
      await backend.close();
    }
  },
});

Deno.test({
  name: "withCpuFallback() passes on mistakes of the caller, and stays closed when it was closed",
  ignore,
  async fn() {
    const { backend, warnings, cpuOpened } = await openWithFallback();
    const sae = await backend.load(weights);
    await assert.rejects(sae.encode(new Float32Array(dModel + 1)), { name: "RangeError" });
    await assert.rejects(backend.load({ ...weights, bEnc: new Float32Array(1) }), { name: "RangeError" });
    await sae.dispose();
    await assert.rejects(sae.encode(x), { message: /SAE must be loaded, current state is disposed$/ });
    const open = await backend.load(weights);
    await backend.close();
    await assert.rejects(open.encode(x), { reason: "closed" });
    await assert.rejects(backend.load(weights), { reason: "closed" });
    assert.deepEqual([backend.kind, warnings, cpuOpened()], ["webgpu", [], 0]);
  },
});

async function openWithFallback(): Promise<{
  gpu: TestBackend;
  backend: Backend;
  warnings: string[];
  cpuOpened: () => number;
}> {
  const gpu = (await openTestBackend({ scratchBytes: 2 * 10 * rowBytes }))!;
  const warnings: string[] = [];
  let opened = 0;
  const backend = withCpuFallback(gpu.backend, {
    openCpu: () => {
      opened++;
      return createCpuBackend({ threads: 1 });
    },
    onWarning: (message) => warnings.push(message),
  });
  return { gpu, backend, warnings, cpuOpened: () => opened };
}
