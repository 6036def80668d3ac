/**
 * Which way of cutting up the encoder product is the fastest on a device: tries a handful and takes the median of
 * several runs each, all in a fraction of a second, once for each adapter, size and version of the kernel. The numbers
 * that the kernel makes do not depend on it, but for the order in which a compiler may add.
 *
 * @module
 */
import { describeAdapter } from "../../runtime/gpu.ts";
import { GpuDevice, type Program } from "./device.ts";
import {
  DEFAULT_ENCODE_TILE,
  encodeKernel,
  encodeParams,
  type EncodeTile,
  encodeWorkgroups,
  type Precision,
} from "./encode_kernel.ts";
import { padToVec4 } from "./kernel.ts";
import { Readback, ScratchBuffers } from "./scratch.ts";
import { readTile, writeTile } from "./tile_cache.ts";

/** The ways that are tried, the default first: large blocks for wide GPUs, small ones where registers are scarce. */
export const candidateTiles: readonly EncodeTile[] = [
  DEFAULT_ENCODE_TILE,
  { ...DEFAULT_ENCODE_TILE, unroll: 4 },
  { tokens: 64, latents: 64, depth: 16, blockTokens: 4, blockLatents: 4 },
  { tokens: 128, latents: 128, depth: 8, blockTokens: 8, blockLatents: 8, unroll: 2 },
  { tokens: 32, latents: 128, depth: 16, blockTokens: 4, blockLatents: 8 },
  { tokens: 64, latents: 128, depth: 16, blockTokens: 8, blockLatents: 16 },
];

/** The product to tune for. */
export interface TuneSize {
  dModel: number;
  dSae: number;
  /** Most tokens that are encoded at once. */
  nTokens: number;
  /** How `wEnc` is stored. @default {"float32"} */
  precision?: Precision;
}

/** Options of {@linkcode tuneWebGpu}. */
export interface TuneOptions {
  /**
   * Time after which no further way is tried, in milliseconds.
   *
   * @default {400}
   */
  budgetMs?: number;
  /** Told the median time of each way that was tried, in milliseconds. @default {() => {}} */
  onTried?: (tile: EncodeTile, medianMs: number) => void;
}

/**
 * Finds the fastest tile for a size and remembers it for back ends on the same adapter. Opens the adapter, which can be
 * done only once. Where a tile is remembered already, that is the answer.
 */
export async function tuneWebGpu(
  adapter: GPUAdapter,
  size: TuneSize,
  options: TuneOptions = {},
): Promise<EncodeTile> {
  const gpu = await GpuDevice.open(adapter);
  try {
    return await tunedTile(gpu, { ...size, adapter: describeAdapter(adapter) }, options);
  } finally {
    gpu.close();
  }
}

/** The tile for a size, from the cache or by trying. */
export async function tunedTile(
  gpu: GpuDevice,
  size: TuneSize & { adapter: string },
  options: TuneOptions = {},
): Promise<EncodeTile> {
  const { adapter, dModel, dSae, nTokens, precision = "float32" } = size;
  const kernel = encodeKernel({ subtractBDec: false, precision }).code;
  const key = JSON.stringify({ adapter, dModel, dSae, nTokens, precision, kernel: hash(kernel) });
  const known = await readTile(key, candidateTiles);
  if (known) return known;
  const tile = await fastestTile(gpu, { ...size, precision }, options);
  await writeTile(key, tile);
  return tile;
}

/** A product of the size's shape but perhaps fewer tokens and latents, so that one run takes a few milliseconds. */
interface Trial {
  nTokens: number;
  nLatents: number;
}

const RUNS = 5;
const LONG_ENOUGH_MS = 4;

async function fastestTile(
  gpu: GpuDevice,
  size: TuneSize & { precision: Precision },
  options: TuneOptions,
): Promise<EncodeTile> {
  const { budgetMs = 400, onTried = () => {} } = options;
  const deadline = performance.now() + budgetMs;
  const bench = await openBench(gpu, size);
  try {
    const trial = await chooseTrial(bench, size);
    let best = { tile: DEFAULT_ENCODE_TILE, medianMs: Infinity };
    for (const tile of candidateTiles) {
      if (tile !== DEFAULT_ENCODE_TILE && performance.now() >= deadline) break;
      try {
        await bench.time(tile, trial); // compiles, and wakes the clock up
        const times: number[] = [];
        for (let run = 0; run < RUNS; run++) times.push(await bench.time(tile, trial));
        const medianMs = times.sort((a, b) => a - b)[RUNS >> 1];
        onTried(tile, medianMs);
        // A few percent are noise, and the default is known to be good.
        if (medianMs < 0.95 * best.medianMs) best = { tile, medianMs };
      } catch (cause) {
        gpu.assertUsable("tune");
        if (tile === DEFAULT_ENCODE_TILE) throw cause;
        // A driver that refuses a way has answered the question.
      }
    }
    return best.tile;
  } finally {
    bench.close();
  }
}

/** Doubles tokens, then latents, until a run with the default tile takes long enough to be measured. */
async function chooseTrial(bench: Bench, size: TuneSize): Promise<Trial> {
  const most = bench.most;
  let trial = { nTokens: Math.min(64, most.nTokens), nLatents: Math.min(512, most.nLatents) };
  await bench.time(DEFAULT_ENCODE_TILE, trial);
  while (await bench.time(DEFAULT_ENCODE_TILE, trial) < LONG_ENOUGH_MS) {
    if (trial.nTokens < most.nTokens) trial = { ...trial, nTokens: Math.min(2 * trial.nTokens, most.nTokens) };
    else if (trial.nLatents < most.nLatents) trial = { ...trial, nLatents: Math.min(2 * trial.nLatents, size.dSae) };
    else break;
  }
  return trial;
}

interface Bench {
  /** The largest trial that there are buffers for. */
  most: Trial;
  /** Milliseconds of one product. */
  time(tile: EncodeTile, trial: Trial): Promise<number>;
  close(): void;
}

/** Buffers for the product; what they hold, zeros, does not matter to a kernel without branches on numbers. */
async function openBench(gpu: GpuDevice, size: TuneSize & { precision: Precision }): Promise<Bench> {
  const { dModel, dSae, precision } = size;
  const most = { nTokens: Math.min(size.nTokens, 512), nLatents: Math.min(dSae, 4096) };
  const scratch = new ScratchBuffers(gpu);
  const readback = new Readback(gpu);
  const pitch = padToVec4(most.nLatents);
  const buffers = {
    x: await scratch.storage("x", 4 * most.nTokens * padToVec4(dModel)),
    w_enc: await scratch.storage("w_enc", 4 * dModel * pitch),
    b_enc: await scratch.storage("b_enc", 4 * pitch),
    pre: await scratch.storage("pre", 4 * most.nTokens * pitch),
  };
  return {
    most,
    async time(tile, { nTokens, nLatents }) {
      const program: Program = await gpu.compile(encodeKernel({ subtractBDec: false, precision }, tile));
      const params = encodeParams({ nTokens, dModel, dSae: nLatents }, { begin: 0, end: nLatents });
      const start = performance.now();
      await gpu.run("tune", [{ program, buffers, params, workgroups: encodeWorkgroups({ nTokens, nLatents }, tile) }]);
      // Mapping waits for the kernel; not every runtime's onSubmittedWorkDone() does.
      await readback.read([{ buffer: buffers.pre, bytes: 16 }]);
      return performance.now() - start;
    },
    close() {
      scratch.dispose();
      readback.dispose();
    },
  };
}

/** FNV-1a, to tell one text of the kernel from another. */
function hash(text: string): string {
  let bits = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) bits = Math.imul(bits ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return bits.toString(16).padStart(8, "0");
}
