/**
 * `encode`: latents and reconstructions of activations as files that NumPy opens, and the metrics beside them.
 *
 * @module
 */
import { rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Command, Option } from "commander";
import { writeCsr } from "../lib/tensors/csr_writer.ts";
import { npyBytes, writeNpy } from "../lib/tensors/npy_writer.ts";
import type { SparseLatents } from "../lib/compute/contract.ts";
import { makeFolder, replaceFile } from "../lib/runtime/files.ts";
import type { MeasuredBatch } from "../lib/sae/metrics/sums.ts";
import { metricsToJson } from "../lib/sae/metrics/metrics.ts";
import { addSaeOptions, loadNamedSae } from "./conventions.ts";
import {
  activationsSource,
  addMeasureOptions,
  type Measured,
  measureParts,
  nonFiniteLines,
  openActivationsFor,
} from "./measure.ts";
import { type CommandContext, count, path, printResult } from "./report.ts";

const example = `
Writes latents.npy [nTokens, dSae] (or latents.npz with --sparse), reconstruction.npy
[nTokens, dModel], and metrics.json. An earlier run's files in the folder are replaced.

Examples:
  deno run -A cli.ts encode --sae checkpoints/sae.pt --activations activations.npy --out out/latents
  deno run -A cli.ts encode --sae sae.pt --activations x.npy --rule topk --k 32 --sparse --out out`;

const denseName = "latents.npy";
const sparseName = "latents.npz";
const reconstructionName = "reconstruction.npy";
const metricsName = "metrics.json";

// Dense rows are made this many bytes at a time.
const CHUNK_BYTES = 2 ** 24;

const gib = 2 ** 30;

/** Makes the command. */
export function encodeCommand(context: CommandContext): Command {
  const command = new Command("encode")
    .description("Write the latents and the reconstruction of activations, and the metrics.")
    .requiredOption("--out <dir>", "folder for the files", path)
    .option("--sparse", "write latents.npz, a sparse matrix for scipy.sparse.load_npz, not latents.npy")
    .option("--max-dense-gib <n>", "largest latents.npy to write, in GiB", count, 4)
    .addOption(
      new Option("--dtype <type>", "numbers of the npy files").choices(["float32", "float16"]).default("float32"),
    );
  addSaeOptions(command).requiredOption("--activations <path>", activationsSource, path);
  return addMeasureOptions(command).addHelpText("after", example).action(async (options) => {
    const { sparse = false, dtype, maxDenseGib, json, activations: source } = options;
    refuseOwnInput(source, options.out);
    await using open = new AsyncDisposableStack();
    const sae = await loadNamedSae(options, context);
    const activations = open.adopt(await openActivationsFor(sae, source, options), (opened) => opened.close());
    const parts = { sae, activations };
    const { nTokens } = activations;
    const { dModel, dSae } = sae;
    const { signal } = context;
    const [latentsName, otherName] = sparse ? [sparseName, denseName] : [denseName, sparseName];
    const latentsPath = join(options.out, latentsName);
    const nBytes = npyBytes([nTokens, dSae], dtype);
    if (!sparse && nBytes > maxDenseGib * gib) {
      throw new RangeError(
        `Cannot write ${latentsPath}: its size must be at most ${maxDenseGib} GiB, it would be ` +
          `${(nBytes / gib).toFixed(1)} GiB; add --sparse, or --max-dense-gib`,
      );
    }
    await makeFolder(options.out);
    let measured: Measured | undefined;
    const run = async (appendLatents: (latents: SparseLatents) => Promise<void>) =>
      await writeNpy(join(options.out, reconstructionName), async (appendRows) => {
        const onBatch = async ({ latents, reconstruction }: MeasuredBatch) => {
          await appendLatents(latents);
          await appendRows(reconstruction);
        };
        measured = await measureParts(parts, options, { ...context, label: "Encode", onBatch });
      }, { rowShape: [dModel], dtype, signal });
    if (sparse) await writeCsr(latentsPath, run, { dSae, signal });
    else {
      await writeNpy(latentsPath, (append) => run((latents) => appendDense(latents, append)), {
        rowShape: [dSae],
        dtype,
        signal,
      });
    }
    // Latents of an earlier run in the other form would not be those of the reconstruction beside them.
    await rm(join(options.out, otherName), { force: true });
    const { metrics, device } = measured!;
    const result = { ...metricsToJson(metrics), decisions: sae.provenance.decisions ?? [] };
    await replaceFile(join(options.out, metricsName), JSON.stringify(result, undefined, 2) + "\n");
    printResult({ out: options.out, latents: latentsPath, ...result }, {
      json,
      lines: [
        `Encoded ${nTokens} tokens on ${device}`,
        ...nonFiniteLines(metrics),
        `${metrics.l0.toFixed(1)} latents a token, explained variance ${metrics.explainedVariance.toFixed(4)}; saved ` +
        `${latentsName}, ${reconstructionName} and ${metricsName} to ${options.out}`,
      ],
    });
  });
}

/**
 * Throws if the activations would be replaced.
 *
 * @throws {RangeError} If they would.
 */
function refuseOwnInput(source: string, out: string): void {
  if (![denseName, sparseName, reconstructionName].some((name) => resolve(out, name) === resolve(source))) return;
  throw new RangeError(
    `Cannot encode ${source}: activations must not be where latents or reconstructions go; choose another --out`,
  );
}

/** Appends latents as dense rows, a bounded number of them at a time. */
async function appendDense(
  { nTokens, dSae, offsets, indices, values }: SparseLatents,
  append: (rows: Float32Array) => Promise<void>,
): Promise<void> {
  const rowsPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / (4 * dSae)));
  for (let first = 0; first < nTokens; first += rowsPerChunk) {
    const end = Math.min(first + rowsPerChunk, nTokens);
    const rows = new Float32Array((end - first) * dSae);
    for (let token = first; token < end; token++) {
      for (let entry = offsets[token]; entry < offsets[token + 1]; entry++) {
        rows[(token - first) * dSae + indices[entry]] = values[entry];
      }
    }
    await append(rows);
  }
}
