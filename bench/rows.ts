/**
 * The rows of the benchmark: what is measured beside what, and how much better it has to be.
 *
 * @module
 */
import type { BenchRule } from "./data.ts";
import type { ProductAdapter, ProductMaker } from "./webgpu_task.ts";

/** What is compared: work a second, the time to the first answer, or the most memory held. */
export type Quantity = "rate" | "time" | "memory";

/** A comparison with one peer. */
export interface Comparison {
  /** For people. */
  readonly peer: string;
  /** What is compared; a ratio is always how many times better we are. */
  readonly quantity: Quantity;
  /** The least ratio that is good enough. */
  readonly target: number;
  /** Program in `peers/`; or another task of `ours.ts`; or `"baseline"`, measured within the same process. */
  readonly program: { readonly python: string } | { readonly task: string } | "baseline";
}

/** One thing that is measured. */
export interface BenchRow {
  readonly name: string;
  /** For people. */
  readonly title: string;
  /** Task of `ours.ts`. */
  readonly task: string;
  readonly rule: BenchRule;
  /** Unit of a rate. */
  readonly unit: "tokens/s" | "images/s" | "ms";
  readonly comparisons: readonly Comparison[];
}

const torch = (script: string) => ({ python: `${script}.py` });

function summaryRow(rule: BenchRule, label: string): BenchRow {
  return {
    name: `summary_${rule}`,
    title: `summary, ${label}`,
    task: "summary",
    rule,
    unit: "tokens/s",
    comparisons: [
      { peer: "saev's algorithm", quantity: "rate", target: 8, program: torch("saev_summary") },
      { peer: "PyTorch by hand", quantity: "rate", target: 1.7, program: torch("summary") },
      { peer: "PyTorch by hand", quantity: "memory", target: 2, program: torch("summary") },
    ],
  };
}

function trainRow(rule: BenchRule, label: string, target: number): BenchRow {
  return {
    name: `train_${rule}`,
    title: `training, ${label}`,
    task: "train",
    rule,
    unit: "tokens/s",
    comparisons: [
      { peer: "saev's training", quantity: "rate", target, program: torch("train") },
      { peer: "saev's training", quantity: "memory", target: 2, program: torch("train") },
    ],
  };
}

function recordingRow(kind: "emoji" | "photos", title: string): BenchRow {
  return {
    name: kind === "emoji" ? "recording" : "recording-photos",
    title,
    task: `record_${kind}`,
    rule: "relu",
    unit: "images/s",
    comparisons: [{ peer: "bare session", quantity: "rate", target: 0.97, program: "baseline" }],
  };
}

function webgpuRow(adapter: ProductAdapter, title: string): BenchRow {
  const task = (maker: ProductMaker) => `webgpu_${maker}_${adapter}`;
  return {
    name: adapter === "swiftshader" ? "webgpu_product" : "webgpu_product-system",
    title,
    task: task("ours"),
    rule: "relu",
    unit: "tokens/s",
    comparisons: [
      { peer: "onnxruntime WebGPU", quantity: "rate", target: 1, program: { task: task("ort") } },
      { peer: "@jax-js/jax", quantity: "rate", target: 1, program: { task: task("jax") } },
    ],
  };
}

/** All rows, in the order in which they are measured. */
export const benchRows: readonly BenchRow[] = [
  {
    name: "product",
    title: "bare product x · wEnc",
    task: "product",
    rule: "relu",
    unit: "tokens/s",
    comparisons: [{ peer: "PyTorch", quantity: "rate", target: 1, program: torch("product") }],
  },
  {
    name: "encode_relu",
    title: "encode, ReLU",
    task: "encode",
    rule: "relu",
    unit: "tokens/s",
    comparisons: [{ peer: "PyTorch, dense", quantity: "rate", target: 0.95, program: torch("encode") }],
  },
  {
    name: "encode_topk",
    title: "encode, TopK",
    task: "encode",
    rule: "topk",
    unit: "tokens/s",
    comparisons: [{ peer: "PyTorch, dense", quantity: "rate", target: 0.95, program: torch("encode") }],
  },
  {
    name: "reconstruct_topk",
    title: "encode and decode, TopK",
    task: "reconstruct",
    rule: "topk",
    unit: "tokens/s",
    comparisons: [{ peer: "PyTorch, dense", quantity: "rate", target: 2, program: torch("reconstruct") }],
  },
  summaryRow("relu", "ReLU"),
  summaryRow("topk", "TopK"),
  trainRow("topk", "TopK", 4),
  trainRow("relu", "ReLU", 1.5),
  recordingRow("emoji", "recording the embedded images"),
  recordingRow("photos", "recording photographs, ViT-B/16"),
  {
    name: "first_latent",
    title: "checkpoint to first latents",
    task: "first_latent",
    rule: "relu",
    unit: "ms",
    comparisons: [
      { peer: "PyTorch", quantity: "time", target: 1, program: torch("first_latent") },
      { peer: "PyTorch", quantity: "memory", target: 1, program: torch("first_latent") },
    ],
  },
  {
    name: "memory",
    title: "peak memory, 100,000 images",
    task: "memory_100k",
    rule: "topk",
    unit: "images/s",
    comparisons: [{ peer: "1,000 images", quantity: "memory", target: 0.9, program: { task: "memory_1k" } }],
  },
  webgpuRow("swiftshader", "WebGPU product, SwiftShader"),
  webgpuRow("system", "WebGPU product, own adapter"),
];

/** The row of a name. */
export function findRow(name: string): BenchRow {
  const row = benchRows.find((candidate) => candidate.name === name);
  if (row !== undefined) return row;
  throw new RangeError(
    `Cannot find row: it must be one of ${benchRows.map((row) => row.name).join(", ")}, current value is ${name}`,
  );
}
