/**
 * From WGSL text to a pipeline, with the compiler's complaints in the error. Nothing else tells which line is wrong.
 *
 * @module
 */
import type { Kernel } from "./kernel.ts";
import type { GpuWatch } from "./watch.ts";

/**
 * Compiles a kernel.
 *
 * @throws {SyntaxError} If it is not WGSL, with line, column and source.
 */
export async function compileKernel(
  device: GPUDevice,
  options: { kernel: Kernel; watch: GpuWatch },
): Promise<GPUComputePipeline> {
  const { kernel: { label, code }, watch } = options;
  const action = `compile kernel "${label}"`;
  watch.assertUsable(action);
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label, code });
  const scope = device.popErrorScope();
  const [{ messages }, failure] = await watch.answered(action, Promise.all([module.getCompilationInfo(), scope]));
  const errors = messages.filter(({ type }) => type === "error");
  if (failure || errors.length > 0) {
    const lines = errors.map(({ lineNum, linePos, message }) => `${lineNum}:${linePos} ${message}`);
    throw new SyntaxError(
      `Cannot compile kernel "${label}": WGSL must be valid, current messages are\n` +
        `${lines.join("\n") || failure?.message}\n\n${numberLines(code)}`,
    );
  }
  return await watch.checked(
    action,
    () => device.createComputePipeline({ label, layout: "auto", compute: { module, entryPoint: "main" } }),
  );
}

function numberLines(code: string): string {
  return code.split("\n").map((line, i) => `${String(i + 1).padStart(4)}  ${line}`).join("\n");
}
