/** Chunks and batches that are under way at the same time: that they are, and that they do not disturb each other. */
import assert from "node:assert/strict";
import { Pool, settleAll } from "../../lib/compute/webgpu/pool.ts";
import { relu, topK } from "../support/backend_case.ts";
import { assertSameLatents, assertSameMaxima, assertSameNumbers } from "../support/numeric_assertions.ts";
import {
  randomIntegers,
  randomWeights,
  referenceDecode,
  referenceEncode,
  referenceImageMaxima,
  seededRandom,
} from "../support/reference.ts";
import { findTestAdapter, openTestBackend } from "../support/software_adapter.ts";
import { watchDevice } from "./webgpu_device_spy.ts";

const ignore = !await findTestAdapter();

const [nTokens, dModel, dSae] = [50, 17, 63];
const weights = randomWeights({ dModel, dSae }, { rule: topK(4, true), integers: true });
const x = randomIntegers(nTokens * dModel, seededRandom(8), { limit: 3 });
const latents = referenceEncode(weights, x);
/** The pre-activations of one token. */
const rowBytes = 4 * 64;

Deno.test("Pool.use() lets two work at once, the others in the order in which they came", async () => {
  const pool = new Pool(["a", "b"]);
  const log: string[] = [];
  const gates = Array.from({ length: 4 }, () => Promise.withResolvers<void>());
  const all = gates.map(({ promise }, i) =>
    pool.use(async (item) => {
      log.push(`${i} takes ${item}`);
      await promise;
      if (i === 1) throw new Error("one fails");
      return i;
    })
  );
  const outcome = settleAll(all).catch((error) => error.message);
  for (const i of [1, 0, 2, 3]) {
    gates[i].resolve();
    await Promise.allSettled([all[i]]);
  }
  assert.deepEqual(log, ["0 takes a", "1 takes b", "2 takes b", "3 takes a"]);
  assert.equal(await outcome, "one fails");
  assert.deepEqual(await settleAll([Promise.resolve(1), Promise.resolve(2)]), [1, 2]);
});

Deno.test("Pool.use() hands an item on as soon as it is free, and only once", async () => {
  const pool = new Pool(["a"]);
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = pool.use(async (_, free) => {
    free();
    free();
    await gate.promise;
    log.push("first ends");
  });
  const rest = ["second", "third"].map((name) =>
    pool.use(async () => {
      log.push(`${name} begins`);
      await Promise.resolve();
      log.push(`${name} ends`);
    })
  );
  await Promise.all(rest);
  gate.resolve();
  await first;
  assert.deepEqual(log, ["second begins", "second ends", "third begins", "third ends", "first ends"]);
});

Deno.test({
  name: "encode() has two chunks under way at once, and reads nothing dense back",
  ignore,
  async fn() {
    // Five chunks: each lane has room for ten tokens.
    const gpu = (await openTestBackend({ scratchBytes: 2 * 10 * rowBytes }))!;
    const sae = await gpu.backend.load(weights);
    const events = watchDevice(gpu);
    assertSameLatents(await sae.encode(x), latents);
    const order = events.map(({ kind, label }) => kind === "arrived" ? "arrived" : label);
    assert.equal(order.filter((label) => label === "encode").length, 5);
    // The second chunk is computed before the counts of the first have arrived ...
    assert.ok(order.indexOf("encode", order.indexOf("encode") + 1) < order.indexOf("arrived"), order.join(", "));
    // ... and the third before the latents of the first are there: three counts and one answer come later.
    const third = order.map((label, i) => label === "encode" ? i : -1).filter((i) => i >= 0)[2];
    const answer = firstAnswer(events, latents.offsets[10]);
    assert.ok(third < answer, order.join(", "));
    const bytes = events.reduce((sum, event) => sum + event.bytes, 0);
    assert.equal(bytes, 4 * nTokens + 8 * latents.indices.length);

    events.length = 0;
    await sae.imageMaxima(x, { tokensPerImage: 5 });
    assert.equal(events.reduce((sum, event) => sum + event.bytes, 0), 8 * 10 * dSae);
    await gpu.backend.close();
  },
});

Deno.test({
  name: "batches of every kind and of two dictionaries give each its own answer, all at once",
  ignore,
  async fn() {
    const gpu = (await openTestBackend({ scratchBytes: 2 * 10 * rowBytes, maxBindingBytes: 10 * rowBytes }))!;
    await gpu.scoped(async () => {
      const other = randomWeights({ dModel, dSae: 31 }, { rule: relu, integers: true });
      const [sae, second] = [await gpu.backend.load(weights), await gpu.backend.load(other)];
      const work: Promise<void>[] = [];
      for (let i = 0; i < 6; i++) {
        const part = x.subarray(i * 5 * dModel, (i * 5 + 20) * dModel);
        const sparse = referenceEncode(weights, part.slice());
        const check = async <T>(answer: Promise<T>, assertion: (answer: T) => void) => assertion(await answer);
        work.push(
          check(sae.encode(part), (answer) => assertSameLatents(answer, sparse)),
          check(second.encode(part), (answer) => assertSameLatents(answer, referenceEncode(other, part.slice()))),
          check(sae.decode(sparse), (answer) => assertSameNumbers(answer, referenceDecode(weights, sparse), "decoded")),
          check(sae.imageMaxima(part, { tokensPerImage: 4 }), (answer) => {
            assertSameMaxima(answer, referenceImageMaxima(weights, part.slice(), 4));
          }),
          check(sae.imageMaxima(part, { tokensPerImage: 20 }), (answer) => {
            assertSameMaxima(answer, referenceImageMaxima(weights, part.slice(), 20));
          }),
        );
      }
      // What was asked for before is still answered.
      const disposed = sae.dispose();
      await settleAll(work);
      await disposed;
      await assert.rejects(sae.encode(x), { message: /current state is disposed$/ });
      await second.dispose();
    });
    await gpu.backend.close();
  },
});

/** Index of the event with which `nEntries` latents arrived. */
function firstAnswer(events: ReturnType<typeof watchDevice>, nEntries: number): number {
  return events.findIndex(({ kind, bytes }) => kind === "arrived" && bytes === 8 * nEntries);
}
