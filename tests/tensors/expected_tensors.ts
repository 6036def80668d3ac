/**
 * What `torch.load` and `numpy.load` give for the files that `tests/fixtures/checkpoints/make_torch_files.py` made.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";

interface ExpectedTensor {
  readonly dtype: string;
  readonly shape: number[];
  /** Row-major little-endian numbers, in base64. */
  readonly float32: string;
}

/** Path of a fixture. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/checkpoints/${name}`, import.meta.url));
}

const expected: Record<string, Record<string, ExpectedTensor>> = JSON.parse(
  readFileSync(fixture("expected.json"), "utf8"),
);

/** Numbers of a tensor of a fixture. */
export function expectedNumbers(name: string, tensor: string): Float32Array {
  const bytes = Uint8Array.from(atob(expected[name][tensor].float32), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

/** Asserts that a fixture has exactly the expected tensors, to the last bit, from its path and from its bytes. */
export async function assertTensors(name: string): Promise<void> {
  for (const source of [fixture(name), new Uint8Array(readFileSync(fixture(name)))]) {
    const file = await openTensorFile(source);
    assert.deepEqual([...file.entries.keys()], Object.keys(expected[name]));
    for (const [tensor, { dtype, shape }] of Object.entries(expected[name])) {
      assert.deepEqual(file.entries.get(tensor), { dtype, shape }, tensor);
      // As lists, in which NaNs are alike whatever their bits.
      assert.deepEqual([...await file.read(tensor)], [...expectedNumbers(name, tensor)], tensor);
    }
    await file.close();
  }
}
