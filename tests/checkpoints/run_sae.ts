import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readNpy } from "../../lib/tensors/npy.ts";
import type { SaeWeights } from "../../lib/compute/contract.ts";
import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";

/** Path of a fixture. */
export function fixturePath(...path: string[]): string {
  return join(fileURLToPath(new URL("../fixtures/", import.meta.url)), ...path);
}

/** Numbers of an `.npy` fixture. */
export async function readFixture(...path: string[]): Promise<Float32Array> {
  return readNpy(await readFile(fixturePath(...path))).data as Float32Array;
}

/** Latents, dense, and reconstructions of `x` on the CPU back end. */
export async function run(weights: SaeWeights, x: Float32Array): Promise<[Float32Array, Float32Array]> {
  const backend = await createCpuBackend({ threads: 1 });
  const sae = await backend.load(weights);
  const latents = await sae.encode(x);
  const reconstruction = await sae.decode(latents);
  await sae.dispose();
  const dense = new Float32Array(latents.nTokens * latents.dSae);
  for (let token = 0; token < latents.nTokens; token++) {
    for (let i = latents.offsets[token]; i < latents.offsets[token + 1]; i++) {
      dense[token * latents.dSae + latents.indices[i]] = latents.values[i];
    }
  }
  return [dense, reconstruction];
}

/** Largest difference, relative to the largest expected number. */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  assert.equal(actual.length, expected.length);
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return actual.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0) / scale;
}
