/**
 * What each kernel costs: how many operations it makes and how many bytes it asks memory for, from the very sizes of its
 * tiles, and how long that takes at least on a GPU of given speed (the roofline model,
 * https://doi.org/10.1145/1498765.1498785). `docs/kernels.md` has the table; a test keeps it true.
 *
 * @module
 */
import { chunks, chunkTokens, type WebGpuLimits } from "./batches.ts";
import { DEFAULT_ENCODE_TILE, type EncodeTile, encodeWorkgroups, type Precision } from "./encode_kernel.ts";
import { padToVec4 } from "./kernel.ts";

/** Sizes of a job. */
export interface JobSize {
  nTokens: number;
  dModel: number;
  dSae: number;
  /** Latents kept of a token. */
  k: number;
  /** For the image maxima. */
  tokensPerImage: number;
}

/** How the job is run. */
export interface JobOptions {
  /** What the device may be asked for at once, in a lane. */
  limits: WebGpuLimits;
  /** @default {DEFAULT_ENCODE_TILE} */
  tile?: EncodeTile;
  /** @default {"float32"} */
  precision?: Precision;
}

/** The cost of one kernel over a whole job. */
export interface KernelCost {
  kernel: string;
  /** Additions and multiplications of floats; 0 where a kernel only compares and counts. */
  flops: number;
  /** Bytes that workgroups read and write, as if there were no cache. */
  bytes: number;
  /** Bytes if a cache held everything that several workgroups of a chunk read: each number of a buffer once. */
  leastBytes: number;
}

/** How fast a GPU is. */
export interface GpuSpeed {
  flopsPerSecond: number;
  bytesPerSecond: number;
}

/** Reads that the radix select makes of every pre-activation where no tie is to be settled, one for each eight bits. */
const SELECT_PASSES = 4;

/** The cost of every kernel, in the order in which they run. */
export function kernelCosts(size: JobSize, options: JobOptions): KernelCost[] {
  const { nTokens, dModel, dSae, k, tokensPerImage } = size;
  const chunkSizes = [...chunks(nTokens, chunkTokens(size, options.limits))].map(({ begin, end }) => end - begin);
  const encode = chunkSizes.map((tokens) => encodeBytes({ nTokens: tokens, dModel, dSae }, options));
  const dense = 4 * nTokens * dSae;
  const kept = nTokens * k;
  const plain = (kernel: string, bytes: number): KernelCost => ({ kernel, flops: 0, bytes, leastBytes: bytes });
  const decoded = 4 * nTokens * dModel + 8 * kept;
  return [
    {
      kernel: "encode",
      flops: 2 * nTokens * dModel * dSae,
      bytes: sum(encode.map(({ bytes }) => bytes)),
      leastBytes: sum(encode.map(({ leastBytes }) => leastBytes)),
    },
    plain("select", SELECT_PASSES * dense + 8 * nTokens),
    plain("count", dense + 12 * nTokens),
    plain("write", dense + 12 * nTokens + 12 * kept),
    plain("image maxima", dense + 8 * nTokens + 8 * (nTokens / tokensPerImage) * dSae),
    {
      kernel: "decode",
      flops: 2 * kept * dModel,
      bytes: 4 * kept * dModel + decoded,
      leastBytes: 4 * Math.min(kept, chunkSizes.length * dSae) * dModel + decoded,
    },
  ];
}

/**
 * Bytes of the encoder product of one chunk. A workgroup of the tile reads its rows of `x` and its columns of `w_enc`
 * whole: `x` is read once for each column of tiles, `w_enc` once for each row of tiles.
 */
export function encodeBytes(
  size: { nTokens: number; dModel: number; dSae: number },
  options: Omit<JobOptions, "limits">,
): Pick<KernelCost, "bytes" | "leastBytes"> {
  const { nTokens, dModel, dSae } = size;
  const { tile = DEFAULT_ENCODE_TILE, precision = "float32" } = options;
  const [columns, rows] = encodeWorkgroups({ nTokens, nLatents: dSae }, tile);
  const x = 4 * nTokens * padToVec4(dModel);
  const wEnc = (precision === "float16" ? 2 : 4) * dModel * padToVec4(dSae);
  const pre = 4 * nTokens * padToVec4(dSae);
  return { bytes: x * columns + wEnc * rows + pre, leastBytes: x + wEnc + pre };
}

/** Least time of a kernel, in milliseconds, with `bytes` of traffic: what takes longer, computing or moving. */
export function rooflineMs(cost: { flops: number; bytes: number }, speed: GpuSpeed): number {
  return 1000 * Math.max(cost.flops / speed.flopsPerSecond, cost.bytes / speed.bytesPerSecond);
}

/** The costs as a Markdown table, with a range of times for each GPU: a cache that holds all, to no cache. */
export function rooflineTable(costs: readonly KernelCost[], gpus: readonly GpuSpeed[]): string {
  const heads = gpus.map(({ flopsPerSecond, bytesPerSecond }) =>
    `${flopsPerSecond / 1e12} TFLOP/s, ${bytesPerSecond / 1e9} GB/s`
  );
  const head = [
    "kernel",
    "GFLOP",
    "GB by tiles",
    "GB at least",
    "FLOP/byte by tiles",
    ...heads.map((gpu) => `ms at ${gpu}`),
  ];
  const rows = costs.map((cost) => {
    const { kernel, flops, bytes, leastBytes } = cost;
    const times = gpus.map((gpu) => {
      const [best, worst] = [leastBytes, bytes].map((moved) => rooflineMs({ flops, bytes: moved }, gpu).toFixed(2));
      return best === worst ? best : `${best} to ${worst}`;
    });
    const numbers = [(flops / 1e9).toFixed(2), (bytes / 1e9).toFixed(3), (leastBytes / 1e9).toFixed(3)];
    return [kernel, ...numbers, (flops / bytes).toFixed(1), ...times];
  });
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, i) => i === 0 ? "---" : "---:")), ...rows.map(line)].join("\n");
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
