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
}

/** Opens a model given by its bytes on the CPU. */
export async function createSession(model: Uint8Array, options: SessionOptions = {}): Promise<Ort.InferenceSession> {
  const { threads = 0 } = options;
  const { InferenceSession } = await loadOrt();
  return await InferenceSession.create(model, {
    executionProviders: ["cpu"],
    graphOptimizationLevel: "all",
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
  });
}
