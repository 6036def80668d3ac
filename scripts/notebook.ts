/**
 * `deno task notebook`: opens the walkthroughs in Jupyter with the Deno and tslab kernels of this checkout, or runs
 * notebooks from the command line with `--execute`.
 *
 * @module
 */
import { Command, Option } from "commander";
import * as fs from "node:fs/promises";
import { homedir } from "node:os";
import * as path from "node:path";
import { stripVTControlCharacters } from "node:util";
import { buildPackage, link, repositoryRoot } from "./build.ts";
import { jupyterPath, type KernelName, writeKernelSpecs } from "./kernelspecs.ts";
import { formatNotebook, normalizeNotebook, type Notebook } from "./notebook_file.ts";

/** How notebooks are run. */
export interface ExecuteOptions {
  /** Kernels to run each notebook under. @default {["deno"]} */
  readonly kernels?: readonly KernelName[];
  /** Writes the run under the first kernel over the notebook itself. @default {false} */
  readonly inPlace?: boolean;
  /** Where executed notebooks go as `name.kernel.ipynb`. @default {"out/notebooks" in the checkout} */
  readonly outputDirectory?: string;
  /** Longest time for one cell, in seconds. @default {600} */
  readonly timeoutSeconds?: number;
  /** Receives a line about each notebook. @default {console.log} */
  readonly log?: (line: string) => void;
}

/** Builds the library for tslab and writes the kernels; returns the names of those that can run here. */
export async function setUpKernels(root: string, log: (line: string) => void = console.log): Promise<KernelName[]> {
  // A Deno run installs only what the script itself imports; tslab is a program nobody imports.
  const { success, stderr } = await new Deno.Command(Deno.execPath(), { args: ["install", "--quiet"], cwd: root })
    .output();
  if (!success) {
    throw new Error(`Cannot set up the kernels: "deno install" must succeed\n${new TextDecoder().decode(stderr)}`);
  }
  await buildPackage(root, { log });
  // tslab looks for Node's types, which tell its cells of `console`, from the notebook's folder upwards.
  const tslab = await fs.realpath(path.join(root, "node_modules/tslab"));
  const nodeTypes = await fs.realpath(path.join(path.dirname(tslab), "@types/node"));
  await link(nodeTypes, path.join(root, "notebooks/node_modules/@types/node"));
  return await writeKernelSpecs(root, log);
}

/**
 * Runs a notebook headless under each kernel and writes it with its outputs, normalized; returns the files written, in
 * the order of the kernels. The notebook must lie in the checkout, where the kernels find the library.
 *
 * @throws {Error} if a cell fails; the message holds what Jupyter reported
 */
export async function executeNotebook(root: string, file: string, options: ExecuteOptions = {}): Promise<string[]> {
  const { kernels = ["deno"], inPlace = false, timeoutSeconds = 600, log = console.log } = options;
  const outputDirectory = options.outputDirectory ?? path.join(root, "out", "notebooks");
  await fs.mkdir(outputDirectory, { recursive: true });
  const written: string[] = [];
  for (const [i, kernel] of kernels.entries()) {
    const startMs = performance.now();
    const name = `${path.basename(file, ".ipynb")}.${kernel}.ipynb`;
    const output = path.join(outputDirectory, name);
    const convert = async (extraArgs: string[]) =>
      await jupyter(root, [
        "nbconvert",
        "--to=notebook",
        "--execute",
        `--ExecutePreprocessor.kernel_name=${kernel}`,
        `--ExecutePreprocessor.timeout=${timeoutSeconds}`,
        `--output-dir=${outputDirectory}`,
        `--output=${name}`,
        ...extraArgs,
        path.resolve(file),
      ], { stdout: "null", stderr: "piped" }).output();
    const { success, stderr } = await convert([]);
    if (!success) {
      const report = failureReport(decode(stderr));
      // tslab tells the reason in the failed cell's output, which Jupyter keeps only if it may go on.
      const reason = kernel === "tslab" && (await convert(["--allow-errors"])).success ? await firstStderr(output) : "";
      await fs.rm(output, { force: true });
      throw new Error(`Cannot execute ${file} under ${kernel}: all cells must succeed\n${report}\n${reason}`.trimEnd());
    }
    const executed: Notebook = JSON.parse(await fs.readFile(output, "utf8"));
    const text = formatNotebook(normalizeNotebook(executed, { kernel, root, home: homedir() }));
    const target = inPlace && i === 0 ? path.resolve(file) : output;
    await fs.writeFile(target, text);
    if (target !== output) await fs.rm(output);
    written.push(target);
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    log(`${file} ran under ${kernel} in ${seconds} s: ${path.relative(root, target)}`);
  }
  return written;
}

/** Whether Jupyter's command with this subcommand is there. */
export async function hasJupyter(subcommand: string): Promise<boolean> {
  const command = new Deno.Command("jupyter", { args: [subcommand, "--version"], stdout: "null", stderr: "null" });
  try {
    return (await command.output()).success;
  } catch {
    return false; // there is no such program
  }
}

/** Opens JupyterLab, or the classic Notebook where that is what there is, and waits until it is closed. */
async function openJupyter(root: string, extraArgs: string[]): Promise<void> {
  const app = await hasJupyter("lab") ? "lab" : await hasJupyter("notebook") ? "notebook" : undefined;
  if (app === undefined) throw new Error(howToGetJupyter(root, "open"));
  // Jupyter refuses to start as root unless told; in a container there is often nobody else.
  const rootArgs = Deno.build.os !== "windows" && Deno.uid() === 0 ? ["--allow-root"] : [];
  const args = [app, ...rootArgs, ...extraArgs, path.join(root, "notebooks")];
  const { code } = await jupyter(root, args, { stdout: "inherit", stderr: "inherit" }).output();
  Deno.exit(code);
}

function jupyter(root: string, args: string[], streams: Pick<Deno.CommandOptions, "stdout" | "stderr">): Deno.Command {
  const before = Deno.env.get("JUPYTER_PATH");
  const delimiter = Deno.build.os === "windows" ? ";" : ":";
  const JUPYTER_PATH = before ? jupyterPath(root) + delimiter + before : jupyterPath(root);
  return new Deno.Command("jupyter", { args, cwd: root, env: { JUPYTER_PATH }, ...streams });
}

function howToGetJupyter(root: string, action: "open" | "execute"): string {
  return `Cannot ${action} notebooks: Jupyter must be installed, the command "jupyter" was not found

Install it with one of
  pipx install --include-deps jupyterlab
  pip install jupyterlab
  sudo apt install jupyter-notebook

Or open the folder notebooks/ in VS Code with its Jupyter extension, started so that it finds the kernels:
  JUPYTER_PATH="${jupyterPath(root)}" code "${root}"`;
}

/** What Jupyter reports about the failed cell, without the stack of its own calls. */
function failureReport(stderr: string): string {
  const start = stderr.indexOf("An error occurred while executing the following cell:");
  return start < 0 ? stderr : stderr.slice(start);
}

/** What the first cell with something on its error stream wrote there: tslab fails later cells for want of its names. */
async function firstStderr(file: string): Promise<string> {
  const notebook: Notebook = JSON.parse(await fs.readFile(file, "utf8"));
  for (const { outputs = [] } of notebook.cells) {
    const text = outputs.filter((output) => output.name === "stderr").map((output) => [output.text].flat().join(""));
    if (text.length > 0) return stripVTControlCharacters(text.join("")).trim();
  }
  return "";
}

function decode(bytes: Uint8Array): string {
  return stripVTControlCharacters(new TextDecoder().decode(bytes)).trim();
}

interface Flags {
  readonly execute?: string[];
  readonly kernel: KernelName | "both";
  readonly inPlace?: boolean;
  readonly setup?: boolean;
}

async function main(extraArgs: string[], flags: Flags): Promise<void> {
  const available = await setUpKernels(repositoryRoot);
  if (flags.setup) {
    console.log(`Kernels: ${available.join(", ")}, found by JUPYTER_PATH=${jupyterPath(repositoryRoot)}`);
  } else if (flags.execute === undefined) {
    await openJupyter(repositoryRoot, extraArgs);
  } else {
    if (!await hasJupyter("nbconvert")) throw new Error(howToGetJupyter(repositoryRoot, "execute"));
    const kernels: KernelName[] = flags.kernel === "both" ? ["deno", "tslab"] : [flags.kernel];
    for (const kernel of kernels) {
      if (!available.includes(kernel)) {
        throw new Error(
          `Cannot execute notebooks: kernel must be one of ${available.join(", ")}, current value is ${kernel}`,
        );
      }
    }
    for (const file of flags.execute) {
      await executeNotebook(repositoryRoot, file, { kernels, inPlace: flags.inPlace });
    }
  }
}

if (import.meta.main) {
  const program = new Command("deno task notebook")
    .description("Open the notebooks in Jupyter, or run them from here.")
    .option("--setup", "only build the library and write the kernels")
    .option("--execute <files...>", "run these notebooks headless instead of opening Jupyter")
    .addOption(
      new Option("--kernel <name>", "kernel for --execute").choices(["deno", "tslab", "both"]).default("deno"),
    )
    .option("--in-place", "with --execute: write the outputs into the notebooks (of the first kernel)")
    .argument("[jupyterArgs...]", "passed on to Jupyter, after --")
    .action(main);
  try {
    await program.parseAsync(Deno.args, { from: "user" });
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    Deno.exit(1);
  }
}
