/**
 * `deno task build`: makes `dist/`, the library as an npm package (ES modules, declarations, package.json), and links it
 * as `notebooks/node_modules/sparsight`. Node and tslab import that; Deno imports the sources. `deno pack` does the
 * work. Dependencies are found from dist's real path in the repository's own `node_modules`.
 *
 * @module
 */
import * as fs from "node:fs/promises";
import * as path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { extract } from "tar";

/** What a build may be told. */
export interface BuildOptions {
  /** Builds although `dist/` is newer than every source. @default {false} */
  readonly force?: boolean;
  /** Receives a line about what was done. @default {console.log} */
  readonly log?: (line: string) => void;
}

/** The checkout that this script belongs to. */
export const repositoryRoot: string = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** Name under which notebooks import the package. */
const packageName = "sparsight";

/**
 * Builds `root/dist` unless it is newer than its sources, and links it for notebooks. The old `dist/` stays until the
 * new one is complete.
 *
 * @throws {Error} if the sources do not type-check or cannot be packed
 */
export async function buildPackage(root: string, options: BuildOptions = {}): Promise<void> {
  const { force = false, log = console.log } = options;
  const dist = path.join(root, "dist");
  const sourceMs = await newestMs(await packageSources(root));
  if (!force && sourceMs < await modifiedMs(path.join(dist, "package.json"))) {
    log("dist/ is up to date");
  } else {
    await fs.mkdir(path.join(root, "out"), { recursive: true });
    const work = await fs.mkdtemp(path.join(root, "out", "build-"));
    const start = new Date();
    try {
      await pack(root, work);
      // An edit made during the build must count as newer than its result.
      await fs.utimes(path.join(work, "package", "package.json"), start, start);
      await replaceDirectory(dist, path.join(work, "package"));
    } finally {
      await fs.rm(work, { recursive: true, force: true });
    }
    log("Built dist/");
  }
  await link(dist, path.join(root, "notebooks", "node_modules", packageName));
}

/**
 * `Float32Array<ArrayBuffer>` to `Float32Array` in a declaration file: the parameter came with TypeScript 5.7, and to
 * the 5.0 inside tslab such a type is an error, or silently `any`.
 */
export function withoutTypedArrayParameters(declaration: string): string {
  const typedArray = /\b((?:Big)?(?:Int|Uint|Float)(?:8|16|32|64)(?:Clamped)?Array|DataView)<ArrayBuffer(?:Like)?>/g;
  return declaration.replace(typedArray, "$1");
}

/** Packs the library and unpacks it as `work/package`, ready to be imported. */
async function pack(root: string, work: string): Promise<void> {
  const tarball = path.join(work, "package.tgz");
  // Only the library goes in: everything else at the top is left out by name.
  const topNames = (await fs.readdir(root)).filter((name) => !["lib", "mod.ts", "deno.json"].includes(name));
  const ignored = topNames.map((name) => `--ignore=${name}`);
  // pack says no more than "type checking failed": check says why, and costs nothing the second time.
  await deno(root, ["check", "mod.ts"]);
  await deno(root, ["pack", "--quiet", "--allow-dirty", "--no-source-maps", `--output=${tarball}`, ...ignored]);
  await extract({ file: tarball, cwd: work });

  const packed = path.join(work, "package");
  // pack leaves them out without a word where they cannot be made from the sources alone.
  if (!await exists(path.join(packed, "mod.d.ts"))) {
    throw new Error(
      'Cannot build the package: every exported symbol must have an explicit type, "deno publish --dry-run" names those ' +
        "that have none",
    );
  }
  const manifestPath = path.join(packed, "package.json");
  const manifest = JSON.parse(await fs.readFile(manifestPath, "utf8"));
  await fs.writeFile(manifestPath, JSON.stringify({ ...manifest, name: packageName }, undefined, 2) + "\n");
  for (const file of await listFiles(packed)) {
    if (file.endsWith(".d.ts")) {
      await fs.writeFile(file, withoutTypedArrayParameters(await fs.readFile(file, "utf8")));
    } else if (file.endsWith(".ts")) {
      console.error(`Not in the package, because nothing exported reaches it: ${path.relative(packed, file)}`);
      await fs.rm(file);
    }
  }
  // The embedded model and images stand beside lib/ in the package as they do in the sources.
  const data = path.join(root, "data");
  if (await exists(data)) await fs.symlink(data, path.join(packed, "data"), "junction");
}

/** The files and folders that a build depends on; folders, because a deleted file shows only there. */
async function packageSources(root: string): Promise<string[]> {
  const lib = path.join(root, "lib");
  const entries = await fs.readdir(lib, { recursive: true, withFileTypes: true });
  return [
    ...["mod.ts", "deno.json", "scripts/build.ts", "lib"].map((name) => path.join(root, name)),
    ...entries.map((entry) => path.join(entry.parentPath, entry.name)),
  ];
}

async function newestMs(files: string[]): Promise<number> {
  return Math.max(...await Promise.all(files.map(modifiedMs)));
}

/** Time of the last change in milliseconds; -Infinity if there is no such file. */
async function modifiedMs(file: string): Promise<number> {
  return await fs.stat(file).then((info) => info.mtimeMs, () => -Infinity);
}

async function exists(file: string): Promise<boolean> {
  return await modifiedMs(file) > -Infinity;
}

async function listFiles(directory: string): Promise<string[]> {
  const entries = await fs.readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
}

async function replaceDirectory(directory: string, replacement: string): Promise<void> {
  const old = path.join(path.dirname(replacement), "old");
  await fs.rename(directory, old).catch(ignoreMissing); // goes with the work folder
  await fs.rename(replacement, directory);
}

/** A link in a folder of its own, because Deno manages the repository's `node_modules`. */
export async function link(target: string, at: string): Promise<void> {
  await fs.mkdir(path.dirname(at), { recursive: true });
  const relative = path.relative(path.dirname(at), target);
  if (await fs.readlink(at).catch(() => undefined) === relative) return;
  await fs.rm(at, { recursive: true, force: true });
  // Windows allows links only to administrators, junctions to everyone; those must be absolute.
  const isWindows = process.platform === "win32";
  await fs.symlink(isWindows ? target : relative, at, isWindows ? "junction" : "dir");
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}

async function deno(root: string, args: string[]): Promise<void> {
  await run(root, Deno.execPath(), args);
}

/** Runs a command and shows what it printed only if it failed. */
async function run(cwd: string, command: string, args: string[]): Promise<void> {
  const { success, code, stdout, stderr } = await outputOf(new Deno.Command(command, { args, cwd }), command);
  if (success) return;
  const decoder = new TextDecoder();
  const printed = decoder.decode(stdout) + decoder.decode(stderr);
  const name = [path.basename(command), args[0]].join(" ");
  throw new Error(`Cannot build the package: "${name}" must succeed, exit code is ${code}\n${printed.trim()}`);
}

async function outputOf(spawned: Deno.Command, name: string): Promise<Deno.CommandOutput> {
  try {
    return await spawned.output();
  } catch (cause) {
    throw new Error(`Cannot build the package: the command "${name}" must be on the PATH`, { cause });
  }
}

if (import.meta.main) await buildPackage(repositoryRoot, { force: Deno.args.includes("--force") });
