/**
 * Where a GPU adapter comes from on each runtime: `navigator.gpu` in Deno and browsers, the npm package `webgpu` (Dawn)
 * under Node. Having no adapter is an ordinary answer here, not an error, so that callers can fall back to the CPU.
 *
 * @module
 */

/** Options of {@linkcode findGpuAdapter}. */
export interface FindGpuAdapterOptions {
  /**
   * Which adapter to prefer where there are several.
   *
   * @default {"high-performance"}
   */
  powerPreference?: "high-performance" | "low-power";
}

/** The one call that `navigator.gpu` and the npm package share. */
interface GpuEntry {
  requestAdapter(options?: { powerPreference?: "high-performance" | "low-power" }): Promise<GPUAdapter | null>;
}

/** Dawn's entry object under Node; kept here because its adapters and devices die when it is collected. */
let nodeEntry: GpuEntry | undefined;

/**
 * Finds an adapter, or `undefined` where this runtime or machine has none. Never throws. Software adapters are returned
 * like any other: ask {@linkcode isSoftwareAdapter}.
 */
export async function findGpuAdapter(options: FindGpuAdapterOptions = {}): Promise<GPUAdapter | undefined> {
  const { powerPreference = "high-performance" } = options;
  try {
    const entry = await findGpuEntry();
    if (!entry) return undefined;
    const restore = await quietMissingRuntimeDir();
    try {
      return await entry.requestAdapter({ powerPreference }) ?? undefined;
    } finally {
      restore();
    }
  } catch {
    return undefined;
  }
}

/**
 * Whether an adapter computes on the CPU (lavapipe, SwiftShader, WARP). Those are 20 to 50 times slower than a good CPU
 * library on the same cores, so they serve tests and not users.
 */
export function isSoftwareAdapter(adapter: GPUAdapter): boolean {
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
  if (isFallbackAdapter) return true;
  const names = [vendor, architecture, device, description].join(" ");
  return /llvmpipe|lavapipe|softpipe|swiftshader|basic render|\bwarp\b/i.test(names);
}

/** Name of an adapter, for people: `"NVIDIA GeForce RTX 4070"`, `"llvmpipe (LLVM 15.0.6, 256 bits)"`. */
export function describeAdapter(adapter: GPUAdapter): string {
  const { vendor, architecture, device, description } = adapter.info;
  // Browsers give only vendor and architecture; Deno and Dawn put the driver's own name elsewhere each, and Deno fills
  // `vendor` and `device` with bare numbers.
  const named = [description, device].find((text) => text && /[a-z]{2}/i.test(text) && !/^0x/.test(text));
  return named ?? ([vendor, architecture].filter(Boolean).join(" ") || "unnamed GPU");
}

async function findGpuEntry(): Promise<GpuEntry | undefined> {
  const { navigator, process } = globalThis as {
    navigator?: { gpu?: GpuEntry };
    process?: { versions?: { node?: string } };
  };
  if (navigator?.gpu) return navigator.gpu;
  if (!process?.versions?.node) return undefined;
  if (!nodeEntry) {
    // Not a literal, so that bundlers and Deno do not pull in 130 MB they never use.
    const name = ["web", "gpu"].join("");
    const dawn = await import(name) as { create(flags: string[]): GpuEntry };
    nodeEntry = dawn.create([]);
  }
  return nodeEntry;
}

/**
 * Vulkan's window-system layer complains on stderr where `XDG_RUNTIME_DIR` is missing, as it is in containers and batch
 * jobs. Nothing here opens a window, so any folder will do for the moment of asking. Returns what undoes it.
 */
async function quietMissingRuntimeDir(): Promise<() => void> {
  const { Deno: deno, process } = globalThis as {
    Deno?: { permissions: { query(request: { name: "env" }): Promise<{ state: string }> } };
    process?: { platform?: string; env?: Record<string, string | undefined> };
  };
  const nothing = () => {};
  if (process?.platform !== "linux" || !process.env) return nothing;
  // Never make Deno prompt for a permission just to hide a line of text.
  if (deno && (await deno.permissions.query({ name: "env" })).state !== "granted") return nothing;
  const { env } = process;
  if (env.XDG_RUNTIME_DIR) return nothing;
  env.XDG_RUNTIME_DIR = "/tmp";
  return () => {
    delete env.XDG_RUNTIME_DIR;
  };
}
