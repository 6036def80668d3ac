/**
 * Hands out tokens in random order with bounded memory: images come in random order and fill a pool; from then on each
 * token that arrives takes the place of one drawn at random. Every token comes exactly once an epoch, and is copied twice:
 * into the pool and out of it. Tokens that all fit into the pool stay there, and are read only once.
 *
 * @module
 */
import { tokenRange } from "../shards/read.ts";
import { randomOrder } from "./random.ts";
import type { ReadTokensOptions, TokenSource } from "./source.ts";

/** Options of {@linkcode shuffledTokens}. */
export interface ShuffledTokensOptions extends ReadTokensOptions {
  /** Tokens a batch. The last batch of an epoch may be smaller. */
  batchSize: number;
  /**
   * Size of the pool in bytes, 4 a number, which it never grows beyond. An epoch that fits is shuffled perfectly, each
   * order as likely as any other; of a larger one, the larger the pool the better it mixes.
   *
   * @default {512_000_000}
   */
  poolBytes?: number;
  /** Source of randomness; the same sequence gives the same batches. */
  random: () => number;
  /**
   * The pool, for epochs that come one after another.
   *
   * @default its own
   */
  pool?: TokenPool;
  /**
   * Whether each batch lies in the memory of the one before. It then holds until the next one is asked for.
   *
   * @default {false}
   */
  reuse?: boolean;
}

/** Size of a pool, in bytes. The same on every machine, as the order of the tokens depends on it. */
export const defaultPoolBytes = 512_000_000;

/**
 * Tokens that a pool of some size holds.
 *
 * @throws {RangeError} If it holds none.
 */
export function countPoolTokens({ poolBytes = defaultPoolBytes, dModel }: {
  poolBytes?: number;
  dModel: number;
}): number {
  const nTokens = Math.floor(poolBytes / (4 * dModel));
  if (nTokens >= 1) return nTokens;
  throw new RangeError(
    `Cannot shuffle tokens: poolBytes must be at least ${
      4 * dModel
    }, the size of a token, current value is ${poolBytes}`,
  );
}

/** Where the tokens of one layer of a source are shuffled. */
export interface TokenPool {
  /** Shape `[nPlaces, dModel]`. */
  readonly memory: Float32Array;
  /** Whether there is a place for every token. */
  readonly holdsAll: boolean;
  /** Tokens that stay in it from one epoch to the next, in order: all of them, or none. */
  nKept: number;
}

/** Makes an empty pool: no larger than all tokens need. */
export function makePool(
  source: TokenSource,
  { tokens = "patches", poolBytes }: Pick<ShuffledTokensOptions, "tokens" | "poolBytes">,
): TokenPool {
  const { nImages, info: { d_model: dModel } } = source;
  const nTokens = nImages * tokenRange(source.info, tokens).count;
  const nPlaces = Math.min(countPoolTokens({ poolBytes, dModel }), nTokens);
  return { memory: new Float32Array(nPlaces * dModel), holdsAll: nPlaces === nTokens, nKept: 0 };
}

/** One epoch of tokens in random order: batches of shape `[batchSize, dModel]`. */
export async function* shuffledTokens(
  source: TokenSource,
  options: ShuffledTokensOptions,
): AsyncIterable<Float32Array> {
  const { layer, tokens, batchSize, random, reuse = false, signal } = options;
  const { d_model: dModel } = source.info;
  const pool = options.pool ?? makePool(source, options);
  const { memory, holdsAll } = pool;
  const nPlaces = memory.length / dModel;
  let nPooled = pool.nKept;
  let batch = new Float32Array(batchSize * dModel);
  let nDrawn = 0;
  /** Copies the token at a place into the batch; tells whether the batch is full. */
  const draw = (place: number) => {
    batch.set(memory.subarray(place * dModel, (place + 1) * dModel), nDrawn * dModel);
    return ++nDrawn === batchSize;
  };
  const begin = () => {
    if (!reuse) batch = new Float32Array(batchSize * dModel);
    nDrawn = 0;
  };
  // Tokens that stay are in one order, so that an epoch is the same whichever came before it.
  const read = { layer, tokens, random: holdsAll ? undefined : random, signal };
  for await (const piece of nPooled > 0 ? [] : source.readBatches(read)) {
    const nTokens = piece.length / dModel;
    const nFit = Math.min(nPlaces - nPooled, nTokens);
    memory.set(piece.subarray(0, nFit * dModel), nPooled * dModel);
    nPooled += nFit;
    for (let token = nFit; token < nTokens; token++) {
      const place = Math.floor(random() * nPlaces);
      const isFull = draw(place);
      memory.set(piece.subarray(token * dModel, (token + 1) * dModel), place * dModel);
      if (!isFull) continue;
      yield batch;
      signal?.throwIfAborted();
      begin();
    }
  }
  if (holdsAll) pool.nKept = nPooled;
  for (const place of randomOrder(nPooled, random)) {
    if (!draw(place)) continue;
    yield batch;
    signal?.throwIfAborted();
    begin();
  }
  if (nDrawn > 0) yield batch.subarray(0, nDrawn * dModel);
}
