/**
 * Runs the command line and catches what it prints: inside the tests' process where that is enough, as a process of
 * its own where a signal or a kill must reach it. Makes the small folders that the commands work on.
 *
 * @module
 */
import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { main } from "../../cli.ts";
import { createSae, type Sae } from "../../lib/sae/sae.ts";
import { saveSae } from "../../lib/sae/save.ts";

/** What a run of the command line left. */
export interface CliRun {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const root = fileURLToPath(new URL("../../", import.meta.url));

/** The embedded model: small, and a real one. */
export const modelPath: string = join(root, "data/tiny_clip/vision_model.onnx");

/** Transparent PNG files of emoji, 24 of them. */
export const pngFolder: string = join(root, "tests/fixtures/tiny_clip/rgba");

/** Runs the command line in this process. Output is caught process-wide, so runs must not overlap. */
export async function runCli(...args: string[]): Promise<CliRun> {
  const texts = { stdout: "", stderr: "" };
  const { log, error, warn } = console;
  const writes = { stdout: process.stdout.write, stderr: process.stderr.write };
  const line = (parts: unknown[]) => parts.map(String).join(" ") + "\n";
  console.log = (...parts) => void (texts.stdout += line(parts));
  console.error = console.warn = (...parts) => void (texts.stderr += line(parts));
  for (const name of ["stdout", "stderr"] as const) {
    process[name].write = ((text: string) => {
      texts[name] += text;
      return true;
    }) as typeof process.stdout.write;
  }
  try {
    return { status: await main(args), ...texts };
  } finally {
    Object.assign(console, { log, error, warn });
    process.stdout.write = writes.stdout;
    process.stderr.write = writes.stderr;
  }
}

/** Asserts that a command fails with status 1 and one line, the same with and without --json. */
export async function assertFails(args: readonly string[], message: RegExp): Promise<void> {
  const { status, stdout, stderr } = await runCli(...args, "--json");
  assert.equal(status, 1, `${args.join(" ")} printed ${stdout}${stderr}`);
  assert.match(stderr, /^error: [^\n]+\n$/);
  assert.match(stderr.slice("error: ".length, -1), message);
  assert.deepEqual(JSON.parse(stdout), { error: stderr.slice("error: ".length, -1) });
}

/** The command line as a process of its own. */
export interface CliProcess {
  /** Waits until it has printed a text. */
  printed(text: string): Promise<void>;
  kill(signal: Deno.Signal): void;
  /** Its end. */
  readonly ended: Promise<CliRun>;
}

/** Starts the command line as a process of its own. */
export function startCli(...args: string[]): CliProcess {
  // Not node:child_process: there Deno reports no status for a process that was sent a signal, even if it lived on.
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", join(root, "cli.ts"), ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const texts = { stdout: "", stderr: "" };
  let hasEnded = false;
  let wake = () => {};
  const collect = async (name: "stdout" | "stderr") => {
    for await (const text of child[name].pipeThrough(new TextDecoderStream())) {
      texts[name] += text;
      wake();
    }
  };
  const ended = Promise.all([child.status, collect("stdout"), collect("stderr")]).then(([{ code }]) => {
    hasEnded = true;
    wake();
    return { status: code, ...texts };
  });
  return {
    ended,
    kill: (signal) => child.kill(signal),
    async printed(text) {
      while (!(texts.stdout + texts.stderr).includes(text)) {
        if (hasEnded) throw new Error(`It ended without printing "${text}": ${texts.stderr}`);
        await new Promise<void>((resolve) => wake = resolve);
      }
    },
  };
}

/** Calls `use` with a new folder and removes it afterwards. */
export async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-cli-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Copies the PNG files into two class folders, `copies` times. */
export async function makeImages(folder: string, options: { count?: number; copies?: number } = {}): Promise<string> {
  const { count = 12, copies = 1 } = options;
  const names = (await readdir(pngFolder)).sort().slice(0, count);
  for (const label of ["cats", "dogs"]) await mkdir(join(folder, label), { recursive: true });
  for (let copy = 0; copy < copies; copy++) {
    await Promise.all(
      names.map((name, i) =>
        copyFile(join(pngFolder, name), join(folder, i % 2 === 0 ? "cats" : "dogs", `${copy}_${name}`))
      ),
    );
  }
  return folder;
}

/** Saves an SAE of random directions, the same ones each time. */
export async function makeSae(
  folder: string,
  options: { dModel?: number; dSae?: number; seed?: number } = {},
): Promise<Sae> {
  const { dModel = 192, dSae = 40, seed = 1 } = options;
  let state = seed;
  const random = (length: number) =>
    Float32Array.from({ length }, () => {
      state = Math.imul(state, 1664525) + 1013904223 >>> 0;
      return state / 2 ** 32 - 0.5;
    });
  const sae = createSae({
    dModel,
    dSae,
    wEnc: random(dModel * dSae),
    bEnc: random(dSae),
    wDec: random(dSae * dModel),
    bDec: random(dModel),
    subtractBDec: true,
    rule: { kind: "topK", k: 4, relu: true },
  });
  await saveSae(sae, folder);
  return sae;
}
