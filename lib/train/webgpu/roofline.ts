/**
 * What each kernel of a training step costs, counted as in `lib/compute/webgpu/roofline.ts`. `docs/kernels.md` has the
 * table; a test keeps it true.
 *
 * @module
 */
import { chunks, chunkTokens, type WebGpuLimits } from "../../compute/webgpu/batches.ts";
import {
  encodeBytes,
  type GpuSpeed,
  type KernelCost,
  kernelCosts,
  rooflineMs,
  rooflineTable,
} from "../../compute/webgpu/roofline.ts";

/** Sizes of a step that trains a TopK SAE with Adam, subtracts `bDec` and keeps decoder rows at length 1. */
export interface StepSize {
  nTokens: number;
  dModel: number;
  dSae: number;
  /** Latents kept of a token. */
  k: number;
  /** Latents that have a gradient. */
  nTouched: number;
  /** Latents that Adam moves, by a gradient or by momentum. */
  nAwake: number;
}

/** Operations of Adam on one number. */
const ADAM_FLOPS = 15;

/** The cost of every kernel, in the order in which they run. */
export function stepCosts(size: StepSize, limits: WebGpuLimits): KernelCost[] {
  const { nTokens, dModel, dSae, k, nTouched, nAwake } = size;
  const tokenRows = nTokens * dModel;
  const kept = nTokens * k;
  const keptRows = kept * dModel;
  const touched = nTouched * dModel;
  const awake = nAwake * dModel;
  // Rows that a perfect cache reads only once.
  const decoderRows = Math.min(kept, nTouched) * dModel;
  const sizes = [...chunks(nTokens, chunkTokens(size, limits))].map(({ begin, end }) => end - begin);
  const encode = sizes.map((nTokens) => encodeBytes({ nTokens, dModel, dSae }, {}));
  const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
  const plain = (kernel: string, flops: number, bytes: number): KernelCost => ({
    ...{ kernel, flops, bytes, leastBytes: bytes },
  });
  return [
    plain("subtract", tokenRows, 8 * tokenRows),
    {
      kernel: "encode",
      flops: 2 * tokenRows * dSae,
      bytes: sum(encode.map(({ bytes }) => bytes)),
      leastBytes: sum(encode.map(({ leastBytes }) => leastBytes)),
    },
    ...kernelCosts({ ...size, tokensPerImage: 1 }, { limits })
      .filter(({ kernel }) => ["select", "count", "write"].includes(kernel)),
    {
      kernel: "decode",
      flops: 2 * keptRows,
      bytes: 4 * (keptRows + tokenRows) + 8 * kept,
      leastBytes: 4 * (decoderRows + tokenRows) + 8 * kept,
    },
    plain("slopes", 5 * tokenRows, 12 * tokenRows),
    {
      kernel: "dots",
      flops: 2 * keptRows,
      bytes: 8 * keptRows + 12 * kept,
      leastBytes: 4 * (decoderRows + tokenRows) + 12 * kept,
    },
    plain("sum slopes", 3 * tokenRows, 4 * tokenRows),
    {
      kernel: "gather, both matrices",
      flops: 4 * keptRows,
      bytes: 2 * (4 * (keptRows + touched) + 8 * kept),
      leastBytes: 2 * (4 * (tokenRows + touched) + 8 * kept),
    },
    // Both the decoder row and its gradient are read again once what is along the row is known.
    { kernel: "finish", flops: 10 * touched, bytes: 24 * touched, leastBytes: 16 * touched },
    plain("sum encoder", 2 * touched, 4 * touched + 4 * dSae),
    plain("adam, both matrices", 2 * ADAM_FLOPS * awake, 2 * 4 * (3 * awake + 3 * awake + touched)),
    { kernel: "normalize", flops: 3 * awake, bytes: 12 * awake, leastBytes: 8 * awake },
  ];
}

/** The costs as a Markdown table, with the sums of work and of times in its last row. */
export function stepTable(costs: readonly KernelCost[], gpus: readonly GpuSpeed[]): string {
  const sum = (number: (cost: KernelCost) => number) => costs.reduce((total, cost) => total + number(cost), 0);
  const times = gpus.map((gpu) => {
    const [best, worst] = [
      sum(({ flops, leastBytes }) => rooflineMs({ flops, bytes: leastBytes }, gpu)),
      sum((cost) => rooflineMs(cost, gpu)),
    ];
    return `${best.toFixed(2)} to ${worst.toFixed(2)}`;
  });
  const [flops, bytes, leastBytes] = [sum(({ flops }) => flops), sum(({ bytes }) => bytes), sum((c) => c.leastBytes)];
  const numbers = [(flops / 1e9).toFixed(2), (bytes / 1e9).toFixed(3), (leastBytes / 1e9).toFixed(3)];
  const last = ["step", ...numbers, (flops / bytes).toFixed(1), ...times];
  return `${rooflineTable(costs, gpus)}\n| ${last.join(" | ")} |`;
}
