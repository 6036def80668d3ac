/**
 * Runs a small model on one input of floats.
 *
 * @module
 */
import { createSession, loadOrt } from "../../lib/runtime/ort.ts";

/** Numbers of each output. */
export async function runModel(
  model: Uint8Array,
  input: { name: string; data: Float32Array; dims: readonly number[] },
): Promise<Record<string, Float32Array>> {
  const { Tensor } = await loadOrt();
  const session = await createSession(model, { threads: 1 });
  const results = await session.run({ [input.name]: new Tensor("float32", input.data, [...input.dims]) });
  const outputs = session.outputNames.map((name) => [name, results[name].data as Float32Array]);
  await session.release();
  return Object.fromEntries(outputs);
}
