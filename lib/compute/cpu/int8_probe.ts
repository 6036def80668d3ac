/**
 * Finds out whether products of 8-bit integers are worth it on this processor. Some have no instruction for them; on
 * some, onnxruntime's sums of products of two large numbers are cut off at 16 bits, and a bound would not hold.
 *
 * @module
 */
import { buildOnnx, microsoftDomain } from "../../onnx/build.ts";
import { createSession, loadOrt } from "../../runtime/ort.ts";
import { ZERO_POINT } from "./screen_graph.ts";

// Large enough that the product takes most of the time.
const [N_TOKENS, WIDTH, N_LATENTS] = [128, 1024, 1024];
const LARGEST = 127;
const N_RUNS = 7;
/** How many times as fast as float32 it has to be. */
const WORTH_IT = 1.3;

/** What products in 8 bits are like. */
export interface Int8Products {
  readonly areExact: boolean;
  /** Whether they are so much faster than in float32 that a screen can gain from them. */
  readonly areFast: boolean;
}

const answers = new Map<number, Promise<Int8Products>>();

/** Tries products in 8 bits, once for each number of threads. */
export function probeInt8(threads: number): Promise<Int8Products> {
  const known = answers.get(threads);
  if (known !== undefined) return known;
  const answer = probe(threads);
  answers.set(threads, answer);
  return answer;
}

async function probe(threads: number): Promise<Int8Products> {
  const { Tensor } = await loadOrt();
  const largestColumns = new Int8Array(WIDTH * N_LATENTS).fill(LARGEST);
  // One number comes out, since copying all would take as long in both.
  const largest = { op: "ReduceMax", inputs: ["y"], outputs: ["largest"], attributes: { keepdims: 0 } };
  const int8 = await createSession(
    buildOnnx({
      inputs: [{ name: "x", dims: ["n", WIDTH], type: "uint8" }],
      constants: [
        { name: "w", dims: [WIDTH, N_LATENTS], data: largestColumns },
        { name: "one", dims: [1], data: Float32Array.of(1) },
        { name: "ones", dims: [N_LATENTS], data: new Float32Array(N_LATENTS).fill(1) },
        { name: "zero", dims: [1], data: Uint8Array.of(ZERO_POINT) },
      ],
      nodes: [{
        op: "MatMulIntegerToFloat",
        domain: microsoftDomain,
        inputs: ["x", "w", "one", "ones", "zero"],
        outputs: ["y"],
      }, largest],
      outputs: ["y", "largest"],
    }),
    { threads },
  );
  const float32 = await createSession(
    buildOnnx({
      inputs: [{ name: "x", dims: ["n", WIDTH] }],
      constants: [{ name: "w", dims: [N_LATENTS, WIDTH], data: Float32Array.from(largestColumns) }],
      nodes: [{ op: "Gemm", inputs: ["x", "w"], outputs: ["y"], attributes: { transB: 1 } }, largest],
      outputs: ["largest"],
    }),
    { threads },
  );
  try {
    const steps = new Tensor("uint8", new Uint8Array(N_TOKENS * WIDTH).fill(255), [N_TOKENS, WIDTH]);
    const floats = new Tensor("float32", new Float32Array(N_TOKENS * WIDTH).fill(1), [N_TOKENS, WIDTH]);
    const { y } = await int8.run({ x: steps }, ["y"]);
    const expected = WIDTH * LARGEST * (255 - ZERO_POINT);
    const areExact = (y.data as Float32Array).every((value) => value === expected);
    const fastest = async (run: () => Promise<unknown>): Promise<number> => {
      let least = Infinity;
      for (let i = 0; i < N_RUNS; i++) {
        const start = performance.now();
        await run();
        least = Math.min(least, performance.now() - start);
      }
      return least;
    };
    const inFloat32 = await fastest(() => float32.run({ x: floats }));
    return { areExact, areFast: WORTH_IT * await fastest(() => int8.run({ x: steps }, ["largest"])) < inFloat32 };
  } finally {
    await Promise.all([int8.release(), float32.release()]);
  }
}
