/**
 * Finds the latents of a token that may matter: a matrix product bounds every pre-activation from above, in 8 bits where
 * that is faster, and those whose bound does not reach what is kept for sure are ruled out. Bounds go from onnxruntime
 * straight to the memory of the kernels that look through them.
 *
 * @module
 */
import { freeArrays } from "../../runtime/free.ts";
import { createSession, loadOrt } from "../../runtime/ort.ts";
import type { TokenRule } from "../contract.ts";
import { floatMargin, measureReaches, setBoundingBias } from "./bounds.ts";
import type { Reach } from "./bounds.ts";
import type { EncoderMemory } from "./encoder_memory.ts";
import { EntryList } from "./entry_list.ts";
import { measureSizes, quantizeEncoder, quantizeTokens } from "./quantize.ts";
import { buildScreen, graphNames, type ScreenEncoder } from "./screen_graph.ts";
import { makeThreshold } from "./threshold.ts";

/** In what precision a screen multiplies. */
export type ScreenPrecision = ScreenEncoder["precision"];

/** Options of {@linkcode openScreen}. */
export interface ScreenOptions {
  readonly precision: ScreenPrecision;
  readonly rule: TokenRule;
  readonly bEnc: Float32Array;
  /** What pre-activations are held against, shape `[dSae]`; 0 if absent. */
  readonly floors?: Float32Array;
  /** Tokens of the block that is placed, which the screen is fitted to. */
  readonly nTokens: number;
  readonly tokensPerRun: number;
  readonly threads: number;
}

/** A screen that is laid out. */
export interface Screen {
  readonly precision: ScreenPrecision;
  /** Entries of the first `nTokens` tokens that are placed in the memory; good until the next call. */
  find(nTokens: number): Promise<EntryList>;
  close(): Promise<void>;
}

/** Tokens that are multiplied at once. */
interface Run {
  readonly tokens: Uint32Array;
  readonly x: Float32Array | Uint8Array;
  readonly scale: number;
  readonly margin: number;
}

interface Layout {
  readonly encoder: ScreenEncoder;
  readonly reach: Reach;
  /** Cuts the tokens that are placed into runs. */
  readonly cut: (nTokens: number) => Iterable<Run>;
}

/** Lays out a screen of the encoder in a memory. */
export async function openScreen(memory: EncoderMemory, options: ScreenOptions): Promise<Screen> {
  const { precision, rule, threads } = options;
  const { stride: width, nColumns } = memory;
  const { Tensor } = await loadOrt();
  const { encoder, reach, cut } = precision === "int8" ? layOutInt8(memory, options) : layOutFloat32(memory, options);
  const biases = toColumns(options.bEnc, nColumns, -Infinity);
  const floors = options.floors && toColumns(options.floors, nColumns, 0);
  // Of a row that is not finite a product says nothing: its latent is always looked at.
  for (const latent of brokenRows(memory.floats(memory.rows, nColumns * width), width)) biases[latent] = Infinity;
  const graph = buildScreen(encoder, { width, nColumns });
  const session = await createSession(graph.model, { threads, weights: graph.weights });
  for (const weights of Object.values(graph.weights)) if (weights.buffer !== memory.buffer) freeArrays(weights);
  const raised = new Float32Array(nColumns);
  const setThreshold = makeThreshold(memory, rule);

  const multiply = async ({ tokens, x, scale, margin }: Run): Promise<void> => {
    const widths = memory.floats(memory.widths, nColumns);
    setBoundingBias({ raised, widths }, reach, { margin, bias: biases, floors });
    const feeds = {
      [graphNames.x]: new Tensor(precision === "int8" ? "uint8" : "float32", x, [tokens.length, width]),
      [graphNames.bias]: new Tensor("float32", raised, [nColumns]),
      ...(precision === "int8" && { [graphNames.xScale]: new Tensor("float32", Float32Array.of(scale), [1]) }),
    };
    const bounds = memory.floats(memory.bounds, tokens.length * nColumns);
    const fetches = { [graphNames.bounds]: new Tensor("float32", bounds, [tokens.length, nColumns]) };
    const results = await session.run(feeds, fetches);
    freeArrays(results[graphNames.bounds].data as Float32Array);
  };

  return {
    precision,
    async find(nTokens) {
      const list = new EntryList(memory, nTokens);
      const broken = new Set(brokenRows(memory.floats(memory.x, nTokens * width), width));
      for (const run of cut(nTokens)) {
        await multiply(run);
        for (let i = 0; i < run.tokens.length; i++) {
          if (broken.has(run.tokens[i])) continue;
          const row = memory.bounds + 4 * i * nColumns;
          setThreshold(row);
          list.collect(run.tokens[i], row);
        }
      }
      for (const token of broken) list.addAll(token);
      return list;
    },
    close: () => session.release(),
  };
}

function layOutInt8(memory: EncoderMemory, { nTokens, tokensPerRun }: ScreenOptions): Layout {
  const { stride: width, nColumns } = memory;
  const placed = (n: number) => memory.floats(memory.x, n * width);
  const into = new Uint8Array(tokensPerRun * width);
  const { columns, scales, ...encoder } = quantizeEncoder(
    memory.floats(memory.rows, nColumns * width),
    placed(nTokens),
    width,
  );
  return {
    encoder: { precision: "int8", columns, scales },
    reach: encoder,
    // Tokens of about the same size share their steps, so that a few large ones do not make those of the others coarse.
    *cut(nTokens) {
      const sizes = measureSizes(placed(nTokens), encoder);
      const finite = Uint32Array.from(sizes.keys()).filter((token) => sizes[token] < Infinity);
      const order = finite.sort((a, b) => sizes[a] - sizes[b]);
      for (let first = 0; first < order.length; first += tokensPerRun) {
        const tokens = order.subarray(first, first + tokensPerRun);
        const size = sizes[tokens[tokens.length - 1]];
        const { steps, scale, margin } = quantizeTokens(placed(nTokens), encoder, { tokens, size, into });
        yield { tokens, x: steps, scale, margin };
      }
    },
  };
}

function layOutFloat32(memory: EncoderMemory, { tokensPerRun }: ScreenOptions): Layout {
  const { stride: width, nColumns } = memory;
  const rows = memory.floats(memory.rows, nColumns * width);
  const broken = brokenRows(rows, width);
  const whole = broken.length === 0 ? rows : rows.slice();
  for (const latent of broken) whole.fill(0, latent * width, (latent + 1) * width);
  return {
    encoder: { precision: "float32", rows: whole },
    reach: measureReaches(whole, width),
    *cut(nTokens) {
      for (let first = 0; first < nTokens; first += tokensPerRun) {
        const tokens = Uint32Array.from({ length: Math.min(tokensPerRun, nTokens - first) }, (_, i) => first + i);
        const x = memory.floats(memory.x + 4 * first * width, tokens.length * width);
        yield { tokens, x, scale: 1, margin: floatMargin(x, width) };
      }
    },
  };
}

/** Rows that hold numbers that are not finite. */
function brokenRows(rows: Float32Array, width: number): number[] {
  const broken: number[] = [];
  for (let row = 0, at = 0; at < rows.length; row++) {
    let sum = 0;
    for (const end = at + width; at < end; at++) sum += rows[at] - rows[at];
    if (sum !== 0) broken.push(row);
  }
  return broken;
}

function toColumns(values: Float32Array, nColumns: number, beyond: number): Float32Array {
  const columns = new Float32Array(nColumns).fill(beyond);
  columns.set(values);
  return columns;
}
