import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { openTensorFile } from "../../lib/checkpoints/tensor_file.ts";
import { fixture } from "./expected_tensors.ts";

/** Numbers in [0, below), the same each time (mulberry32). */
function randomInts(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let hash = Math.imul(state ^ (state >>> 15), 1 | state);
    hash = (hash + Math.imul(hash ^ (hash >>> 7), 61 | hash)) ^ hash;
    return Math.floor(((hash ^ (hash >>> 14)) >>> 0) / 2 ** 32 * below);
  };
}

/** The file with bytes changed, taken out, put in or cut off. */
function damage(bytes: Uint8Array, random: (below: number) => number): Uint8Array {
  if (random(8) === 0) return bytes.slice(0, random(bytes.length));
  const parts = [...bytes];
  for (let nChanges = 1 + random(4); nChanges > 0; nChanges--) {
    const at = random(parts.length);
    // Ends of ranges, signs and flags mean most.
    const value = [0, 0xff, 0x7f, 0x80, parts[at] ^ (1 << random(8)), random(256)][random(6)];
    const kind = random(10);
    if (kind === 0) parts.splice(at, 1 + random(4));
    else if (kind === 1) parts.splice(at, 0, value);
    else parts[at] = value;
  }
  return Uint8Array.from(parts);
}

const MAX_BYTES = 2 ** 27;

for (const name of ["nested.pt", "bare.pt", "header_line.pt", "zip64.pt", "half_legacy.pt", "arrays.npz"]) {
  Deno.test(`openTensorFile() reads ${name} or says what is wrong, however it is damaged`, async () => {
    const bytes = new Uint8Array(await readFile(fixture(name)));
    const random = randomInts(name.length);
    const outcomes = { read: 0, refused: 0 };
    for (let i = 0; i < 1000; i++) {
      const damaged = damage(bytes, random);
      try {
        const file = await openTensorFile(damaged);
        for (const [tensor, { shape }] of file.entries) {
          const numbers = await file.read(tensor);
          assert.equal(numbers.length, shape.reduce((product, size) => product * size, 1));
          assert.ok(numbers.byteLength < MAX_BYTES);
        }
        outcomes.read++;
      } catch (error) {
        assert.ok(error instanceof SyntaxError || error instanceof TypeError, `${i}: ${(error as Error).stack}`);
        assert.match(error.message, /^Cannot read tensor file: /, `${i}: ${error.stack}`);
        outcomes.refused++;
      }
    }
    assert.ok(outcomes.read > 10 && outcomes.refused > 10, JSON.stringify(outcomes));
  });
}

Deno.test("openTensorFile() refuses a torch file that is cut short anywhere", async () => {
  for (const name of ["bare.pt", "half_legacy.pt"]) {
    const bytes = new Uint8Array(await readFile(fixture(name)));
    for (let length = 0; length < bytes.length; length++) {
      await assert.rejects(openTensorFile(bytes.subarray(0, length)), { name: "SyntaxError" }, `${name} ${length}`);
    }
  }
});
