/**
 * onnxruntime, loaded when first needed. It runs ViTs and the matrix products of the CPU back end.
 *
 * @module
 */
import type * as Ort from "onnxruntime-node";

let loaded: Promise<typeof Ort> | undefined;

/** The onnxruntime module. */
export function loadOrt(): Promise<typeof Ort> {
  return loaded ??= import("onnxruntime-node").then((module) => {
    // Some loaders hand a CommonJS module over as its default export only.
    const ort = module as typeof Ort & { default?: typeof Ort };
    const found = ort.InferenceSession ? ort : ort.default!;
    found.env.logLevel = "error";
    return found;
  });
}

/** Options of {@linkcode createSession}. */
export interface SessionOptions {
  /**
   * Threads that share one operation; 0 lets onnxruntime use every core.
   *
   * @default {0}
   */
  threads?: number;
  /**
   * Folder of the files that hold weights.
   *
   * @default none, all weights are inside the model
   */
  weightsFolder?: string;
  /**
   * Constants that were left out of the model, by name.
   *
   * @default none
   */
  weights?: Readonly<Record<string, Float32Array | Int8Array>>;
}

// onnxruntime starts as many as it is told to, and a machine hangs on tens of thousands.
const MAX_THREADS = 1024;

/**
 * Opens a model given by its bytes on the CPU.
 *
 * @throws {RangeError} If the number of threads is out of its range.
 */
export async function createSession(model: Uint8Array, options: SessionOptions = {}): Promise<Ort.InferenceSession> {
  const { threads = 0, weightsFolder, weights = {} } = options;
  if (!(Number.isInteger(threads) && threads >= 0 && threads <= MAX_THREADS)) {
    throw new RangeError(
      `Cannot open model: threads must be an integer between 0 and ${MAX_THREADS}, current value is ${threads}`,
    );
  }
  const { InferenceSession } = await loadOrt();
  return await InferenceSession.create(model, {
    executionProviders: ["cpu"],
    graphOptimizationLevel: "all",
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
    externalData: Object.entries(weights).map(([path, { buffer, byteOffset, byteLength }]) => ({
      path,
      data: new Uint8Array(buffer, byteOffset, byteLength),
    })),
    ...(weightsFolder && { extra: { session: { model_external_initializers_file_folder_path: weightsFolder } } }),
  });
}
