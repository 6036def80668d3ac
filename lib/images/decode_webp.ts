/**
 * Small WebP files to RGBA, with libwebp in WebAssembly. sharp spends several times as long on them as libwebp alone
 * does: what its pipeline costs a row weighs most where rows are short. Only files of nothing but pixels are taken: those
 * with an orientation, a color profile or an animation are sharp's business.
 * Container: https://developers.google.com/speed/webp/docs/riff_container
 *
 * @module
 */
import type * as Webp from "@cwasm/webp";

// Decoding larger ones takes so long that sharp's own threads are worth more.
const MAX_BYTES = 8192;
const MIN_BYTES = 30;
/** Flag of an extended file that says it has transparency, which is no more than pixels. */
const ALPHA = 0x10;

/** Whether a file is a small WebP of nothing but pixels. */
export function isPlainWebp(bytes: Uint8Array): boolean {
  if (bytes.length < MIN_BYTES || bytes.length > MAX_BYTES) return false;
  const text = (from: number) => String.fromCharCode(...bytes.subarray(from, from + 4));
  if (text(0) !== "RIFF" || text(8) !== "WEBP") return false;
  const chunk = text(12);
  return chunk === "VP8 " || chunk === "VP8L" || (chunk === "VP8X" && (bytes[20] & ~ALPHA) === 0);
}

let loaded: Promise<typeof Webp> | undefined;

/**
 * Decodes such a file.
 *
 * @returns Shape `[height, width, 4]`; `undefined` where libwebp cannot.
 */
export async function decodePlainWebp(
  bytes: Uint8Array,
): Promise<{ width: number; height: number; data: Uint8Array } | undefined> {
  const { decode } = await (loaded ??= loadWebp());
  try {
    const { width, height, data } = decode(bytes);
    return { width, height, data: new Uint8Array(data.buffer, data.byteOffset, data.length) };
  } catch {
    return undefined;
  }
}

async function loadWebp(): Promise<typeof Webp> {
  const module = await import("@cwasm/webp") as typeof Webp & { default?: typeof Webp };
  // Some loaders hand a CommonJS module over as its default export only.
  return module.default ?? module;
}
