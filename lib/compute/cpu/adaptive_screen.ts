/**
 * Chooses the screen that is fastest for an SAE, on this processor, with the activations that come: in 8 bits where
 * products of those are exact and fast, and as long as the bounds leave few latents to look at; else in float32.
 *
 * @module
 */
import { jumpReluFloors, type TokenWeights } from "../contract.ts";
import type { EncoderMemory } from "./encoder_memory.ts";
import type { EntryList } from "./entry_list.ts";
import { probeInt8 } from "./int8_probe.ts";
import { openScreen, type Screen, type ScreenPrecision } from "./screen.ts";

/** A screen that is laid out when it is first needed, and may change what it works with. */
export type AdaptiveScreen = Omit<Screen, "precision">;

/** Options of {@linkcode openAdaptiveScreen}. */
export interface AdaptiveScreenOptions {
  readonly weights: TokenWeights;
  readonly tokensPerRun: number;
  readonly threads: number;
  /** The precision to stay with; chosen if undefined. */
  readonly precision: ScreenPrecision | undefined;
}

// Below this the product is a small part of the work.
const MIN_NUMBERS_FOR_INT8 = 2 ** 21;

// Looking at a latent costs a dot product of its own, some 14 times as much as what a product in 8 bits saves of it.
const LARGEST_SHARE_FOR_INT8 = 1 / 14;

/** Opens the screen of an encoder. */
export function openAdaptiveScreen(memory: EncoderMemory, options: AdaptiveScreenOptions): AdaptiveScreen {
  const { weights: { dModel, dSae, rule }, precision, threads, tokensPerRun } = options;
  const bEnc = options.weights.bEnc.slice();
  const floors = rule.kind === "jumpRelu" ? jumpReluFloors(rule) : undefined;
  let screen: Screen | undefined;

  const choose = async (): Promise<ScreenPrecision> => {
    if (precision === "float32" || (precision === undefined && dModel * dSae < MIN_NUMBERS_FOR_INT8)) return "float32";
    const { areExact, areFast } = await probeInt8(threads);
    if (precision === "int8" && !areExact) {
      throw new Error("Cannot encode batch: a screen in 8 bits must be exact, products of this processor are not");
    }
    return areExact && (areFast || precision === "int8") ? "int8" : "float32";
  };
  const open = (precision: ScreenPrecision, nTokens: number) =>
    openScreen(memory, { precision, rule, bEnc, floors, nTokens, tokensPerRun, threads });

  return {
    async find(nTokens): Promise<EntryList> {
      screen ??= await open(await choose(), nTokens);
      const entries = await screen.find(nTokens);
      const isWorthIt = entries.nEntries <= LARGEST_SHARE_FOR_INT8 * dSae * nTokens;
      if (screen.precision === "int8" && precision === undefined && !isWorthIt) {
        await screen.close();
        screen = await open("float32", nTokens);
      }
      return entries;
    },
    close: async () => await screen?.close(),
  };
}
