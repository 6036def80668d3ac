/**
 * Chooses the screen that is fastest for an SAE, on this processor, with the activations that come: in 8 bits where
 * products of those are exact and fast, and as long as the bounds leave few latents to look at; else in float32.
 *
 * @module
 */
import { jumpReluFloors, type TokenWeights } from "../contract.ts";
import type { EncoderRows } from "./encoder_rows.ts";
import { probeInt8 } from "./int8_probe.ts";
import type { FoundLatents } from "./latent_gatherer.ts";
import { openScreen, type Screen, type ScreenPrecision } from "./screen.ts";

/** A screen that may change what it works with. */
export interface AdaptiveScreen {
  /** As `Screen.find()`. */
  find(x: Float32Array, effort: number): Promise<FoundLatents>;
  /** As `Screen.learn()`. */
  learn(needed: Uint32Array): Promise<void>;
  close(): Promise<void>;
}

/** Options of {@linkcode openAdaptiveScreen}. */
export interface AdaptiveScreenOptions {
  readonly weights: TokenWeights;
  readonly threads: number;
  /** The precision to stay with; chosen if undefined. */
  readonly precision: ScreenPrecision | undefined;
}

// Below this the product is a small part of the work.
const MIN_NUMBERS_FOR_INT8 = 2 ** 21;

// Looking at a latent costs a dot product of its own, some 14 times as much as what a product in 8 bits saves of it.
const LARGEST_SHARE_FOR_INT8 = 1 / 14;

// Enough for the L0 of most SAEs.
const FIRST_GROUPS = 256;

/** Makes a screen that is laid out when it is first needed. */
export function openAdaptiveScreen(encoder: EncoderRows, options: AdaptiveScreenOptions): AdaptiveScreen {
  const { weights: { dModel, dSae, rule }, threads } = options;
  const bEnc = options.weights.bEnc.slice();
  const isTopK = rule.kind === "topK";
  const fixed = {
    bEnc,
    floors: rule.kind === "jumpRelu" ? jumpReluFloors(rule) : undefined,
    output: isTopK ? "latents" : "groups",
    onlyAbove: !isTopK || rule.relu,
    firstAsked: isTopK ? 2 * rule.k + 32 : FIRST_GROUPS,
    threads,
  } as const;
  let { precision } = options;
  let screen: Screen | undefined;
  const choose = async (): Promise<ScreenPrecision> => {
    if (precision === "float32" || (precision === undefined && dModel * dSae < MIN_NUMBERS_FOR_INT8)) return "float32";
    const { areExact, areFast } = await probeInt8(threads);
    if (precision === "int8" && !areExact) {
      throw new Error("Cannot encode batch: a screen in 8 bits must be exact, products of this processor are not");
    }
    return areExact && (areFast || precision === "int8") ? "int8" : "float32";
  };
  return {
    async find(x, effort) {
      if (screen === undefined) {
        precision = await choose();
        screen = await openScreen(encoder, { ...fixed, precision, sample: x });
      }
      return await screen.find(x, effort);
    },
    async learn(needed) {
      screen!.learn(needed);
      if (options.precision !== undefined || precision !== "int8") return;
      const mean = needed.reduce((total, count) => total + count, 0) / needed.length;
      if (!(mean > LARGEST_SHARE_FOR_INT8 * dSae)) return;
      await screen!.close();
      precision = "float32";
      screen = undefined;
    },
    async close() {
      await screen?.close();
    },
  };
}
