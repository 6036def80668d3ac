/**
 * `convert`: an SAE into the format of another toolkit.
 *
 * @module
 */
import { Command, Option } from "commander";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { convertSae, type ConvertTarget, convertTargets, droppableParts } from "../lib/sae/convert.ts";
import { describeRule } from "../lib/sae/sae.ts";
import { configFileName, weightsFileName } from "../lib/sae/save.ts";
import { addConventionOptions, loadNamedSae } from "./conventions.ts";
import { type CommandContext, count, jsonOption, path, printResult } from "./report.ts";

const example = `
What a format has no word for is folded into the weights where you ask for it, or refused.

Example:
  deno run -A cli.ts convert checkpoints/sae.pt out/sae --to own
  deno run -A cli.ts convert out/sae sae.pt --to saev --fold-normalization`;

/** Makes the command. */
export function convertCommand({ signal, steps }: CommandContext): Command {
  const command = new Command("convert")
    .description("Write an SAE as ours (SAELens reads it, too), or as a checkpoint of saev or CLIP-Scope.")
    .argument("<sae>", "folder, safetensors file or checkpoint", path)
    .argument("<out>", "folder to write for own, file for the others", path)
    .addOption(new Option("--to <format>", "format to write").choices(convertTargets).makeOptionMandatory())
    .option("--fold-normalization", "fold an affine normalization into the weights")
    .option(
      "--fold-input-bias",
      "fold a bias that is subtracted from the input into the encoder's; always done for saev",
    )
    .addOption(
      new Option("--drop <parts...>", "change latents where the format has no word for these").choices(droppableParts),
    )
    .option(
      "--batch-k <n>",
      "active latents a token that a BatchTopK of saev names, where training did not tell",
      count,
    )
    .option("--contiguous-decoder", "store the decoder of CLIP-Scope row by row; published ones are not")
    .option("--force", "write over what is there");
  return addConventionOptions(command)
    .addOption(jsonOption())
    .addHelpText("after", example)
    .action(async (source, out, options) => {
      const { to, batchK, force = false, json, foldNormalization, foldInputBias, drop, contiguousDecoder } = options;
      if (!force) await refuseToOverwrite(out, to);
      const loaded = await loadNamedSae({ ...options, sae: source }, { signal, steps });
      const changing = { foldNormalization, foldInputBias, drop, contiguousDecoder, k: batchK };
      const { sae, changes } = await convertSae(loaded, out, { to, signal, ...changing });
      const { dModel, dSae, rule, provenance } = sae;
      printResult({ out, to, d_model: dModel, d_sae: dSae, changes, decisions: provenance.decisions ?? [] }, {
        json,
        lines: [
          `Wrote ${out}: ${dSae} latents for activations of width ${dModel}, ${describeRule(rule)}`,
          ...changes.map((change) => `- ${change}`),
        ],
      });
    });
}

/**
 * Throws if there is an SAE, or a file, where one is to be written.
 *
 * @throws {Error} If there is.
 */
async function refuseToOverwrite(out: string, to: ConvertTarget): Promise<void> {
  const places = to === "own" ? [join(out, configFileName), join(out, weightsFileName)] : [out];
  for (const place of places) {
    if (await stat(place).catch(() => undefined) !== undefined) {
      throw new Error(`Cannot write ${out}: ${place} must not be there yet; add --force to write over it`);
    }
  }
}
