/**
 * PyTorch itself as a judge of the files that are written for it: `torch.load`, where Python has it.
 *
 * @module
 */
import { execFile, execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** A tensor as PyTorch sees it. */
export interface SeenTensor {
  readonly shape: number[];
  readonly stride: number[];
  readonly dtype: string;
  /** Row-major. */
  readonly numbers: number[];
}

/** What PyTorch finds in a file. */
export interface SeenFile {
  readonly header: string | null;
  /** Names of the archive's entries. */
  readonly names: string[];
  /** The first entry whose checksum is wrong. */
  readonly damaged: string | null;
  // deno-lint-ignore no-explicit-any -- Any nesting of dicts.
  readonly root: { class: string; items: Record<string, any> };
}

const script = fileURLToPath(new URL("describe_torch_file.py", import.meta.url));

/** A Python that has PyTorch, `undefined` if none is found. */
export const python: string | undefined = ["/usr/bin/python3", "python3"].find((candidate) => {
  try {
    execFileSync(candidate, ["-c", "import torch"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
});

if (python === undefined) {
  console.error("TESTS WITH PYTORCH ARE SKIPPED: install Python's torch (Debian: python3-torch)");
}

/** Opens a file with `torch.load(weights_only=True)`. */
export async function loadWithTorch(path: string): Promise<SeenFile> {
  const { stdout } = await promisify(execFile)(python!, [script, path], { maxBuffer: 2 ** 26 });
  return JSON.parse(stdout);
}
