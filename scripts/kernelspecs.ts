/**
 * The two Jupyter kernels of this checkout, as kernel specifications under `.jupyter/`: the Deno that runs this script,
 * and tslab from `node_modules`. Jupyter finds them through `JUPYTER_PATH`, ahead of kernels of the same name that the
 * user installed (https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs).
 *
 * @module
 */
import * as fs from "node:fs/promises";
import * as path from "node:path";

/** A kernel of this project. */
export type KernelName = "deno" | "tslab";

/** What Jupyter reads about a kernel. */
export interface KernelSpec {
  readonly argv: readonly string[];
  readonly display_name: string;
  readonly language: string;
}

/** What Jupyter writes into a notebook about its kernel, without what differs between machines and versions. */
export const kernelMetadata: Readonly<Record<KernelName, Readonly<Record<string, unknown>>>> = {
  deno: {
    kernelspec: { display_name: "Deno", language: "typescript", name: "deno" },
    language_info: { file_extension: ".ts", mimetype: "text/x.typescript", name: "typescript" },
  },
  tslab: {
    kernelspec: { display_name: "TypeScript (tslab)", language: "typescript", name: "tslab" },
    language_info: { file_extension: ".ts", mimetype: "text/typescript", name: "typescript" },
  },
};

/** What to put into `JUPYTER_PATH`. */
export function jupyterPath(root: string): string {
  return path.join(root, ".jupyter");
}

/** The specifications of the kernels that can run here; tslab needs Node, found as `nodePath`. */
export function kernelSpecs(
  root: string,
  options: { readonly denoPath: string; readonly nodePath?: string },
): Partial<Record<KernelName, KernelSpec>> {
  const { denoPath, nodePath } = options;
  const deno: KernelSpec = {
    argv: [denoPath, "jupyter", "--kernel", "--conn", "{connection_file}"],
    display_name: "Deno",
    language: "typescript",
  };
  if (nodePath === undefined) return { deno };
  const tslab: KernelSpec = {
    argv: [nodePath, path.join(root, "node_modules/tslab/bin/tslab"), "kernel", "--config-path", "{connection_file}"],
    display_name: "TypeScript (tslab)",
    language: "typescript",
  };
  return { deno, tslab };
}

/**
 * Writes the kernels of this checkout and returns their names. Without a fitting Node it writes just Deno's, and says
 * so.
 */
export async function writeKernelSpecs(root: string, log: (line: string) => void = console.log): Promise<KernelName[]> {
  const nodePath = await findNode(log);
  const specs = kernelSpecs(root, { denoPath: Deno.execPath(), nodePath });
  for (const name of ["deno", "tslab"] as const) {
    const directory = path.join(jupyterPath(root), "kernels", name);
    await fs.rm(directory, { recursive: true, force: true });
    const spec = specs[name];
    if (spec === undefined) continue;
    await fs.mkdir(directory, { recursive: true });
    await fs.writeFile(path.join(directory, "kernel.json"), JSON.stringify(spec, undefined, 2) + "\n");
  }
  return Object.keys(specs) as KernelName[];
}

/** Node's path, if there is one that can load ES modules with `require()`, as tslab's cells do. */
export async function findNode(log: (line: string) => void): Promise<string | undefined> {
  const script = "console.log(process.execPath, process.versions.node)";
  let printed: string;
  try {
    printed = new TextDecoder().decode((await new Deno.Command("node", { args: ["-e", script] }).output()).stdout);
  } catch {
    log("No tslab kernel: Node was not found, only the Deno kernel is set up");
    return undefined;
  }
  const [, nodePath, version] = /^(.*) (\S+)\s*$/.exec(printed) ?? [];
  if (version === undefined || !canRequireModules(version)) {
    log(`No tslab kernel: Node must be 20.19, 22.12 or newer, current version is ${version}`);
    return undefined;
  }
  return nodePath;
}

/** Whether this version of Node has `require()` for ES modules without a flag. */
export function canRequireModules(version: string): boolean {
  const [major, minor] = version.split(".").map(Number);
  return major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19);
}
