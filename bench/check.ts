/**
 * Whether the benchmark's answers are right: latents of a few tokens beside float64, and our summary beside the one made
 * in PyTorch. A fast wrong answer is worth nothing.
 *
 * @module
 */
import { createCpuBackend } from "../lib/compute/cpu/backend.ts";
import { type BenchRule, readBenchSae, readRaw, readSizes } from "./data.ts";

// Of the largest pre-activation: float32 sums of a thousand products.
const TOLERANCE = 1e-5;

/**
 * Compares the latents of some tokens with float64, in plain loops.
 *
 * @returns The largest difference, as a share of the token's largest latent.
 * @throws {Error} If one differs by more than 1e-5, or is active on one side only and not within that of the border.
 */
export async function checkEncode(folder: string, rule: BenchRule, options: { nTokens: number }): Promise<number> {
  const { nTokens } = options;
  const sae = await readBenchSae(folder, rule);
  const { dModel, dSae, wEnc, bEnc } = sae;
  const x = (await readRaw(folder, "x")).subarray(0, nTokens * dModel);
  const loaded = await (await createCpuBackend()).load(sae);
  const { offsets, indices, values } = await loaded.encode(x);
  await loaded.dispose();
  let largest = 0;
  for (let token = 0; token < nTokens; token++) {
    const h = Float64Array.from(bEnc);
    for (let d = 0; d < dModel; d++) {
      const activation = x[token * dModel + d];
      for (let latent = 0; latent < dSae; latent++) h[latent] += activation * wEnc[d * dSae + latent];
    }
    const kept = sae.rule.kind === "topK" ? h.toSorted()[dSae - sae.rule.k] : 0;
    const floor = Math.max(kept, Number.MIN_VALUE);
    const scale = h.reduce((most, value) => Math.max(most, value), 0);
    const found = new Float64Array(dSae);
    for (let i = offsets[token]; i < offsets[token + 1]; i++) found[indices[i]] = values[i];
    h.forEach((value, latent) => {
      const expected = value >= floor ? value : 0;
      const isBorder = Math.abs(value - floor) <= TOLERANCE * scale;
      const error = isBorder ? 0 : Math.abs(found[latent] - expected) / scale;
      largest = Math.max(largest, error);
    });
  }
  if (!(largest <= TOLERANCE)) {
    throw new Error(
      `Cannot trust encode, ${rule}: latents must be within 1e-5 of float64, current value is ${largest}`,
    );
  }
  return largest;
}

/**
 * Compares our summary with PyTorch's: as often active, the same sums, the same top images. Where two images are within
 * rounding of each other either may come first.
 *
 * @returns How many of the top images stand in the same place.
 * @throws {Error} If they differ.
 */
export async function checkSummary(folder: string, rule: BenchRule): Promise<{ nTop: number; nSame: number }> {
  const { imagesPerLatent } = await readSizes(folder);
  const read = (name: string) =>
    Promise.all([readRaw(folder, `ours_${rule}_${name}`), readRaw(folder, `torch_${rule}_${name}`)]);
  const fail = (what: string, latent: number, ours: number, theirs: number): never => {
    throw new Error(
      `Cannot trust summary, ${rule}: ${what} of latent ${latent} must be ${theirs}, current value is ${ours}`,
    );
  };
  const [ourCounts, theirCounts] = await read("n_active");
  ourCounts.forEach((count, latent) => {
    // A pre-activation within rounding of the border may fall on either side.
    if (Math.abs(count - theirCounts[latent]) > 2) fail("count", latent, count, theirCounts[latent]);
  });
  const [[ourValues, theirValues], [ourImages, theirImages]] = [await read("top_values"), await read("top_images")];
  const [ourSums, theirSums] = await read("sum");
  ourSums.forEach((sum, latent) => {
    // What fell on the other side is no larger than the latent's largest value.
    const fallen = Math.abs(ourCounts[latent] - theirCounts[latent]) * ourValues[latent * imagesPerLatent];
    if (Math.abs(sum - theirSums[latent]) > fallen + 1e-3 * (1 + theirSums[latent])) {
      fail("sum", latent, sum, theirSums[latent]);
    }
  });
  let nTop = 0;
  let nSame = 0;
  ourValues.forEach((value, i) => {
    const latent = Math.floor(i / imagesPerLatent);
    if (Math.abs(value - theirValues[i]) > TOLERANCE * (1 + value)) fail("a top value", latent, value, theirValues[i]);
    if (value === 0) return;
    nTop++;
    if (ourImages[i] === theirImages[i]) nSame++;
  });
  return { nTop, nSame };
}
