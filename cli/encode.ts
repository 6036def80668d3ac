/**
 * `encode`: latents and reconstructions of activations as files that NumPy opens, and the metrics beside them.
 *
 * @module
 */
import { join } from "node:path";
import { Command, Option } from "commander";
import { writeCsr } from "../lib/tensors/csr_writer.ts";
import { npyBytes, writeNpy } from "../lib/tensors/npy_writer.ts";
import type { SparseLatents } from "../lib/compute/contract.ts";
import { makeFolder, replaceFile } from "../lib/runtime/files.ts";
import type { MeasuredBatch } from "../lib/sae/metrics/sums.ts";
import { metricsToJson } from "../lib/sae/metrics/metrics.ts";
import { addMeasureOptions, type Measured, measureParts, nonFiniteLines, openParts } from "./measure.ts";
import { type CommandContext, count, path, printResult } from "./report.ts";

const example = `
Writes latents.npy [nTokens, dSae] (or latents.npz with --sparse), reconstruction.npy
[nTokens, dModel], and metrics.json.

Examples:
  deno run -A cli.ts encode --sae checkpoints/sae.pt --activations activations.npy --out out/latents
  deno run -A cli.ts encode --sae sae.pt --activations x.npy --rule topk --k 32 --sparse --out out`;

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
  return addMeasureOptions(command).addHelpText("after", example).action(async (options) => {
    await using open = new AsyncDisposableStack();
    const parts = await openParts(options, { ...context, open });
    const { sparse = false, dtype, maxDenseGib, json } = options;
    const { nTokens } = parts.activations;
    const { dModel, dSae } = parts.sae;
    const { signal } = context;
    const latentsName = sparse ? "latents.npz" : "latents.npy";
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
    const { metrics, device } = measured!;
    const result = { ...metricsToJson(metrics), decisions: parts.sae.provenance.decisions ?? [] };
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
