/**
 * Finds the latents of a token that may matter: a matrix product bounds every pre-activation from above, in 8 bits where
 * that is faster, and only the latents with the highest bounds come back. How many are asked for follows what was needed
 * before.
 *
 * @module
 */
import type { InferenceSession } from "onnxruntime-node";
import { createSession, loadOrt } from "../../runtime/ort.ts";
import { boundingBias, measureReaches, quantizeEncoder, quantizeTokens, screenFloats } from "./bounds.ts";
import type { Reach, ScreenedTokens } from "./bounds.ts";
import type { EncoderRows } from "./encoder_rows.ts";
import { type FoundLatents, LatentGatherer } from "./latent_gatherer.ts";
import { buildScreen, graphNames, groupSize, type ScreenOutput, type ScreenProduct } from "./screen_graph.ts";

/** In what precision a screen multiplies. */
export type ScreenPrecision = ScreenProduct["kind"];

/** Options of {@linkcode openScreen}. */
export interface ScreenOptions {
  readonly precision: ScreenPrecision;
  /** Activations to fit it to, as `EncoderRows.place()` gives them. */
  readonly sample: Float32Array;
  readonly bEnc: Float32Array;
  /** What pre-activations are held against, shape `[dSae]`; bounds are of what is above. Zero if absent. */
  readonly floors?: Float32Array;
  readonly output: ScreenOutput;
  /** Whether latents whose bound is not above zero matter. */
  readonly onlyAbove: boolean;
  /** How many are asked for at first. */
  readonly firstAsked: number;
  readonly threads: number;
}

/** A screen that is laid out. */
export interface Screen {
  readonly precision: ScreenPrecision;
  /**
   * Looks at activations of shape `[nTokens, stride]`.
   *
   * @param effort How many times as many as usual are asked for.
   */
  find(x: Float32Array, effort: number): Promise<FoundLatents>;
  /** Tells how many of the entries each token needed. */
  learn(needed: Uint32Array): void;
  close(): Promise<void>;
}

// Bounds that onnxruntime may hold at once: as many tokens as it takes to read the weights rarely, and no more than the
// last level of a cache.
const SCRATCH_BYTES = 24 * 2 ** 20;

// Tokens that need more than this share of others are looked at again.
const USUAL_SHARE = 0.98;
const MORE_THAN_NEEDED = 1.25;

/** Lays out a screen of an encoder. */
export async function openScreen(encoder: EncoderRows, options: ScreenOptions): Promise<Screen> {
  const { precision, sample, bEnc, floors, output, onlyAbove, firstAsked, threads } = options;
  const { dSae, stride: width } = encoder;
  const { Tensor } = await loadOrt();
  const { product, reach, take } = layOut(encoder.rows, { precision, sample, width });
  const broken = brokenRows(encoder.rows, width);
  const biases = bEnc.slice();
  for (const latent of broken) biases[latent] = NaN;
  const graph = buildScreen(product, { width, dSae, output });
  const session = await createSession(graph.model, { threads, weights: graph.weights });
  const nAll = output === "latents" ? dSae : dSae / groupSize(dSae);
  const tokensPerRun = Math.max(1, Math.floor(SCRATCH_BYTES / (4 * dSae)));
  const first = Math.min(nAll, firstAsked);
  let asked = first;

  const run = async (x: Float32Array, nAsked: number) => {
    const tokens = take(x);
    const { margin, scale, isLeftOut } = tokens;
    const feeds: Record<string, InferenceSession.OnnxValueMapType[string]> = {
      [graphNames.x]: new Tensor(precision === "int8" ? "uint8" : "float32", tokens.x, [x.length / width, width]),
      [graphNames.bias]: new Tensor("float32", boundingBias(biases, reach, { margin, floors }), [dSae]),
      [graphNames.nAsked]: new Tensor("int64", BigInt64Array.of(BigInt(nAsked)), [1]),
    };
    if (precision === "int8") feeds[graphNames.xScale] = new Tensor("float32", Float32Array.of(scale), [1]);
    return { results: await session.run(feeds), isLeftOut };
  };

  return {
    precision,
    async find(x, effort) {
      const nTokens = x.length / width;
      const nAsked = Math.min(nAll, effort * asked);
      const gatherer = new LatentGatherer(nTokens, { room: nAsked + broken.length, onlyAbove });
      for (let start = 0; start < x.length; start += tokensPerRun * width) {
        const { results, isLeftOut } = await run(x.subarray(start, start + tokensPerRun * width), nAsked);
        const bounds = results[graphNames.bounds].data as Float32Array;
        const lowest = results[graphNames.lowest].data as Float32Array;
        const numbers = results[output === "latents" ? graphNames.latents : graphNames.groups].data as Int32Array;
        for (let token = 0; token < isLeftOut.length; token++) {
          if (output === "latents") gatherer.addLatents(numbers, bounds, { token, nAsked });
          else gatherer.addGroups(numbers, bounds, { token, nAsked, dSae });
          for (const latent of broken) gatherer.add(latent, Infinity);
          gatherer.endToken(isLeftOut[token] === 1 ? Infinity : nAsked === nAll ? -Infinity : lowest[token]);
        }
      }
      return gatherer.finish();
    },
    learn(needed) {
      if (needed.length === 0) return;
      const usual = needed.toSorted()[Math.floor(USUAL_SHARE * (needed.length - 1))];
      asked = Math.min(nAll, Math.max(Math.ceil(first / 4), Math.ceil(MORE_THAN_NEEDED * usual)));
    },
    close: () => session.release(),
  };
}

interface Layout {
  readonly product: ScreenProduct;
  readonly reach: Reach;
  readonly take: (x: Float32Array) => ScreenedTokens;
}

function layOut(
  rows: Float32Array,
  options: { precision: ScreenPrecision; sample: Float32Array; width: number },
): Layout {
  const { precision, sample, width } = options;
  if (precision === "int8") {
    const encoder = quantizeEncoder(rows, sample, width);
    return { product: { kind: "int8", ...encoder }, reach: encoder, take: (x) => quantizeTokens(x, encoder) };
  }
  const broken = brokenRows(rows, width);
  const whole = broken.length === 0 ? rows : rows.slice();
  for (const latent of broken) whole.fill(0, latent * width, (latent + 1) * width);
  return {
    product: { kind: "float32", rows: whole },
    reach: measureReaches(whole, width),
    take: (x) => screenFloats(x, width),
  };
}

/** Latents whose rows hold numbers that are not finite: no product says anything about them. */
function brokenRows(rows: Float32Array, width: number): number[] {
  const broken: number[] = [];
  for (let latent = 0, at = 0; at < rows.length; latent++) {
    let sum = 0;
    for (const end = at + width; at < end; at++) sum += rows[at] - rows[at];
    if (sum !== 0) broken.push(latent);
  }
  return broken;
}
