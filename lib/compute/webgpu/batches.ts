/**
 * How a batch is cut into chunks that fit the device, and how its rows are laid out there.
 *
 * @module
 */
import { padToVec4 } from "./kernel.ts";

/** Most tokens of a chunk: a workgroup each, and WebGPU promises 65535 workgroups. */
const MAX_CHUNK_TOKENS = 16384;

/** What the device may be asked for at once. */
export interface WebGpuLimits {
  /** Largest buffer a kernel may see, in bytes. */
  maxBindingBytes: number;
  /** Size of the buffer for dense pre-activations, in bytes. */
  scratchBytes: number;
}

/** Chunks that can are whole tiles of the encoder kernel, whose last one costs as much whether it is full or not. */
const TILE_TOKENS = 64;

/** Number of tokens whose activations and dense pre-activations fit the limits; at least one. */
export function chunkTokens(shape: { dModel: number; dSae: number }, limits: WebGpuLimits): number {
  const widestRow = 4 * Math.max(padToVec4(shape.dSae), padToVec4(shape.dModel));
  const fitting = Math.floor(Math.min(limits.scratchBytes, limits.maxBindingBytes) / widestRow);
  const whole = fitting < TILE_TOKENS ? fitting : fitting - fitting % TILE_TOKENS;
  return Math.min(Math.max(1, whole), MAX_CHUNK_TOKENS);
}

/** Cuts `length` into runs of at most `size`, and of at most `maxEntries` sparse entries where offsets are given. */
export function* chunks(
  length: number,
  size: number,
  sparse?: { offsets: Uint32Array; maxEntries: number },
): Generator<{ begin: number; end: number }> {
  for (let begin = 0; begin < length;) {
    let end = Math.min(begin + size, length);
    if (sparse) {
      while (end > begin + 1 && sparse.offsets[end] - sparse.offsets[begin] > sparse.maxEntries) end--;
    }
    yield { begin, end };
    begin = end;
  }
}

/** Rows of `x` padded with zeros to whole vec4; `x` itself where they are. */
export function padRows(x: Float32Array, width: number): Float32Array {
  const pitch = padToVec4(width);
  if (pitch === width) return x;
  const nRows = x.length / width;
  const padded = new Float32Array(nRows * pitch);
  for (let row = 0; row < nRows; row++) padded.set(x.subarray(row * width, (row + 1) * width), row * pitch);
  return padded;
}
