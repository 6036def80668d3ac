import assert from "node:assert/strict";
import { readAhead } from "../../lib/shards/read_ahead.ts";

/** Reads that end when told to, and what was begun and ended so far. */
function makeReads() {
  const log: string[] = [];
  const read = async (key: number) => {
    log.push(`begin ${key}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
    log.push(`end ${key}`);
    if (key < 0) throw new Error(`no ${key}`);
    return key * 10;
  };
  return { log, read };
}

Deno.test("readAhead() reads one thing ahead, one at a time, in order", async () => {
  const { log, read } = makeReads();
  const seen: number[] = [];
  for await (const value of readAhead([3, 1, 2], read)) {
    seen.push(value);
    log.push(`take ${value}`);
  }
  assert.deepEqual(seen, [30, 10, 20]);
  assert.deepEqual(log, [
    "begin 3",
    "end 3",
    "begin 1",
    "take 30",
    "end 1",
    "begin 2",
    "take 10",
    "end 2",
    "take 20",
  ]);
});

Deno.test("readAhead() throws a failure in its turn", async () => {
  const { read } = makeReads();
  const seen: number[] = [];
  await assert.rejects(async () => {
    for await (const value of readAhead([1, -1, 2], read)) {
      seen.push(value);
      // Time for the failure to come before it is awaited.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }, { message: "no -1" });
  assert.deepEqual(seen, [10]);
});

Deno.test("readAhead() leaves nothing being read when it is left, and closes its keys", async () => {
  const { log, read } = makeReads();
  let isClosed = false;
  function* keys() {
    try {
      for (let key = 1;; key++) yield key;
    } finally {
      isClosed = true;
    }
  }
  for await (const value of readAhead(keys(), read)) if (value === 20) break;
  assert.deepEqual(log.slice(-2), ["begin 3", "end 3"]);
  assert.ok(isClosed);
});

Deno.test("readAhead() begins nothing after an abort, and reads nothing if there are no keys", async () => {
  const { log, read } = makeReads();
  await assert.rejects(async () => {
    for await (const _ of readAhead([1], read, { signal: AbortSignal.abort() }));
  }, { name: "AbortError" });
  for await (const _ of readAhead([], read)) assert.fail();
  assert.deepEqual(log, []);
});
